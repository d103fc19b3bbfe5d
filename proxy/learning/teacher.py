"""What the LLM answered to the log's calls: as it served them or, where an SLM did, as an audit had it say.

Whatever learns reads the log through here, so that all see the same calls: an audited one that trains is never held
out, and the contracts are those of the answers that are learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import orjson
import structlog

from proxy.wire.answer import read_answer
from router.learning.corpus import LoggedCall, read_logged_call
from router.learning.curation.weighed import WeighedToken, read_weighed
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.models import Call
from storage.repositories.calls import StoredCall, iter_calls
from storage.repositories.copies import audit_answers

log = structlog.get_logger()

_BATCH = 500


class Taught(NamedTuple):
    """A logged call with the LLM's answer, where there is one.

    Attributes:
        call: None where its body isn't kept or can't be read. Its `answer` is never an SLM's.
        is_answered: whether the LLM was asked: it served the call, or audited it.
        teacher: what the LLM called itself; None where it didn't say.
        weighed: the tokens of its text as it weighed them; none where the call didn't ask for that.
    """

    row: Call
    call: LoggedCall | None
    is_answered: bool
    teacher: str | None
    weighed: tuple[WeighedToken, ...] = ()


def taught_calls(
    session: ReadSession,
    cipher: Cipher,
    progress: Callable[[str], None],
    *,
    cluster_id: str | None = None,
    on_damaged: Callable[[Call], None] = lambda call: None,
) -> Iterator[Taught]:
    """Calls of all clusters or one, each once, in the order of their arrival.

    Args:
        progress: told `stage: how far`.
        on_damaged: gets each call whose bodies lie in a damaged block; it is left out.

    Raises:
        Undecipherable: the log is of another key.
    """
    stored_calls = iter_calls(session, cipher, cluster_id=cluster_id, on_damaged=on_damaged)
    number = 0
    while some := list(islice(stored_calls, _BATCH)):
        served = [stored.row.call_id for stored in some if stored.row.served_by != "llm"]
        audits = audit_answers(session, cipher, served, on_damaged=_note_damaged)
        yield from (_taught(stored, audits.get(stored.row.call_id)) for stored in some)
        number += len(some)
        if number % 1000 == 0:
            progress(f"reading the log: {number} calls")


def logged_call(stored: StoredCall, audit: object = None) -> LoggedCall | None:
    """A stored call as discovery sees it; None when its body can't be read.

    Answers count only where the LLM gave them whole: an SLM's answers are no evidence of what the LLM answers.

    Args:
        audit: what the LLM answered to a call that an SLM served, as parsed JSON.
    """
    return _logged_call(stored, _llm_answer(stored, audit))


def _logged_call(stored: StoredCall, answer: dict[str, Any] | None) -> LoggedCall | None:
    row = stored.row
    return read_logged_call(stored.call_id, row.endpoint, stored.request_body or b"", answer, row.arrived_at)


def _llm_answer(stored: StoredCall, audit: object) -> dict[str, Any] | None:
    """The LLM's whole answer as one JSON value, streams assembled."""
    row = stored.row
    if row.served_by != "llm":
        return audit if isinstance(audit, dict) else None
    if row.ended == "finished" and row.status == 200 and stored.response_body:
        return read_answer(row.endpoint, stored.response_body, row.response_content_type, row.response_content_encoding)
    return None


def _taught(stored: StoredCall, answer: bytes | None) -> Taught:
    row = stored.row
    if row.served_by == "llm":
        said = _llm_answer(stored, None)
        call = _logged_call(stored, said)
        asked = call is not None and call.features.body.get("top_logprobs")
        weighed = read_weighed(row.endpoint, said) if asked and said is not None else ()
        return Taught(row, call, True, row.model_reported, weighed)
    audit = None if answer is None else orjson.loads(answer)
    teacher = audit.get("model") if isinstance(audit, dict) else None
    return Taught(row, logged_call(stored, audit), audit is not None, teacher if isinstance(teacher, str) else None)


def _note_damaged(copy_id: bytes) -> None:
    """The call stays in the log as one that only an SLM has answered."""
    log.warning("copy.damaged", copy=copy_id.hex())
