"""Shadow and audit copies judged: does what the SLM said agree with what the LLM said to the same call?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog

from proxy.learning.teacher import logged_call
from proxy.logs import OncePerMinute
from proxy.proving.comparison import Comparison, encoder_of
from proxy.proving.text_judge import judge_of
from proxy.settings import Settings
from proxy.wire.answer import read_answer
from router.contract import OutputContract
from router.learning import corpus
from router.learning.conversations import conversation_of
from router.learning.proof.agreement import Outcome, Verdict
from storage.cipher import Cipher
from storage.database import Database, ReadSession
from storage.errors import DatabaseDown, NotFound, StorageError
from storage.models import CopyRow
from storage.repositories.calls import StoredCall, get_call
from storage.repositories.clusters import get_cluster
from storage.repositories.copies import ANSWERED, AUDIT, open_answer

log = structlog.get_logger()

_BACKEND_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Judged:
    """A copy with its verdict.

    Attributes:
        conversation: of the call; calls of one share their mistakes.
        is_compared: whether both had answered.
        is_served: whether the SLM's answer was served to a client (audit), or could have been (shadow).
        teacher: what the LLM calls itself in an audit's answer; None elsewhere.
        backend: what the LLM calls the backend that answered, where it does.
    """

    copy_id: bytes
    promotion_id: int
    is_audit: bool
    conversation: str
    verdict: Verdict
    is_compared: bool
    is_served: bool
    confidence: float | None
    at: datetime
    teacher: str | None = None
    backend: str | None = None


class Judge:
    """Compares copies, each by its own task's contract."""

    def __init__(self, settings: Settings, cipher: Cipher, database: Database) -> None:
        self._cipher = cipher
        self._encoder = encoder_of(settings)
        self._text = judge_of(settings, database)
        self._log_now = OncePerMinute()

    def judge(self, session: ReadSession, copies: Sequence[CopyRow]) -> list[Judged]:
        """Judge all; an odd one is incomparable, and keeps none of the others from its verdict.

        Raises:
            DatabaseDown: nothing is judged.
        """
        judged = [self._judged(session, row) for row in copies]
        if judged and self._text is not None:
            self._text.settle()
        return judged

    def comparison(self, session: ReadSession, cluster_id: str) -> Comparison:
        """A task's comparator.

        Raises:
            NotFound: there is no such task (any more).
        """
        contract = OutputContract.from_json(get_cluster(session, self._cipher, cluster_id).contract)
        return Comparison(contract, self._encoder, self._text)

    def _judged(self, session: ReadSession, row: CopyRow) -> Judged:
        conversation, is_compared = row.call_id.hex(), False
        teacher, backend = None, None
        try:
            call = get_call(session, self._cipher, row.call_id)
            conversation = _conversation(call)
            copied, said = orjson.loads(open_answer(self._cipher, row) or b"null"), _said(call)
            of_llm = copied if row.kind == AUDIT else said
            if isinstance(of_llm, dict):
                backend = of_llm.get("system_fingerprint")
                teacher = of_llm.get("model") if row.kind == AUDIT else None
            verdict, is_compared = self._compared(session, row, call, copied, said)
        except DatabaseDown:
            raise
        except NotFound as error:
            verdict = Verdict(Outcome.INCOMPARABLE, f"deleted meanwhile: {error}")
        except StorageError as error:
            verdict = Verdict(Outcome.INCOMPARABLE, f"can't be read: {error.reason}")
        except Exception as error:  # what logged bodies can do to a reader has no end; the next copy is another
            if self._log_now(type(error).__name__):
                log.exception("copy.not_judged", copy=row.copy_id.hex())
            verdict = Verdict(Outcome.INCOMPARABLE, f"could not be judged: {type(error).__name__}")
        return Judged(
            copy_id=row.copy_id,
            promotion_id=row.promotion_id,
            is_audit=row.kind == AUDIT,
            conversation=conversation,
            verdict=verdict,
            is_compared=is_compared,
            is_served=row.kind == AUDIT or row.outcome == ANSWERED,
            confidence=row.confidence,
            at=row.at,
            teacher=teacher if isinstance(teacher, str) else None,
            backend=backend[:_BACKEND_CHARACTERS] if isinstance(backend, str) else None,
        )

    def _compared(
        self, session: ReadSession, row: CopyRow, call: StoredCall, copied: object, said: dict[str, Any] | None
    ) -> tuple[Verdict, bool]:
        """The verdict, and whether there were two answers to compare: what the copy says, and what the client got."""
        logged = logged_call(call)
        if logged is None:
            return Verdict(Outcome.INCOMPARABLE, "the log keeps nothing that was said"), False
        if not isinstance(copied, dict):
            return Verdict(Outcome.INCOMPARABLE, f"there is no answer: {row.outcome}"), False
        copy = corpus.read_answer(call.row.endpoint, copied)
        own = corpus.read_answer(call.row.endpoint, said) if said is not None else None
        reference, answer = (copy, own) if row.kind == AUDIT else (logged.answer, copy)
        verdict = self.comparison(session, row.cluster_id).compare(logged.features, reference, answer)
        return verdict, reference is not None


def _said(call: StoredCall) -> dict[str, Any] | None:
    """What the client got, whoever served it."""
    row = call.row
    return read_answer(
        row.endpoint, call.response_body or b"", row.response_content_type, row.response_content_encoding
    )


def _conversation(call: StoredCall) -> str:
    """What the client calls its session, else what the call's messages begin with."""
    if call.row.session:
        return f"{call.row.origin.hex()} {call.row.session}"
    logged = logged_call(call)
    return conversation_of(logged.features) if logged else call.call_id
