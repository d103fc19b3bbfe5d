"""From calls to samples: each call is a sample, held out, or dropped for one reason."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.replay.recordings import lines
from router.contract import ContractKind, OutputContract
from router.learning.conversations import conversation_of
from router.learning.corpus import LoggedCall, read_logged_call
from router.learning.curation.curate import curate
from router.learning.curation.drops import Drop
from router.learning.curation.reading import Reader
from router.learning.curation.samples import Candidate, Curated, Rules
from router.learning.curation.splits import Shares
from router.learning.curation.weighed import WeighedToken
from tests.bench.discovery import DATA

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = OutputContract(ContractKind.TEXT)
ALL_TRAIN = Rules(shares=Shares(0.0, 0.0))


def candidate(
    number: int,
    user: str,
    answer: str | dict[str, Any],
    *,
    finish: str = "stop",
    fields: dict[str, Any] | None = None,
    **about: Any,
) -> Candidate:
    """The call that came `number` minutes after the first; an answer is a text, or a call of the tool `reply`."""
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": user}], **(fields or {})}
    message: dict[str, Any] = {"role": "assistant", "content": answer}
    if isinstance(answer, dict):
        call = {"id": f"call_{number:024x}", "function": {"name": "reply", "arguments": json.dumps(answer)}}
        message = {"role": "assistant", "tool_calls": [call]}
    completion = {"model": "gpt-4o", "choices": [{"message": message, "finish_reason": finish}]}
    moment = BEGAN + timedelta(minutes=number)
    call_id = f"c-{number:04}"
    return Candidate(read_logged_call(call_id, "chat", json.dumps(request).encode(), completion, moment), **about)


def total(curated: Curated) -> int:
    return len(curated.train) + len(curated.calibration) + len(curated.certification) + sum(curated.drops.values())


def only_drop(reader: Reader, each: Candidate, contract: OutputContract = TEXT, rules: Rules = ALL_TRAIN) -> Drop:
    curated = curate([each], contract, reader, rules)
    assert not curated.train
    [(reason, count)] = curated.drops.items()
    assert count == 1
    return reason


def called(**properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"tools": [{"type": "function", "function": {"name": "reply", "parameters": parameters}}]}


LABELS = OutputContract(ContractKind.LABEL, labels=("yes", "no"))
FORBIDS = replace(ALL_TRAIN, forbidden_upstreams=frozenset({"strict"}), forbidden_origins=frozenset({"k1"}))
CASES = {
    Drop.NOT_KEPT: Candidate(None),
    Drop.SLM_SERVED: candidate(0, "a", "yes", answered_by="slm"),
    Drop.FORBIDDEN_UPSTREAM: candidate(0, "a", "yes", upstream="strict"),
    Drop.FORBIDDEN_KEY: candidate(0, "a", "yes", origin="k1"),
    Drop.INCOMPLETE: candidate(0, "a", "yes", finish="length"),
    Drop.POOR_FEEDBACK: candidate(0, "a", "yes", feedback=-0.5),
    Drop.BROKEN_CONTRACT: candidate(0, "a", "maybe"),
    Drop.MASKED_BROKEN: candidate(0, "am I eva@kunde.at?", "eva@kunde.at"),
}


@pytest.mark.parametrize("reason", CASES)
def test_each_reason_is_counted(reader: Reader, reason: Drop) -> None:
    contract = replace(LABELS, labels=("yes", "eva@kunde.at"))
    assert only_drop(reader, CASES[reason], contract, FORBIDS) is reason


def test_an_empty_answer_is_incomplete(reader: Reader) -> None:
    assert only_drop(reader, candidate(0, "a", " ")) is Drop.INCOMPLETE


def test_an_answer_with_what_the_log_blacked_out_is_dropped(reader: Reader) -> None:
    assert only_drop(reader, candidate(0, "mail [EMAIL]", "sent to [EMAIL]", redacted=True)) is Drop.REDACTED
    assert curate([candidate(0, "mail [EMAIL]", "sent", redacted=True)], TEXT, reader, ALL_TRAIN).train


def test_the_tools_own_schema_decides_whether_masking_broke_the_answer(reader: Reader) -> None:
    user, answer = "card 4111 1111 1111 1111", {"card": "4111 1111 1111 1111"}
    contract = OutputContract(ContractKind.TOOL_CALL, tools={"reply": {"type": "object"}})
    free = candidate(0, user, answer, fields=called(card={"type": "string"}))
    strict = candidate(0, user, answer, fields=called(card={"type": "string", "pattern": "^[0-9 ]+$"}))
    [sample] = curate([free], contract, reader, ALL_TRAIN).train
    assert json.loads(sample.chat[-1]["tool_calls"][0]["function"]["arguments"]) == {"card": "[CARD_1]"}
    assert only_drop(reader, strict, contract) is Drop.MASKED_BROKEN


def test_old_schemas_repetitions_and_too_much_of_one_origin_are_left_out(reader: Reader) -> None:
    old = called(a={"type": "string"})
    contract = OutputContract(ContractKind.TEXT, tools={"reply": {"type": "object"}}, open_tools=True)
    calls = [candidate(0, "before", "yes", fields=old)]
    calls += [
        candidate(1 + n, f"question {n}", f"answer {n}", fields=called(b={"type": "string"}), origin="loud")
        for n in range(12)
    ]
    calls += [candidate(20 + n, f"other {n}", f"answer {n}", origin="quiet") for n in range(4)]
    calls += [candidate(30, "other 3", "answer 3", origin="quiet")]
    curated = curate(calls, contract, reader, replace(ALL_TRAIN, origin_floor=3))
    assert curated.drops == {Drop.OLD_SCHEMA: 1, Drop.DUPLICATE: 1, Drop.ORIGIN_CAP: 8}
    assert total(curated) == len(calls)
    one_origin = curate(calls[1:13], contract, reader, replace(ALL_TRAIN, origin_floor=3))
    assert len(one_origin.train) == 12
    newest = curate(calls[1:13], contract, reader, replace(ALL_TRAIN, max_samples=5))
    assert [sample.call_id for sample in newest.train] == [f"c-{n:04}" for n in range(8, 13)]


def test_what_the_llm_said_before_it_changed_is_neither_learned_from_nor_held_out(reader: Reader) -> None:
    calls = [candidate(n, f"question {n}", f"answer {n}") for n in range(40)]
    curated = curate(calls, TEXT, reader, Rules(since=BEGAN + timedelta(minutes=19)))
    assert curated.drops == {Drop.BEFORE_CHANGE: 20}
    kept = (curated.train, curated.calibration, curated.certification)
    assert [len(part) for part in kept] == [12, 3, 5]
    assert min(each.call_id for part in kept for each in part) == "c-0020"


def test_held_out_calls_are_not_picked_by_their_answers(reader: Reader) -> None:
    odd = ["maybe", "eva@kunde.at"]
    calls = [candidate(n, f"question {n}", odd[n % 2], feedback=-0.5) for n in range(20)]
    curated = curate(calls, LABELS, reader)
    assert curated.drops == {Drop.POOR_FEEDBACK: 12}
    assert [len(curated.calibration), len(curated.certification)] == [3, 5]
    assert [call.call_id for call in curated.certification] == [f"c-{n:04}" for n in range(15, 20)]


def test_the_same_calls_in_any_order_give_the_same_samples(reader: Reader) -> None:
    calls = [candidate(n, f"question {n % 30} of eva{n}@kunde.at", "yes", origin=f"k{n % 3}") for n in range(60)]
    one, other = curate(calls, LABELS, reader), curate(calls[::-1], LABELS, reader)
    assert one.digest == other.digest
    assert one.masked == {"EMAIL": len(one.train)}
    assert curate(calls[:-1], LABELS, reader).digest != one.digest


def test_what_the_llm_weighed_stays_with_answers_that_were_not_masked(reader: Reader) -> None:
    def call(number: int, asked: str, answer: str) -> Candidate:
        token = WeighedToken(answer, ((answer, -0.1), ("perhaps", -2.0)))
        return candidate(number, asked, answer, weighed=(token,))

    calls = [call(1, "Is the parcel here?", "It is."), call(2, "Write to eva@kunde.at", "To eva@kunde.at: hello")]
    plain, masked = curate(calls, TEXT, reader, ALL_TRAIN).train
    assert plain.weighed == calls[0].weighed
    assert masked.weighed == ()
    assert "kunde.at" not in repr(masked)


def test_a_sample_is_a_line_of_openais_format(reader: Reader) -> None:
    contract = OutputContract(ContractKind.TOOL_CALL, tools={"reply": {"type": "object"}})
    fields = called(to={"type": "string"}) | {"parallel_tool_calls": False, "temperature": 0}
    [sample] = curate([candidate(0, "to Ada", {"to": "Ada"}, fields=fields)], contract, reader, ALL_TRAIN).train
    call = {"id": "call_1", "type": "function", "function": {"name": "reply", "arguments": '{"to": "Ada"}'}}
    assert sample.to_openai() == {
        "messages": [{"role": "user", "content": "to Ada"}, {"role": "assistant", "tool_calls": [call]}],
        "tools": fields["tools"],
        "parallel_tool_calls": False,
    }


@pytest.mark.skipif(not DATA.exists(), reason="the recorded agent calls are not here")
def test_real_agent_calls_become_samples(reader: Reader) -> None:
    """InterCode's turns: 450 calls that re-send their history; each comes out as a sample, held out, or counted."""
    calls: list[LoggedCall] = []
    for number, line in lines(DATA):
        row = json.loads(line)
        if row["agent"].startswith("intercode"):
            response = row["response"]
            answer = response if "choices" in response else {"choices": [{"message": response}]}
            call = read_logged_call(str(number), "chat", json.dumps(row["request"]).encode(), answer)
            assert call is not None
            calls.append(call)
    curated = curate([Candidate(call) for call in calls], TEXT, reader)
    assert total(curated) == len(calls) >= 400
    assert len(curated.train) >= 150
    held_out = {call.conversation for call in (*curated.calibration, *curated.certification)}
    assert held_out.isdisjoint(sample.conversation for sample in curated.train)
    assert held_out <= {conversation_of(call.features) for call in calls}
