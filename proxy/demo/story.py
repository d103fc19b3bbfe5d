"""The demo: agents → proxy → LLM; the log; a task learned; a small model trained, promoted, serving.

What is simulated is said where it is shown: the LLM's server and the triage agent. The proxy, the log, the discovery,
the small model, its server and the official OpenAI client are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from proxy.demo import agents
from proxy.demo.course import Course
from proxy.demo.servers import DemoFailed, environment, proxy
from proxy.demo.slm_servers import Choice, choose
from proxy.demo.tiny_model import Sample, build_base, quiet, train_adapter
from proxy.replay.client import Tally, replay
from proxy.replay.recordings import Recording, read_recordings
from proxy.replay.upstream import ReplayUpstream

TRIAGE_LEARNED, TRIAGE_SERVED = 500, 200
RECORDED = 300
BASE_STEPS, ADAPTER_STEPS = 100, 180
LIVE_PAUSE_SECONDS = 2.0
SAMPLE = Path(__file__).parent / "sample.jsonl"
SHARED = Path("../shared/data/agent_calls.jsonl.gz")

START, LISTEN, LEARN = "starting the proxy", "agents call the LLM through the proxy", "learning the tasks in the log"
BASE, ADAPTER = "training a small model from nothing", "training a LoRA adapter on the task's calls"
SERVE, PROMOTE, ACT = "starting the small model's server", "promoting", "agents call on; the SLM serves its task"
#: Seconds on two cores with nothing else to do; SERVE's depend on the server.
STAGES = {START: 6, LISTEN: 8, LEARN: 40, BASE: 45, ADAPTER: 55, SERVE: 5, PROMOTE: 2, ACT: 20}


def run(once: bool, slm_server: Choice, console: Console) -> int:
    """Run the whole loop; then go on serving, unless `once`.

    Args:
        slm_server: what serves the small model.

    Returns:
        The exit status: 0, or 130 where it was to run once and was interrupted.

    Raises:
        DemoFailed: a part did not come up.
    """
    work = Path(tempfile.mkdtemp(prefix="understudy-demo-"))
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as parts:
            try:
                _tell(work, once, slm_server, console, parts)
            finally:
                for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(ending, signal.SIG_IGN)  # a second Ctrl-C must not stop the stopping
    except KeyboardInterrupt:
        return 130 if once else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def _tell(work: Path, once: bool, slm_server: Choice, console: Console, parts: contextlib.ExitStack) -> None:
    slm = choose(slm_server, work, parts)
    quiet()
    course = Course(console, STAGES | {SERVE: slm.start_seconds})
    recordings = _recordings()
    source = "recorded calls of real agents" if SHARED.exists() else "hand-written calls of other agents"
    console.print(
        "Simulated: the LLM's server (it replays recorded answers), and an agent that\n"
        "triages support tickets. Real: the proxy, its log, task discovery, the small\n"
        "model, its training and its server, the OpenAI client. Nothing leaves this\n"
        f"machine.\n\n{slm.notice}\n",
        markup=False,
    )
    with course.stage(START):
        llm = agents.TriageLLM()
        upstream = ReplayUpstream(recordings, llm.answer)
        upstream.start()
        parts.callback(upstream.stop)
        settings = {
            "UNDERSTUDY_UPSTREAM_URL": upstream.base_url,
            "UNDERSTUDY_DATA_DIR": str(work / "data"),
            "UNDERSTUDY_SLM_URL": f"slm=http://127.0.0.1:{slm.port}/v1",
            "UNDERSTUDY_ADMIN_TOKEN": secrets.token_urlsafe(16),
        }
        base_url = parts.enter_context(proxy(work, settings))
        admin = parts.enter_context(_admin(base_url, settings["UNDERSTUDY_ADMIN_TOKEN"]))
    course.say(f"the proxy serves {base_url}")

    tickets = agents.tickets(seed=1)
    with course.stage(LISTEN) as progress:
        requests = _mixed(list(itertools.islice(tickets, TRIAGE_LEARNED)), recordings, llm)
        first = asyncio.run(replay(requests, base_url, progress=lambda done: progress(done, len(requests))))
        _await_log(admin, first.sent)
    course.say(f"{first.sent} calls relayed and logged: {TRIAGE_LEARNED} tickets, {len(recordings)} {source}")

    with course.stage(LEARN):
        _understudy(["learn"], settings)
        clusters: list[dict[str, Any]] = admin.get("/clusters").json()["data"]
        task = _task_of(admin, clusters)
    course.say(f"{len(clusters)} tasks discovered in the log; the largest: {task['label']}")

    samples = _samples(admin, task)
    base, adapter = work / "tiny", work / "triage"
    with course.stage(BASE) as progress:
        texts = [message["content"] for messages, _ in samples for message in messages]
        build_base(base, texts + [answer for _, answer in samples], steps=BASE_STEPS, progress=progress)
    course.say("a model of 1 million parameters, made here: it copies text and knows no task")
    slm.base_is_trained(base)
    with course.stage(ADAPTER) as progress:
        trained = train_adapter(base, adapter, samples, steps=ADAPTER_STEPS, progress=progress)
    course.say(f"a LoRA adapter has learned the task from {len(samples)} logged calls: loss {trained.loss:.3f}")
    with course.stage(SERVE):
        promotable = slm.serve(base, adapter)
    course.say(f"{slm.name} is up")

    with course.stage(PROMOTE):
        _promote(admin, task, promotable)
        begun = time.monotonic()
        asked = _ask_until_served(tickets, llm, base_url)
        in_force = datetime.now(UTC)
    loaded = f": {slm.name} has loaded the adapter" if "adapter" in promotable else ""
    course.say(
        f"promoted by one admin call{loaded}; in force after {time.monotonic() - begun:.1f} s\n"
        "        (forced: nothing was certified here)"
    )
    with course.stage(ACT) as progress:
        served = list(itertools.islice(tickets, TRIAGE_SERVED))
        requests = _mixed(served, recordings[: RECORDED // 2], llm)
        second = asyncio.run(replay(requests, base_url, progress=lambda done: progress(done, len(requests))))
        _await_log(admin, first.sent + asked + second.sent)
    course.say(f"{second.sent} more calls")
    _show(console, admin, second, served, task, in_force)

    root = base_url.removesuffix("/v1")
    console.print(f"\npage     {root}/   (any name, password {settings['UNDERSTUDY_ADMIN_TOKEN']})", markup=False)
    console.print(f"metrics  {root}/metrics", markup=False)
    if once:
        return
    console.print("\nthe agents go on calling; Ctrl-C ends the demo", markup=False)
    while True:
        more = list(itertools.islice(tickets, 2))
        asyncio.run(replay(_mixed(more, random.sample(recordings, 2), llm), base_url))
        time.sleep(LIVE_PAUSE_SECONDS)


@contextlib.contextmanager
def _admin(base_url: str, token: str) -> Iterator[httpx.Client]:
    """A client of the admin API."""
    with httpx.Client(
        base_url=base_url.removesuffix("/v1") + "/admin/v1",
        headers={"authorization": f"Bearer {token}"},
        timeout=90,
    ) as client:
        yield client


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
    return [next(own) if turn else next(other) for turn in _turns(len(triage), len(recordings))]


def _turns(triage: int, recorded: int) -> list[bool]:
    """Which calls of `_mixed` are the triage agent's."""
    turns = [True] * triage + [False] * recorded
    random.Random(3).shuffle(turns)
    return turns


def _task_of(admin: httpx.Client, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """The triage agent's task, recognised as an operator would: by its skeleton."""
    for cluster in clusters:
        if "triage desk" in admin.get(f"/clusters/{cluster['id']}").json()["skeleton"]:
            return cluster
    raise DemoFailed("the triage task was not found in the log")


def _samples(admin: httpx.Client, task: dict[str, Any]) -> list[Sample]:
    """The task's calls in the log: what was asked, and what the LLM answered."""
    rows = admin.get("/calls", params={"cluster": task["id"], "served_by": "llm", "limit": 500}).json()["data"]
    samples: list[Sample] = []
    for row in rows:
        call = admin.get(f"/calls/{row['call_id']}").json()
        message = call["response_body"]["choices"][0]["message"]
        samples.append((call["request_body"]["messages"], message["content"]))
    return samples


def _promote(admin: httpx.Client, task: dict[str, Any], promotable: dict[str, str]) -> None:
    wish = promotable | {"stage": "live", "force": True, "reason": "the demo"}
    made = admin.post(f"/clusters/{task['id']}/promotions", json=wish)
    if made.status_code != 201:
        raise DemoFailed(f"the promotion was refused: {made.text}")


def _ask_until_served(tickets: Iterator[tuple[str, str]], llm: agents.TriageLLM, base_url: str) -> int:
    """Send tickets, one at a time, until the SLM answers one; returns how many were sent."""
    sent = itertools.count(1)

    def served() -> bool:
        next(sent)
        return asyncio.run(replay(_mixed([next(tickets)], [], llm), base_url)).served_by["slm"] == 1

    _await(served, 30, "the promotion")
    return next(sent) - 1


def _show(
    console: Console,
    admin: httpx.Client,
    tally: Tally,
    served: list[tuple[str, str]],
    task: dict[str, Any],
    since: datetime,
) -> None:
    """The savings table; agreement is measured against the truth that the simulator knows."""
    truth = iter(answer for _, answer in served)
    own = [place for place, turn in enumerate(_turns(len(served), tally.sent - len(served))) if turn]
    right = {place: next(truth) for place in own}
    by_slm = [place for place in own if tally.answers.get(place, ("", ""))[0] == "slm"]
    agree = sum(_value(tally.answers[place][1]) == _value(right[place]) for place in by_slm)
    fallbacks = sum(n for reason, n in tally.reasons.items() if reason.startswith(("slm_", "output_", "low_")))
    unlike = tally.reasons["payload_out_of_distribution"]
    savings = admin.get("/savings", params={"from": since.isoformat()}).json()
    slm = tally.served_by["slm"]
    figures = Table(title="after the promotion", box=None, pad_edge=False, show_header=False, title_justify="left")
    figures.add_column(min_width=44)
    figures.add_column(justify="right")
    for what, figure in (
        ("calls", f"{tally.sent}"),
        ("  of the promoted task", f"{len(own)}"),
        ("  served by the SLM", f"{slm} ({slm / tally.sent:.0%})"),
        ("  left to the LLM: unlike what was learned", f"{unlike}"),
        ("  fallbacks to the LLM in the same request", f"{fallbacks}"),
        ("  failed", f"{tally.failed}"),
        ("SLM answers equal to the simulator's truth", f"{agree} of {len(by_slm)}"),
    ):
        figures.add_row(what, figure)
    spend = Table("spend in USD", box=None, pad_edge=False, header_style="")
    for name in ("without the SLM", "with it", "saved"):
        spend.add_column(name, justify="right")
    on_task = [row for row in savings["data"] if row["key"] == task["id"]]
    for what, row in [("  the promoted task", row) for row in on_task] + [("  all calls", savings["total"])]:
        without = row["cost_usd"] + row["savings_usd"]
        share = row["savings_usd"] / without if without else 0.0
        spend.add_row(what, f"{without:.4f}", f"{row['cost_usd']:.4f}", f"{share:.0%}")
    console.print("", figures, "", spend, sep="\n")
    unpriced = savings["unpriced_calls"]
    console.print(
        f"  (list prices of the models that the calls name; {unpriced} calls without one, the CPU\n"
        "  and the training are left out)",
        markup=False,
    )


def _value(text: str) -> Any:
    """An answer as JSON; the SLM may space it differently."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _understudy(arguments: list[str], settings: dict[str, str]) -> None:
    """Run a command as an operator would."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", *arguments], env=environment(settings), capture_output=True, text=True,
        check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        raise DemoFailed(f"`understudy {' '.join(arguments)}` failed: {done.stderr.strip()[-500:]}")


def _await_log(admin: httpx.Client, calls: int) -> None:
    """Wait until the log holds so many calls."""
    _await(lambda: admin.get("/calls", params={"limit": 1}).json()["total"] >= calls, 60, "the log")


def _await(true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what} did not get ready in {seconds:.0f} s")
        time.sleep(0.2)
