"""`understudy replay`."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from proxy.base_url import checked_base_url
from proxy.cli.terminal import Json, console, progress
from proxy.errors import BadRequest, UnderstudyError
from proxy.replay.faults import Fault


def replay(
    file: Annotated[Path, typer.Argument(help="Recorded calls, JSON lines, gzipped or not.")],
    base_url: Annotated[str | None, typer.Option(help="The proxy, ending in /v1.")] = None,
    upstream_only: Annotated[bool, typer.Option(help="Serve the recorded answers as an upstream instead.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --upstream-only.")] = 8001,
    latency: Annotated[float, typer.Option(min=0, help="With --upstream-only: seconds before an answer.")] = 0.0,
    token_latency: Annotated[
        float, typer.Option(min=0, help="With --upstream-only: seconds between the events of a stream.")
    ] = 0.0,
    fault: Annotated[
        Fault | None, typer.Option(help="With --upstream-only: what goes wrong; stalls are among it.")
    ] = None,
    fault_every: Annotated[int, typer.Option(min=1, help="With --fault: only in every Nth answer.")] = 1,
    stall: Annotated[
        float, typer.Option(min=0, help="With --fault stall or stall-body: for how many seconds.")
    ] = 600.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Send only so many calls.")] = None,
    api_key: Annotated[str, typer.Option(help="Sent as the client's key.")] = "replay",
    as_json: Json = False,
) -> None:
    """Send recorded calls to a proxy with the official client, or play the LLM that answered them, faults included.

    Examples: understudy replay calls.jsonl --base-url http://127.0.0.1:8000/v1

    understudy replay calls.jsonl --upstream-only --latency 0.5 --fault stall-body --fault-every 10
    """
    from proxy.replay.client import replay as send
    from proxy.replay.recordings import read_recordings
    from proxy.replay.upstream import ReplayUpstream

    if base_url is None and not upstream_only:
        raise BadRequest("where to? give --base-url http://host:port/v1, or --upstream-only")
    if base_url is not None and (upstream_only or latency or token_latency or fault):
        raise BadRequest("--base-url sends calls, --upstream-only and its options answer them: give one or the other")
    try:
        base_url = None if base_url is None else checked_base_url(base_url)
    except ValueError as error:
        raise BadRequest(f"--base-url {error}") from error
    recordings = list(islice(read_recordings(file), limit))
    if not recordings:
        raise BadRequest(f"{file}: there is no recorded call in it")
    if base_url is None:
        upstream = ReplayUpstream(
            recordings,
            latency_seconds=latency,
            token_seconds=token_latency,
            fault=fault,
            fault_every=fault_every,
            stall_seconds=stall,
        )

        def announce(url: str) -> None:
            console.print(f"{len(recordings)} recorded answers are served at {url}")

        try:
            asyncio.run(upstream.run(port, announce))
        except OSError as error:
            raise UnderstudyError(f"can't listen on 127.0.0.1:{port}: {error.strerror}") from error
        except KeyboardInterrupt:
            pass
        return
    with progress("sending") as tell:
        sending = send(
            [recording.request for recording in recordings],
            base_url,
            api_key,
            progress=lambda sent: tell(f"sending: {sent:,} of {len(recordings):,} calls, {sent / len(recordings):.0%}"),
        )
        tally = asyncio.run(sending)
    if as_json:
        sys.stdout.write(json.dumps(tally.counts(), indent=1) + "\n")
    else:
        console.print(f"{tally.sent} calls in {tally.seconds:.1f} s, {tally.failed} failed {dict(tally.errors) or ''}")
        for server, count in tally.served_by.most_common():
            console.print(f"  {server:<4} {count}")
    if tally.sent and tally.failed == tally.sent:
        raise typer.Exit(1)
