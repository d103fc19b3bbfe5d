"""The demo: agents → proxy → LLM; the log; a task learned; a small model trained, promoted, serving.

What is simulated is said where it is shown: the LLM's server and the triage agent. The proxy, the log, the discovery,
the small model, its vLLM and the official OpenAI client are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from proxy.demo import agents
from proxy.demo.tiny_model import Sample, build_base, quiet, train_adapter
from proxy.errors import UnderstudyError
from proxy.replay.client import Tally, replay
from proxy.replay.recordings import Recording, read_recordings
from proxy.replay.upstream import ReplayUpstream

TRIAGE_LEARNED, TRIAGE_SERVED = 600, 200
RECORDED = 300
BASE_STEPS, ADAPTER_STEPS = 200, 300
START_SECONDS = 180.0
LIVE_PAUSE_SECONDS = 2.0
SAMPLE = Path(__file__).parent / "sample.jsonl"
VLLM = Path(".venv-vllm/bin/vllm")
SHARED = Path("../shared/data/agent_calls.jsonl.gz")


class DemoFailed(UnderstudyError):
    """A part of the demo did not come up; the message names its log."""

    code = "demo_failed"


def run(once: bool, console: Console) -> int:
    """Run the whole loop; then go on serving, unless `once`.

    Returns:
        The exit status.
    """
    work = Path(tempfile.mkdtemp(prefix="understudy-demo-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with contextlib.ExitStack() as parts:
            _tell(work, once, console, parts)
    except KeyboardInterrupt:
        pass
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _tell(work: Path, once: bool, console: Console, parts: contextlib.ExitStack) -> None:
    begun = time.monotonic()
    quiet()

    def say(text: str) -> None:
        console.print(f"[{time.monotonic() - begun:4.0f} s] {text}", markup=False)

    if not VLLM.exists():
        raise DemoFailed(
            "vLLM's CPU build is not installed here (see `make setup`): nothing could serve the small model"
        )
    recordings = _recordings()
    source = "recorded by real agents" if SHARED.exists() else "hand-written samples"
    console.print(
        "Simulated here: the LLM's server, and an agent that triages support tickets.\n"
        "Real: the proxy, its log, task discovery, the small model, vLLM, the OpenAI client.\n",
        markup=False,
    )
    tickets = agents.tickets(seed=1)
    llm = agents.TriageLLM()
    upstream = ReplayUpstream(recordings, llm.answer)
    upstream.start()
    parts.callback(upstream.stop)
    slm_port, slm_url = _free_port(), ""
    slm_url = f"http://127.0.0.1:{slm_port}/v1"
    settings = {
        "UNDERSTUDY_UPSTREAM_URL": upstream.base_url,
        "UNDERSTUDY_DATA_DIR": str(work / "data"),
        "UNDERSTUDY_SLM_URL": f"vllm={slm_url}",
        "UNDERSTUDY_ADMIN_TOKEN": secrets.token_urlsafe(16),
    }
    base_url = parts.enter_context(_proxy(work, settings))
    root = base_url.removesuffix("/v1")
    admin = httpx.Client(
        base_url=f"{root}/admin/v1",
        headers={"authorization": f"Bearer {settings['UNDERSTUDY_ADMIN_TOKEN']}"},
        timeout=90,
    )
    parts.callback(admin.close)
    say(f"the proxy serves {base_url}")

    learned = list(itertools.islice(tickets, TRIAGE_LEARNED))
    first = asyncio.run(replay(_mixed(learned, recordings, llm), base_url))
    say(f"{first.sent} calls relayed and logged: {len(learned)} triaged tickets, {len(recordings)} {source}")
    _wait(lambda: admin.get("/calls", params={"limit": 1}).json()["total"] >= first.sent, 60, "the log")
    _understudy(["learn"], settings)
    clusters = admin.get("/clusters").json()["data"]
    task = _task_of(admin, clusters)
    say(f"{len(clusters)} tasks discovered in the log; one of them: {task['label']}")

    say("training a model of 1 million parameters from nothing (about two minutes)")
    samples: list[Sample] = [(agents.ticket_call(text)["messages"], answer) for text, answer in learned]
    base, adapter = work / "tiny", work / "triage"
    build_base(base, [m["content"] for messages, _ in samples for m in messages] + [a for _, a in samples],
               steps=BASE_STEPS)  # fmt: skip
    say("the base model copies text; it knows no task")
    parts.enter_context(_vllm(base, slm_port, work / "vllm.log"))
    trained = train_adapter(base, adapter, samples, steps=ADAPTER_STEPS)
    say(f"a LoRA adapter has learned the task from the log: loss {trained.loss:.4f}")
    _wait(lambda: _is_healthy(slm_url), START_SECONDS, f"vLLM (see {work / 'vllm.log'})")
    say("vLLM serves the base model")

    made = admin.post(
        f"/clusters/{task['id']}/promotions",
        json={"model": "triage", "stage": "live", "adapter": str(adapter), "force": True, "reason": "the demo"},
    )
    if made.status_code != 201:
        raise DemoFailed(f"the promotion was refused: {made.text}")
    say("promoted by one admin call: the adapter is loaded, the task is live (forced: certificates come later)")

    served = list(itertools.islice(tickets, TRIAGE_SERVED))
    before = asyncio.run(replay(_mixed(served, recordings[: RECORDED // 2], llm), base_url))
    _wait(lambda: admin.get("/calls", params={"limit": 1}).json()["total"] >= first.sent + before.sent, 60, "the log")
    time.sleep(1)
    _show(console, admin, before, served, task)
    console.print(f"\npage     {root}/   (any name, password {settings['UNDERSTUDY_ADMIN_TOKEN']})", markup=False)
    console.print(f"metrics  {root}/metrics", markup=False)
    if once:
        return
    console.print("\nagents go on calling; Ctrl-C ends the demo", markup=False)
    while True:
        more = list(itertools.islice(tickets, 2))
        asyncio.run(replay(_mixed(more, random.sample(recordings, 2), llm), base_url))
        time.sleep(LIVE_PAUSE_SECONDS)


def _recordings() -> list[Recording]:
    """Recorded calls of real agents where they are at hand, else the repository's few."""
    if SHARED.exists():
        found = [recording for recording in read_recordings(SHARED) if recording.status == 200]
        return random.Random(2).sample(found, RECORDED)
    return list(read_recordings(SAMPLE))


def _mixed(triage: list[tuple[str, str]], recordings: list[Recording], llm: agents.TriageLLM) -> list[dict[str, Any]]:
    """Both agents' requests, shuffled; the triage tickets keep their order among themselves."""
    for text, answer in triage:
        llm.expect(text, answer)
    own = iter([agents.ticket_call(text) for text, _ in triage])
    other = iter([recording.request for recording in recordings])
    turns = [True] * len(triage) + [False] * len(recordings)
    random.Random(3).shuffle(turns)
    return [next(own) if turn else next(other) for turn in turns]


def _task_of(admin: httpx.Client, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """The triage agent's task, recognised as an operator would: by its skeleton."""
    for cluster in clusters:
        if "triage desk" in admin.get(f"/clusters/{cluster['id']}").json()["skeleton"]:
            return cluster
    raise DemoFailed("the triage task was not found in the log")


def _show(
    console: Console,
    admin: httpx.Client,
    second: Tally,
    served: list[tuple[str, str]],
    task: dict[str, Any],
) -> None:
    """The savings table; agreement is measured against the truth that the simulator knows."""
    truth = iter(answer for _, answer in served)
    own = [place for place, turn in enumerate(_turns(len(served), second.sent - len(served))) if turn]
    right = {place: next(truth) for place in own}
    slm = [place for place in own if second.answers.get(place, ("", ""))[0] == "slm"]
    agree = sum(second.answers[place][1] == right[place] for place in slm)
    savings = admin.get("/savings").json()
    total = savings["total"]
    table = Table(title="after the promotion", box=None, pad_edge=False, title_justify="left")
    table.add_column("what")
    table.add_column("figure", justify="right")
    fallbacks = {reason: n for reason, n in second.reasons.items() if reason.startswith(("slm_", "output", "low_"))}
    for what, figure in (
        ("calls", str(second.sent)),
        (f"  of the promoted task ({task['label'][:34]})", str(len(own))),
        ("  served by the SLM", f"{second.served_by['slm']} ({second.served_by['slm'] / second.sent:.0%})"),
        ("  fallbacks to the LLM in the same request", str(sum(fallbacks.values()))),
        ("  failed", str(second.failed)),
        ("SLM answers equal to the simulator's truth", f"{agree} of {len(slm)}"),
        ("spend in all, USD", f"{total['cost_usd']:.4f}"),
        ("spend without the SLM, USD", f"{total['cost_usd'] + total['savings_usd']:.4f}"),
        ("net savings, USD (GPU and training not counted)", f"{total['savings_usd']:.4f}"),
        ("calls without a known price", str(savings["unpriced_calls"])),
    ):
        table.add_row(what, figure)
    console.print()
    console.print(table)


def _turns(triage: int, recorded: int) -> list[bool]:
    """Which calls of `_mixed` are the triage agent's."""
    turns = [True] * triage + [False] * recorded
    random.Random(3).shuffle(turns)
    return turns


@contextlib.contextmanager
def _proxy(work: Path, settings: dict[str, str]) -> Iterator[str]:
    """The real `understudy serve` in a process of its own."""
    port = _free_port()
    log = work / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy.cli", "serve", "--port", str(port)],
            env=_environment(settings), stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        root = f"http://127.0.0.1:{port}"
        _wait(lambda: _answers(f"{root}/readyz"), 60, f"the proxy (see {log})")
        yield f"{root}/v1"
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def _vllm(base: Path, port: int, log: Path) -> Iterator[None]:
    """The real vLLM, CPU build, from the environment that `make setup` made."""
    with log.open("wb") as output:
        process = subprocess.Popen(vllm_command(VLLM, base, port), env=vllm_environment(), stdout=output,
                                   stderr=output, start_new_session=True)  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def vllm_command(command: Path, base: Path, port: int) -> list[str]:
    """How a vLLM for tiny models is started on a CPU."""
    return [
        str(command.absolute()), "serve", str(base), "--served-model-name", "tiny", "--host", "127.0.0.1",
        "--port", str(port), "--dtype", "float32", "--max-model-len", "1024", "--enforce-eager",
        "--kv-cache-memory-bytes", "64M", "--enable-lora", "--max-loras", "2", "--max-lora-rank", "16",
        "--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}',
    ]  # fmt: skip


def vllm_environment() -> dict[str, str]:
    """No hub, no telemetry, no lazy compilation, adapters at run time."""
    return os.environ | {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TORCHDYNAMO_DISABLE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }  # fmt: skip


def _understudy(arguments: list[str], settings: dict[str, str]) -> None:
    """Run a command as an operator would."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", *arguments], env=_environment(settings), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise DemoFailed(f"`understudy {' '.join(arguments)}` failed: {done.stderr.strip()[-500:]}")


def _environment(settings: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    return inherited | settings


def _wait(done: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what} did not get ready in {seconds:.0f} s")
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _is_healthy(slm_url: str) -> bool:
    return _answers(slm_url.removesuffix("/v1") + "/health")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
