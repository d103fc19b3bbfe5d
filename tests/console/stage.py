"""A proxy with weeks of work behind it: recorded calls replayed, tasks learned, some certified and served by an SLM.

The LLM and the SLM are simulated: both give the recorded answers, the SLM with token probabilities, now and then too
unsure of itself to be served. Calls and decisions are then spread over the last three weeks, so that days can be shown.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import orjson
from sqlalchemy import select, update

from proxy.promotion.proof import subject_today
from proxy.replay.client import replay
from proxy.replay.recordings import Recording, read_recordings
from proxy.replay.upstream import CHARS_PER_TOKEN, ReplayUpstream
from storage.cipher import Cipher
from storage.database import Database
from storage.models import AuditRow, Call, PromotionRow, StageMoveRow
from storage.repositories.certificates import add_certificate
from tests.conftest import Proxy, running, understudy, wait_for
from tests.proxy.certificates import certificate_of
from tests.proxy.fake_vllm import BASE, FakeVllm

DAYS = 21
SLM_DAYS = 9
#: (place among the tasks by cost, stage, (conversations served, failures) of each certificate, oldest first)
CAST = [
    (0, "live", [(48, 1), (131, 2), (260, 3), (402, 5)]),
    (1, "live", [(193, 3), (388, 6)]),
    (2, "live", [(346, 5)]),
    (3, "shadow", [(41, 1)]),
    (4, "live", [(64, 0), (410, 3)]),
    (5, "canary", [(324, 6)]),
    (6, "shadow", []),
    (7, "live", [(350, 4)]),
    (8, "live", [(433, 9)]),
    (9, "canary", [(397, 8)]),
    (10, "live", [(310, 3)]),
    (11, "live", [(372, 4)]),
    (13, "live", [(333, 2)]),
    (14, "live", [(305, 4)]),
]


class Understudies(FakeVllm):
    """An SLM server whose adapters all know the recorded answers by heart."""

    def __init__(self, recordings: list[Recording]) -> None:
        self._known = {_key(each.request): each.response for each in recordings if each.endpoint == "chat"}
        super().__init__()

    def _completion(self, model: str, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._known.get(_key(asked))
        if found is not None:
            self.message = {name: value for name, value in found["choices"][0]["message"].items() if name != "role"}
        spread = int.from_bytes(_key(asked)[:2]) / 2**16
        self.probability = 0.62 if spread < 0.04 else 0.9 + spread / 10.2
        chars = len(orjson.dumps(asked.get("messages"))), len(orjson.dumps(self.message))
        prompt, answer = (count // CHARS_PER_TOKEN for count in chars)
        usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return super()._completion(model, asked) | {"usage": usage}

    async def _models(self, request: Any) -> Any:
        from aiohttp import web

        names = {"tiny": BASE} | self.adapters
        rows = [{"id": name, "root": root, "max_model_len": 32768} for name, root in names.items()]
        return web.json_response({"object": "list", "data": rows})


def _by_one_model(recording: Recording) -> Recording:
    """As if one LLM had answered everything: who changes the LLM has nothing proved any more."""
    return replace(recording, response=recording.response | {"model": "gpt-4o-2024-08-06"})


def _key(request: dict[str, Any]) -> bytes:
    from hashlib import blake2b

    return blake2b(orjson.dumps(request.get("messages"), option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


@contextmanager
def on_stage(directory: Path, file: Path, rounds: int = 3, **settings: str) -> Iterator[Proxy]:
    """The product after `rounds` replays of a file of recorded calls; tasks are learned after the first."""
    recordings = [_by_one_model(each) for each in islice(read_recordings(file), 0, None, 2)]  # enough to look at
    llm, slm = ReplayUpstream(recordings), Understudies(recordings)
    llm.start()
    data_dir = directory / "data"
    try:
        with running(
            directory, data_dir=data_dir, upstream_url=llm.base_url, slm_url=f"main={slm.url}", **settings
        ) as proxy:
            requests = [each.request | {"model": "gpt-4o"} for each in recordings if each.endpoint == "chat"]
            sent = asyncio.run(replay(requests, proxy.base_url))
            assert not sent.failed, sent.errors
            _wait(proxy, len(requests))
            learned = understudy("learn", data_dir=data_dir, encoder="", slm_url=f"main={slm.url}")
            assert learned.returncode == 0, learned.stderr
            wait_for(lambda: httpx.get(f"{proxy.root}/readyz").json()["snapshot"] is not None)
            _cast(proxy, data_dir)
            for _ in range(rounds - 1):
                sent = asyncio.run(replay(requests, proxy.base_url))
            assert not sent.failed, sent.errors
            _wait(proxy, rounds * len(requests))
            _spread(data_dir, rounds)
            yield proxy
    finally:
        llm.stop()
        slm.die()


def _wait(proxy: Proxy, calls: int, minutes: int = 10) -> None:
    """Until so many calls are in the database; asked rarely, as the shipper is the most polite of processes."""
    deadline = time.monotonic() + 60 * minutes
    while proxy.logged() < calls:
        assert time.monotonic() < deadline
        time.sleep(2)


def model_of(place: int) -> str:
    """Name of the SLM that plays a task."""
    return f"qwen3-1.7b-task{place + 1}"


def _cast(proxy: Proxy, data_dir: Path) -> None:
    """Give the costliest tasks their SLMs, each at its stage."""
    tasks = sorted(proxy.admin("GET", "/clusters").json()["data"], key=lambda task: -task["cost_usd"])
    database, cipher = Database(f"sqlite:///{data_dir / 'understudy.db'}"), Cipher.open(data_dir)
    for place, stage, proofs in CAST:
        task, model = tasks[place], model_of(place)
        adapter = f"/adapters/{model}"
        entry = {"name": model, "slm": "main", "adapter": adapter, "base": "Qwen/Qwen3-1.7B"}
        assert proxy.admin("POST", "/models", json=entry).status_code == 201
        now = datetime.now(UTC)
        with database.write() as session:
            for number, (n, failures) in enumerate(proofs):
                issued = now - timedelta(days=2 + 4 * (len(proofs) - 1 - number))
                certificate = certificate_of(
                    subject_today(session, cipher, task["id"], model, "main", adapter),
                    n=n, failures=failures, calls=n, calls_failed=failures, conversations=round(n / 0.93),
                    coverage=0.93, coverage_low=0.89, coverage_high=0.96,
                    disagreement_bound=_clopper_pearson(n, failures),
                    evidence_from=issued - timedelta(days=4), evidence_until=issued, issued_at=issued,
                    expires_at=now + timedelta(days=80), method="Clopper-Pearson, one-sided", needed=n,
                )  # fmt: skip
                add_certificate(session, task["id"], model, issued, certificate.to_json())
        wish = {"model": model, "stage": "shadow"}
        for step in ("shadow", "canary", "live"):
            made = proxy.admin("POST", f"/clusters/{task['id']}/promotions", json=wish | {"stage": step})
            if made.status_code != 201:
                break
            if step == stage:
                break
    database.close()


def _clopper_pearson(n: int, failures: int, confidence: float = 0.95) -> float:
    from scipy.stats import beta

    return float(beta.ppf(confidence, failures + 1, n - failures))


def _spread(data_dir: Path, rounds: int) -> None:
    """Move what happened within minutes to the last three weeks."""
    database = Database(f"sqlite:///{data_dir / 'understudy.db'}")
    now = datetime.now(UTC)
    with database.write() as session:
        ids = list(session.scalars(select(Call.call_id).order_by(Call.arrived_at, Call.call_id)))
        first = len(ids) // rounds
        moved = []
        for place, call_id in enumerate(ids):
            if place < first:
                at = now - timedelta(days=SLM_DAYS + (DAYS - SLM_DAYS) * (1 - place / first))
            else:
                at = now - timedelta(days=SLM_DAYS * (1 - (place - first) / (len(ids) - first)))
            weekend = at.weekday() >= 5 and place % 3
            moved.append({"call_id": call_id, "arrived_at": at - timedelta(days=at.weekday() - 4) if weekend else at})
        session.execute(update(Call), moved)
        for steps in (StageMoveRow, PromotionRow, AuditRow):
            rows = list(session.scalars(select(steps)))
            for place, row in enumerate(rows):
                at = now - timedelta(days=SLM_DAYS * (1 - math.sqrt((place + 1) / (len(rows) + 6))))
                if isinstance(row, PromotionRow):
                    row.created_at = at
                    row.ended_at = row.ended_at and at + timedelta(days=1)
                else:
                    row.at = at
    database.close()
