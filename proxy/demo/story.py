"""The demo: agents → proxy → LLM; the log; tasks learned; small models trained, proved, promoted; one withdrawn.

What is simulated is said where it is shown: the LLM's server and the agents. The proxy, the log, the discovery, the
small models and their training, their server, every proof and the official OpenAI client are the real ones.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from proxy.demo.agents import AGENTS, Agent, SimulatedLLM, triage
from proxy.demo.course import Course
from proxy.demo.operator import Operator, operator
from proxy.demo.servers import DemoFailed, proxy
from proxy.demo.slm_servers import Choice, SlmServer, choose
from proxy.demo.tables import MACHINE_USD_PER_HOUR, Outcome, show
from proxy.demo.tiny_model import Sample, build_base, quiet, train_adapter
from proxy.demo.traffic import Score, Traffic, narrow
from proxy.replay.recordings import Recording, read_recordings
from proxy.replay.upstream import ReplayUpstream
from proxy.runs.schedule import TRAINABLE_CONVERSATIONS

RECORDED = 200
BASE_STEPS, ADAPTER_STEPS = 60, 180
#: Share of the SLMs' answers that the LLM is asked for as well. By default it is 2 %, for a world with more calls.
AUDIT_SHARE = 0.25
#: A model of a million parameters is trained by one core.
RUNS_AT_ONCE = min(2, os.cpu_count() or 1)
CHANGED = "triage"
#: Calls of an agent sent at once while SLMs are watched, and the pause after them.
BATCH, BATCH_SECONDS = 10, 1.5
LIVE_PAUSE_SECONDS = 2.0
#: The promise: so long after a demotion, at the latest, no worker asks the SLM any more.
EVERYWHERE_SECONDS = 5.0
SAMPLE = Path(__file__).parent / "sample.jsonl"
SHARED = Path("../shared/data/agent_calls.jsonl.gz")

START, LISTEN = "starting the proxy", "agents call the LLM through the proxy"
MAKE, LEARN = "making a base model", "learning the tasks in the log"
TRAIN = "training and certifying an SLM for each narrow task"
PROVE = "SLMs prove themselves on live calls: shadow, canary, live"
ACT, CHANGE = "agents call on; the SLMs serve their tasks", "the LLM changes its mind"
#: Seconds on two cores with nothing else to do.
STAGES = {START: 5, LISTEN: 13, MAKE: 25, LEARN: 75, TRAIN: 240, PROVE: 54, ACT: 20, CHANGE: 13}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many calls the demo makes.

    Attributes:
        tasks: how many narrow tasks get an SLM.
        learned: of each of their agents before anything is trained. A quarter of them certify: 59 without a failure
            are the least, 93 with one, 124 with two.
        others: of each other agent.
        recorded: recorded calls of real agents, beside them.
        served: of each narrow agent, once their SLMs serve.
        most: to wait for a stage, or for a demotion.
    """

    tasks: int = 3
    learned: int = 840
    others: int = 60
    recorded: int = RECORDED
    served: int = 100
    most: int = 400


def run(
    once: bool,
    slm_server: Choice,
    console: Console,
    base: Path | None = None,
    sizes: Sizes | None = None,
    settings: Mapping[str, str] | None = None,
) -> int:
    """Run the whole loop; then go on serving, unless `once`.

    Args:
        slm_server: what serves the small models.
        base: directory of a base model that is taken instead of one made here.
        settings: further ones for the proxy, by their environment variables.

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
                Story(work, slm_server, console, parts, base, sizes or Sizes(), settings or {}).tell(once)
            finally:
                for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(ending, signal.SIG_IGN)  # a second Ctrl-C must not stop the stopping
    except KeyboardInterrupt:
        return 130 if once else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


class Story:
    """One run of the demo, with all that takes part in it."""

    def __init__(
        self,
        work: Path,
        slm_server: Choice,
        console: Console,
        parts: contextlib.ExitStack,
        base: Path | None,
        sizes: Sizes,
        settings: Mapping[str, str],
    ) -> None:
        self._work = work
        self._settings = dict(settings)
        self._console = console
        self._parts = parts
        self._sizes = sizes
        self._slm: SlmServer = choose(slm_server, work, parts)
        self._given_base = base
        self._course = Course(console, STAGES)
        recordings = _recordings(sizes.recorded)
        self._llm = SimulatedLLM()
        self._traffic = Traffic(self._llm, recordings)
        self._upstream = ReplayUpstream(recordings, self._llm.answer)
        self._token = secrets.token_urlsafe(16)
        self._base_url = ""
        self._operator: Operator
        self._outcome = Outcome()

    def tell(self, once: bool) -> None:
        """From the first call to the table, and on."""
        quiet()
        self._introduce()
        with self._course.stage(START):
            self._start()
        self._course.say(f"the proxy serves {self._base_url}")
        with ThreadPoolExecutor(1) as beside:
            base = beside.submit(self._base)
            self._listen()
            with self._course.stage(MAKE):
                path = base.result()
            tasks = self._learn()
            since = datetime.now(UTC)
            self._train(tasks, path)
        trained = {agent.name: tasks[agent.name] for agent in self._trained()}
        live = self._prove(trained)
        self._act(live)
        if CHANGED in live:
            self._change(tasks[CHANGED])
        else:
            self._course.say(f"{CHANGED} is not served by an SLM, so there is nothing to withdraw")
        show(self._console, self._operator, tasks, self._outcome, since)
        self._go_on(once)

    def _introduce(self) -> None:
        self._console.print(
            "Simulated: the LLM's server, which knows the right answers, and five agents\n"
            "that call it. Real: the proxy, its log, task discovery, the small models, their\n"
            "training and their server, every proof, the OpenAI client. Nothing leaves this\n"
            f"machine.\n\n{self._slm.notice}\n",
            markup=False,
        )

    def _start(self) -> None:
        self._upstream.start()
        self._parts.callback(self._upstream.stop)
        settings = {
            "UNDERSTUDY_UPSTREAM_URL": self._upstream.base_url,
            "UNDERSTUDY_DATA_DIR": str(self._work / "data"),
            "UNDERSTUDY_SLM_URL": f"slm=http://127.0.0.1:{self._slm.port}/v1",
            "UNDERSTUDY_ADMIN_TOKEN": self._token,
            "UNDERSTUDY_AUTOPILOT": "on",
            "UNDERSTUDY_AUDIT_SHARE": str(AUDIT_SHARE),
            "UNDERSTUDY_LEARN_EVERY_HOURS": "0",
            "UNDERSTUDY_RUNS_AT_ONCE": "1" if self._given_base else str(RUNS_AT_ONCE),
            "UNDERSTUDY_TRAINING_USD_PER_HOUR": str(MACHINE_USD_PER_HOUR),
            "UNDERSTUDY_SLM_GPU_USD_PER_HOUR": str(MACHINE_USD_PER_HOUR),
        } | self._settings
        self._base_url = self._parts.enter_context(proxy(self._work, settings))
        self._operator = self._parts.enter_context(operator(self._base_url, self._token))

    def _base(self) -> Path:
        """The base model: the one that was given, or one made while the agents talk; its server starts at once."""
        base = self._given_base or self._work / "base"
        if self._given_base is None:
            with ProcessPoolExecutor(1, get_context("spawn")) as child:  # in a thread, it would hold up the agents
                child.submit(_build, base, self._traffic.texts(200)).result()
        self._slm.start(base)
        return base

    def _listen(self) -> None:
        sizes = self._sizes
        if not self._slm.takes_adapters:  # else the learner would see that it pays to train, and do so by itself
            sizes = replace(sizes, learned=min(sizes.learned, TRAINABLE_CONVERSATIONS - 20))
        trained = self._trained()
        counts = {agent.name: sizes.learned if agent in trained else sizes.others for agent in AGENTS}
        with self._course.stage(LISTEN) as progress:
            scores = self._traffic.send(self._base_url, counts, sizes.recorded, progress)
            self._operator.await_log(self._traffic.calls)
        self._outcome.before = scores
        recorded = self._traffic.calls - sum(counts.values())
        source = "recorded calls of real agents" if SHARED.exists() else "hand-written calls of other agents"
        self._course.say(
            f"{self._traffic.calls} calls relayed and logged: {sizes.learned} of each of {len(trained)} narrow tasks,"
            f"\n        {sizes.others} of each other one, {recorded} {source}"
        )

    def _learn(self) -> dict[str, str]:
        """Find the tasks; returns agent's name → its task's id."""
        if self._given_base is None:
            self._course.say("a base model of a million parameters, made here meanwhile: it knows no task")
        with self._course.stage(LEARN) as progress:
            self._operator.run({"kind": "learn"}, lambda share: progress(round(100 * share), 100))
            tasks = self._operator.tasks({agent.name: agent.system for agent in AGENTS})
            count = len(self._operator.get("/clusters")["data"])
        self._course.say(f"{count} tasks discovered in the log, without a label; the agents' five are among them")
        return tasks

    def _trained(self) -> tuple[Agent, ...]:
        """The agents whose tasks get an SLM."""
        return narrow()[: self._sizes.tasks if self._slm.takes_adapters else 1]

    def _train(self, tasks: Mapping[str, str], base: Path) -> None:
        """Train and evaluate, task by task; the autopilot brings those that are proved into their shadows."""
        agents = self._trained()
        with self._course.stage(TRAIN) as progress:
            if self._slm.takes_adapters:
                self._slm.serve(base)
                runs = [self._training(tasks[agent.name], agent.name, base) for agent in agents]
            else:
                model = self._merged(base, tasks[agents[0].name], progress)
                wish = {"kind": "evaluate", "cluster": tasks[agents[0].name], "model": model}
                runs = [self._operator.post("/runs", wish)["id"]]
            for number, (agent, run_id) in enumerate(zip(agents, runs, strict=True)):

                def tell(share: float, number: int = number) -> None:
                    progress(round(100 * (number + share / 3)), 100 * len(agents))

                run = self._operator.follow(run_id, tell)
                self._course.say(f"{agent.name}: {run['figures']['evaluate']['in_words']}")

    def _training(self, cluster_id: str, name: str, base: Path) -> str:
        """The run that trains for a task: the learner's own, where it was quicker to see what is worth it."""
        for run in self._operator.get("/runs")["data"]:
            if run["kind"] == "train" and run["cluster"] == cluster_id:
                return str(run["id"])
        wish = {"kind": "train", "cluster": cluster_id, "base": str(base), "model": name}
        return str(self._operator.post("/runs", wish)["id"])

    def _merged(self, base: Path, cluster_id: str, progress: Callable[[int, int], None]) -> str:
        """Train one task's adapter here, for a server that has to be started with it; returns the model's name."""
        adapter = self._work / "adapter"
        train_adapter(base, adapter, self._samples(cluster_id), steps=ADAPTER_STEPS, progress=progress)
        return self._slm.serve(base, adapter)

    def _samples(self, cluster_id: str) -> list[Sample]:
        """The oldest part of a task's calls in the log: the newer ones are the proof's."""
        rows = self._operator.get("/calls", cluster=cluster_id, served_by="llm", limit=500)["data"]
        samples: list[Sample] = []
        for row in rows[2 * len(rows) // 5 :]:
            call = self._operator.get(f"/calls/{row['call_id']}")
            answer = call["response_body"]["choices"][0]["message"]
            samples.append((call["request_body"]["messages"], answer["content"]))
        return samples

    def _prove(self, tasks: Mapping[str, str]) -> list[str]:
        """Call on until every task that can come to be served is; returns those."""
        stages: dict[str, str | None] = dict.fromkeys(tasks)
        with self._course.stage(PROVE) as progress:
            sent, waiting = 0, [name for name in tasks if self._is_proved(tasks[name])]
            while waiting and sent < self._sizes.most:
                for name in waiting:
                    stage = self._operator.stage(tasks[name])
                    if stage != stages[name]:
                        self._course.say(f"{name}: {stages[name] or 'candidate'} → {stage or 'withdrawn'}")
                    stages[name] = stage or (stages[name] and "withdrawn")
                waiting = [name for name in waiting if stages[name] not in ("live", "withdrawn")]
                self._outcome.add_proved(self._traffic.send(self._base_url, dict.fromkeys(waiting, BATCH)))
                sent += BATCH
                progress(sum(_PLACE[stages[name]] for name in tasks), 3 * len(tasks))
                time.sleep(BATCH_SECONDS)  # copies are made and judged meanwhile
        live = [name for name in tasks if stages[name] == "live"]
        self._course.say(f"live by proof, each step taken by the autopilot: {', '.join(live) or 'none'}")
        return live

    def _is_proved(self, cluster_id: str) -> bool:
        certificate = self._operator.cluster(cluster_id)["certificate"]
        return bool(certificate and certificate["passes"])

    def _act(self, live: list[str]) -> None:
        counts = dict.fromkeys(live, self._sizes.served) | {
            agent.name: self._sizes.served // 5 for agent in AGENTS if not agent.narrow
        }
        with self._course.stage(ACT) as progress:
            self._outcome.served = self._traffic.send(
                self._base_url, counts, min(self._sizes.served, self._sizes.recorded) // 2, progress
            )
        total = sum(self._outcome.served.values(), Score())
        self._course.say(
            f"{total.calls} calls, {total.by_slm} answered by SLMs, {total.right} of them as the LLM would"
        )

    def _change(self, cluster_id: str) -> None:
        """The LLM is changed on purpose; the audit has to notice, and the autopilot to act."""
        self._llm.change(triage.SYSTEM, triage.all_urgent)
        self._course.say(f"on purpose: from now on the LLM calls every ticket of {CHANGED} urgent")
        began, score = time.monotonic(), Score()
        with self._course.stage(CHANGE) as progress:
            while self._operator.stage(cluster_id) == "live":
                if score.calls >= self._sizes.most:
                    raise DemoFailed(f"the change of {CHANGED} was not noticed in {score.calls} calls")
                score += self._traffic.send(self._base_url, {CHANGED: BATCH})[CHANGED]
                progress(min(score.calls, 60), 60)
                time.sleep(BATCH_SECONDS)
            took = time.monotonic() - began
            time.sleep(EVERYWHERE_SECONDS)
            after = self._traffic.send(self._base_url, {CHANGED: 20})[CHANGED]
        move = self._operator.cluster(cluster_id)["moves"][0]
        self._outcome.changed, self._outcome.after = score, after
        self._course.say(
            f"{CHANGED} was withdrawn by itself after {score.calls} calls, {took:.0f} s: {move['reason']};\n"
            f"        the SLM answered {score.by_slm} of them, the LLM the others, in doubt; "
            f"{EVERYWHERE_SECONDS:.0f} s later, of {after.calls} calls the SLM served {after.by_slm}"
        )

    def _go_on(self, once: bool) -> None:
        root = self._base_url.removesuffix("/v1")
        self._console.print(f"\nconsole  {root}/   (token {self._token})", markup=False)
        self._console.print(f"metrics  {root}/metrics", markup=False)
        if once:
            return
        self._console.print("\nthe agents go on calling; Ctrl-C ends the demo", markup=False)
        while True:
            self._traffic.send(self._base_url, {agent.name: 1 for agent in AGENTS}, recorded=1)
            time.sleep(LIVE_PAUSE_SECONDS)


_PLACE = {None: 0, "shadow": 1, "canary": 2, "live": 3, "withdrawn": 3}


def _build(base: Path, texts: list[str]) -> None:
    quiet()
    build_base(base, texts, steps=BASE_STEPS)


def _recordings(count: int) -> list[Recording]:
    """Recorded calls of real agents where they are at hand, else the repository's few."""
    if SHARED.exists():
        found = [recording for recording in read_recordings(SHARED) if recording.status == 200]
        return random.Random(2).sample(found, count)
    return list(read_recordings(SAMPLE))
