"""What counts as replaceable, and what doesn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.promotion.proof import subject_today
from proxy.report.replaceable import Standing
from proxy.report.tasks import LogReport
from storage.repositories.certificates import add_certificate
from tests.proxy.certificates import certificate_of
from tests.proxy.report.conftest import Log, call, triage

Learned = Callable[[list[dict[str, Any]]], LogReport]


def story(number: int) -> dict[str, Any]:
    told = "Once " + " ".join(f"word{number * 7 + place}" for place in range(12)) + "."
    return call(number, "You are a poet who tells the user a short story about what they name.", f"Of {number}", told)


def standings(found: LogReport) -> dict[str, str]:
    return {task.known.label: task.standing.value for task in found.report.tasks}


def test_a_narrow_task_that_recurs_often_is_replaceable_and_free_text_is_counted_apart(learned: Learned) -> None:
    found = learned([*map(triage, range(80)), *map(story, range(100, 170))]).report
    label, text = found.tasks
    assert (label.known.kind, label.standing, label.calls) == ("label", Standing.REPLACEABLE, 80)
    assert (text.known.kind, text.standing, text.calls) == ("text", Standing.FREE_TEXT, 70)
    assert found.replaceable.calls.value == pytest.approx(80 / 150)
    assert found.replaceable.calls.low < 80 / 150 < found.replaceable.calls.high
    assert found.free_text.calls.value == pytest.approx(70 / 150)
    assert found.replaceable.cost is not None
    assert found.replaceable.cost.value == pytest.approx(80 / 150)
    assert sum(part.calls for part in found.parts) == pytest.approx(1)


def test_fewer_conversations_than_a_proof_takes_are_too_few(learned: Learned) -> None:
    found = learned([triage(number) for number in range(58)]).report
    assert found.needed == 59
    assert [task.standing for task in found.tasks] == [Standing.RARE]
    assert found.replaceable.calls.value == 0


def test_one_conversation_counts_once_however_often_it_is_repeated(learned: Learned) -> None:
    found = learned([triage(number, customer=number % 30) for number in range(90)]).report
    [task] = found.tasks
    assert (task.calls, task.conversations, task.repeated, task.standing) == (90, 30, 60, Standing.RARE)


def test_calls_that_only_the_llm_can_answer_are_not_replaceable(learned: Learned) -> None:
    held = [triage(number) for number in range(100, 120)]
    for each in held:
        each["request"]["n"] = 2
    found = learned([*map(triage, range(80)), *held]).report
    [task] = found.tasks
    assert (task.calls, task.may_divert) == (100, 80)
    assert found.replaceable.calls.value == pytest.approx(0.8)
    assert {part.standing: part.calls for part in found.parts}[Standing.HELD] == pytest.approx(0.2)


def test_an_llm_that_contradicts_itself_keeps_its_task(learned: Learned) -> None:
    wrong = {"billing": "shipping", "shipping": "returns", "returns": "billing"}
    first = [triage(number) for number in range(80)]
    again = [triage(100 + number, customer=number) for number in range(80)]
    for each in again[:40]:
        message = each["response"]["choices"][0]["message"]
        message["content"] = wrong[message["content"]]
    [task] = learned([*first, *again]).report.tasks
    assert task.self_agreement is not None
    assert (task.self_agreement.pairs, task.self_agreement.share.value) == (80, 0.5)
    assert task.standing is Standing.UNSTEADY


def test_only_what_a_certificate_covers_is_proved(log: Log) -> None:
    log.add([triage(number) for number in range(80)])
    log.learn()
    cluster_id = log.report().report.tasks[0].known.cluster_id
    with log.database.write() as session:
        subject = subject_today(session, log.cipher, cluster_id, "triage", None, None)
        certificate = certificate_of(subject)
        add_certificate(session, cluster_id, "triage", certificate.issued_at, certificate.to_json())
    found = log.report().report
    assert found.tasks[0].standing is Standing.PROVED
    parts = {part.standing: part.calls for part in found.parts}
    assert parts[Standing.PROVED] == pytest.approx(certificate.coverage)
    assert parts[Standing.REPLACEABLE] == pytest.approx(1 - certificate.coverage)
    assert found.replaceable.calls.value == 1


def test_a_call_without_its_text_counts_and_is_not_replaceable(log: Log) -> None:
    from storage.records import CallFacts
    from storage.repositories.calls import insert_calls
    from tests.storage.conftest import make_record

    log.add([triage(number) for number in range(60)])
    log.learn()
    with log.database.write() as session:
        insert_calls(session, log.cipher, [(make_record(log="metadata"), CallFacts()) for _ in range(60)])
    found = log.report().report
    assert (found.calls, found.unreadable) == (120, 60)
    assert found.replaceable.calls.value == pytest.approx(0.5)
