"""What curation takes in, what comes out, and by which rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson

from router.learning.corpus import LoggedCall
from router.learning.curation.chat import ChatMessage
from router.learning.curation.drops import Drop
from router.learning.curation.splits import Shares
from router.learning.curation.weighed import WeighedToken


@dataclass(frozen=True, slots=True)
class Candidate:
    """A logged call of the cluster, and what decides whether it may be learned from.

    Attributes:
        call: None where the log keeps no bodies of it. Its `answer` is None where there is no whole one.
        origin: whose key it came with, as a hash; empty where there was none.
        upstream: which LLM answered.
        session: the client's own tag for a conversation, empty where there is none.
        answered_by: `llm`, be it in an audit of what an SLM served, or `slm` where nobody asked the LLM.
        teacher: what the LLM called itself in its answer; None where it didn't say.
        redacted: whether the log blacked out parts of it.
        feedback: the outcome as it was reported, from -1 (wrong) to 1 (good); None where nobody said.
        weighed: the tokens of the answer's text as the LLM weighed them; none where the call didn't ask.
    """

    call: LoggedCall | None
    origin: str = ""
    upstream: str = "llm"
    session: str = ""
    answered_by: str = "llm"
    teacher: str | None = None
    redacted: bool = False
    feedback: float | None = None
    weighed: tuple[WeighedToken, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be learned from.

    Attributes:
        forbidden_upstreams, forbidden_origins: those who don't allow training on answers, or on their calls.
        since: the LLM answers otherwise since then; calls up to it are nothing to learn from. None: it never changed.
        min_feedback: calls with a worse outcome don't train.
        origin_share: at most this part of the samples is of one origin, where there are several; in (0, 1].
        origin_floor: that many of an origin are always allowed.
        max_samples: the newest are taken. 10,000 to 100,000 is what the paper takes for enough (S2).
        near: similarity of near duplicates, in (0, 1].
    """

    forbidden_upstreams: frozenset[str] = frozenset()
    forbidden_origins: frozenset[str] = frozenset()
    since: datetime | None = None
    min_feedback: float = 0.0
    origin_share: float = 0.5
    origin_floor: int = 500
    max_samples: int = 100_000
    near: float = 0.9
    shares: Shares = field(default_factory=Shares)


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation to be trained on; its last message is the answer. Personal data and secrets are masked.

    Attributes:
        weighed: the answer's tokens as the LLM weighed them; none where it is not known, or the answer was masked.
    """

    call_id: str
    conversation: str
    arrived_at: datetime
    chat: list[ChatMessage]
    tools: list[dict[str, Any]]
    parallel_tool_calls: bool | None = None
    weighed: tuple[WeighedToken, ...] = ()

    def to_openai(self) -> dict[str, Any]:
        """One line of OpenAI's chat fine-tuning format."""
        line: dict[str, Any] = {"messages": self.chat}
        if self.tools:
            line["tools"] = self.tools
            if self.parallel_tool_calls is not None:
                line["parallel_tool_calls"] = self.parallel_tool_calls
        return line


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A call kept from training. It stays as it came: what is served isn't masked, so what is proved isn't."""

    call_id: str
    conversation: str
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class Curated:
    """What became of a cluster's calls: each is a sample, held out, or dropped for one reason.

    Attributes:
        train: oldest first.
        calibration, certification: oldest first, each of other conversations; nothing was left out of them for its
            answer's sake.
        drops: reason → how many calls.
        masked: kind → how many samples hold a value of that kind.
    """

    train: tuple[Sample, ...]
    calibration: tuple[HeldOut, ...]
    certification: tuple[HeldOut, ...]
    drops: Mapping[Drop, int]
    masked: Mapping[str, int] = field(default_factory=Counter)

    @property
    def digest(self) -> str:
        """Names exactly these samples and held-out calls: 16 hex digits."""
        digest = blake2b(digest_size=8)
        for sample in self.train:
            digest.update(orjson.dumps([sample.call_id, sample.to_openai(), *sample.weighed]))
        for part in (self.calibration, self.certification):
            digest.update(orjson.dumps([each.call_id for each in part]))
        return digest.hexdigest()
