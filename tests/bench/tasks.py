# ruff: noqa: E501 - a row of a table is one line
"""Every task of the recorded agent calls: what there is to learn, and what a tiny model learns of it.

`python -m tests.bench tasks [SECONDS] [FILE]` writes the document. Samples, contract and the LLM's agreement with itself
are found for every task; a tiny model (`proxy.demo.tiny_model`, made here, as in the demo) is trained for as many as
can be begun within SECONDS: narrow forms first, then short answers. What was not trained has no figure.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from proxy.demo.tiny_model import build_base, quiet
from proxy.proving.comparison import Comparison
from router.contract import Answer, ContractKind
from router.encoder import CachedEncoder, TransformerEncoder
from router.features import ToolCall
from router.learning.corpus import LoggedCall, read_logged_call
from router.learning.curation.chat import chat_of, tools_of
from router.learning.curation.curate import curate
from router.learning.curation.drops import Dropped
from router.learning.curation.reading import Reader, standard_recognisers
from router.learning.curation.samples import Candidate, Curated
from router.learning.discovery import discover
from router.learning.distillation import distill
from router.learning.proof.agreement import Outcome
from router.learning.proof.ceiling import self_agreement
from router.learning.proof.standard import Standard
from router.learning.training.errors import TrainingFailed
from router.learning.training.fine_tuning import fine_tune
from router.learning.training.recipe import Recipe
from router.snapshot import Cluster
from tests.bench.local_slm import LocalSlm
from tests.bench.payload import default_encoder

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "agent_calls.jsonl.gz"
DOCUMENT = ROOT / "docs" / "tasks.md"
SECONDS = 900.0
BASE_STEPS = 60
#: What a tiny model has room for, prompt and answer, and what is not too slow for a table.
MOST_TOKENS, MOST_ANSWER_CHARS = 700, 600
RECIPE = Recipe(max_tokens=MOST_TOKENS, batch=8, steps=200)
STANDARD = Standard(0.05, 0.05)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


@dataclass
class Task:
    """One discovered task.

    Attributes:
        compared: held-out calls put to the tiny model; agreed: of those, how many it answered as the LLM did.
        note: why it was not trained.
    """

    cluster: Cluster
    calls: list[LoggedCall]
    curated: Curated
    pairs: int
    disagreements: int
    compared: int | None = None
    agreed: int = 0
    trained_on: int = 0
    note: str = ""

    @property
    def held_out(self) -> int:
        """Conversations kept for the threshold and the certificate."""
        return len({each.conversation for each in (*self.curated.calibration, *self.curated.certification)})

    @property
    def answer_chars(self) -> float:
        """Mean length of an answer."""
        lengths = [len(json.dumps(sample.chat[-1])) for sample in self.curated.train]
        return sum(lengths) / max(len(lengths), 1)


def read_calls() -> list[LoggedCall]:
    """The recorded calls, a second apart."""
    calls = []
    with gzip.open(DATA) as lines:
        for number, line in enumerate(lines):
            row = orjson.loads(line)
            response = row["response"]
            answer = response if "choices" in response else {"choices": [{"message": response}]}
            moment = BEGAN + timedelta(seconds=number)
            call = read_logged_call(f"{number:05}", "chat", orjson.dumps(row["request"]), answer, moment)
            if call is not None:
                calls.append(call)
    return calls


def describe(cluster: Cluster, calls: list[LoggedCall], reader: Reader, encoder: CachedEncoder) -> Task:
    """What there is to learn of a task."""
    repeated: dict[bytes, list[Answer]] = defaultdict(list)
    for call in calls:
        if call.answer is not None:
            repeated[orjson.dumps(call.features.body, option=orjson.OPT_SORT_KEYS)].append(call.answer)
    ceiling = self_agreement(repeated.values(), Comparison(cluster.contract, encoder).of_task)
    curated = curate([Candidate(call) for call in calls], cluster.contract, reader)
    return Task(cluster, calls, curated, ceiling.pairs, ceiling.disagreements)


def train(task: Task, base: Path, work: Path, encoder: CachedEncoder) -> None:
    """Train a tiny model on a task, and put the held-out calls to it."""
    out = work / task.cluster.cluster_id
    try:
        card = fine_tune(base, out, task.curated.train, recipe=RECIPE, task=task.cluster.label)
    except TrainingFailed as error:
        task.note = error.reason.replace("_", " ")
        return
    task.trained_on = card.samples["trained"]
    by_id = {call.call_id: call for call in task.calls}
    held_out = [by_id[each.call_id] for each in (*task.curated.calibration, *task.curated.certification)]
    asked = []
    for call in held_out:
        assert call.answer is not None
        try:
            asked.append((call, (chat_of(call.features, call.answer)[:-1], tools_of(call.features.body))))
        except Dropped:
            continue
    labels = task.cluster.contract.labels if task.cluster.contract.kind is ContractKind.LABEL else ()
    answers = LocalSlm(base, out).answer([chat for _, chat in asked], labels)
    comparison = Comparison(task.cluster.contract, encoder)
    verdicts = [
        comparison.compare(call.features, call.answer, _answer(said) if sure is not None else None)
        for (call, _), (said, sure) in zip(asked, answers, strict=True)
    ]
    comparable = [verdict for verdict in verdicts if verdict.outcome is not Outcome.INCOMPARABLE]
    task.compared = len(comparable)
    task.agreed = sum(verdict.outcome is Outcome.AGREE for verdict in comparable)


def _answer(said: str) -> Answer:
    """What a model said, its tool calls read as Hermes' are."""
    calls = []
    for found in _CALL.findall(said):
        try:
            call = json.loads(found)
            calls.append(ToolCall("", str(call["name"]), json.dumps(call["arguments"])))
        except (ValueError, KeyError, TypeError):
            continue
    return Answer(_CALL.sub("", said) if calls else said, tuple(calls))


def main(seconds: float, document: Path) -> None:
    """Run it, and write the document."""
    began = time.monotonic()
    quiet()
    calls = read_calls()
    source = default_encoder()
    transformer = TransformerEncoder(source)
    found = discover(calls, static=distill(source), encoder=transformer)
    _tell(began, f"{len(found.snapshot.clusters)} tasks in {len(calls)} calls")
    members: dict[str, list[LoggedCall]] = defaultdict(list)
    for call, name in zip(calls, found.assignments, strict=True):
        if name is not None:
            members[name].append(call)
    reader, encoder = Reader(standard_recognisers()), CachedEncoder(transformer)
    tasks = [describe(each, members[name], reader, encoder) for name, each in found.snapshot.clusters.items()]
    _tell(began, "described")

    able = [task for task in tasks if len(task.curated.train) >= RECIPE.min_samples]
    short = [task for task in able if task.answer_chars <= MOST_ANSWER_CHARS]
    short.sort(key=lambda task: (task.cluster.contract.kind is ContractKind.TEXT, task.answer_chars))
    with tempfile.TemporaryDirectory(prefix="tasks-") as name:
        work = Path(name)
        texts = [
            message.get("content") or "" for task in short for sample in task.curated.train for message in sample.chat
        ]
        build_base(work / "base", [text for text in texts if text], steps=BASE_STEPS, fixed_share=0.01)
        _tell(began, "a base model is made")
        deadline = time.monotonic() + seconds
        for task in short:
            if time.monotonic() > deadline:
                task.note = "not run: out of time"
                continue
            train(task, work / "base", work, encoder)
            _tell(began, f"{task.cluster.label}: {task.agreed} of {task.compared} {task.note}")
    for task in able:
        if task not in short:
            task.note = "not run: long answers"
    written = text(tasks, len(calls))
    document.write_text(written)
    sys.stdout.write(written)
    _tell(began, f"written to {document}")


def text(tasks: Sequence[Task], calls: int) -> str:
    """The document."""
    needed = STANDARD.needed() or 0
    enough = sum(len({each.conversation for each in task.curated.certification}) >= needed for task in tasks)
    trained = [task for task in tasks if task.compared is not None]
    repeats = sum(task.pairs for task in tasks)
    rows = "\n".join(_row(task) for task in tasks)
    return f"""# The tasks of recorded agents

What `understudy learn` finds in {calls:,} recorded calls of real agents (crewAI, MetaGPT, AutoGPT, gpt-engineer and
others), and what there is to learn of each task. `python -m tests.bench tasks` runs it and writes this file; no figure
comes from elsewhere.

- {len(tasks)} tasks. {sum(task.cluster.contract.kind is not ContractKind.TEXT for task in tasks)} of them have a narrow form: a tool call, JSON, or a label.
- {enough} have the {needed} certification conversations that a certificate of 5 % at 95 % takes: the log is too short to prove
  anything on. An agent that is used for a day makes more calls than were recorded of any of these.
- The LLM's agreement with itself can be told where a request was repeated: {repeats} pairs in all.
- A tiny model of a million parameters, made from nothing on this machine, was trained for {len(trained)} tasks. It can't know
  English; it shows that the way from log to adapter works on real calls, and how far such a model is from the LLM. A base
  model that was pre-trained is what a task is really given (`understudy models`).

*Samples* are what curation leaves for training; *held out* are conversations kept for threshold and certificate. *Agrees*
is by the task's comparator, over held-out calls: tool calls and JSON equal, labels equal, texts close in every sentence.
Nothing in the last column: fewer than {RECIPE.min_samples} samples.

| task | calls | conversations | answers | samples | held out | the LLM with itself | tiny model agrees |
| --- | ---: | ---: | --- | ---: | ---: | --- | --- |
{rows}
"""


def _row(task: Task) -> str:
    contract = task.cluster.contract
    kind = contract.kind.value.replace("_", " ") + (
        " or tool call" if contract.tools and contract.kind is not ContractKind.TOOL_CALL else ""
    )
    itself = f"{task.pairs - task.disagreements} of {task.pairs}" if task.pairs else ""
    reached = task.note or ("" if task.compared is None else f"{task.agreed} of {task.compared}")
    label = task.cluster.label.replace("|", "\\|")
    return (
        f"| {label} | {len(task.calls)} | {task.cluster.conversations} | {kind} | {len(task.curated.train)} "
        f"| {task.held_out} | {itself} | {reached} |"
    )


def _tell(began: float, line: str) -> None:
    sys.stderr.write(f"{time.monotonic() - began:5.0f} s  {line}\n")


if __name__ == "__main__":
    if not DATA.exists():
        sys.stdout.write(f"not measured: no recorded calls at {DATA}\n")
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS, Path(sys.argv[2]) if len(sys.argv) > 2 else DOCUMENT)
