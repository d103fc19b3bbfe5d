"""Memory of a worker over a long run. `python tests/bench/memory.py [CALLS]`; 200,000 calls as a rule.

One worker, no snapshot, every call logged whole. 64 connections; a tenth of the calls are streams, one in a hundred is
100 KB, so that buffers of all sizes come and go. The LLM is simulated. Resident memory is read from /proc ten times.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import orjson

from proxy.replay.upstream import ReplayUpstream
from proxy.transport.http1 import Answer, Pool
from tests.conftest import Proxy, running

CONNECTIONS = 64
READINGS = 10


def bodies() -> Iterator[bytes]:
    """Requests without end, none like the other."""
    for number in count():
        content = f"call {number} " + "some words of a message " * (4000 if number % 100 == 0 else 80)
        request = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], "stream": number % 10 == 0}
        yield orjson.dumps(request)


async def load(port: int, calls: int) -> None:
    """Send so many calls."""
    left = iter(range(calls))
    requests = bodies()
    loop = asyncio.get_running_loop()

    async def client() -> None:
        pool = Pool("127.0.0.1", port, None, 10)
        for _, body in zip(left, requests, strict=False):
            connection = await pool.take()
            due = loop.time() + 60
            answer = Answer(connection, bodiless=False, first_due=due, idle_seconds=60, deadline=due)
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            connection.send(answer, head + b"content-length: %d\r\n\r\n" % len(body), body)
            await answer.begin()
            await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the proxy answered {answer.status}")
        pool.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def resident_mb(proxy: Proxy) -> float:
    """Resident memory of the one worker, in MB."""
    [worker] = proxy.children("worker")
    return float(worker.memory_info().rss) / 1e6


def main(calls: int) -> None:
    """Print the table."""
    upstream = ReplayUpstream(answerer=lambda request: "a short answer, " * 20)
    upstream.start()
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory), upstream_url=upstream.base_url) as proxy,
    ):
        port = int(proxy.root.rpartition(":")[2])
        print("| calls | worker's resident memory, MB | calls/s |\n| ---: | ---: | ---: |")
        print(f"| 0 | {resident_mb(proxy):.1f} | |", flush=True)
        for reading in range(1, READINGS + 1):
            began = time.perf_counter()
            asyncio.run(load(port, calls // READINGS))
            rate = calls // READINGS / (time.perf_counter() - began)
            print(f"| {reading * (calls // READINGS):,} | {resident_mb(proxy):.1f} | {rate:,.0f} |", flush=True)
    upstream.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
