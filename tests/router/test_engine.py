"""Decisions: the order of the questions, the share of a canary, and that every failure is the LLM's call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router.decision import Decision, Reason
from router.encoder import TransformerEncoder
from router.engine import Router
from router.features import CallFeatures, read_chat
from router.promotion import Promotion, Stage
from router.snapshot import Snapshot
from tests.router.conftest import EXTRACT, TRIAGE, chat, triage_text

ALIEN = "SELECT name, salary FROM employees WHERE department = 7 ORDER BY salary DESC; DROP TABLE quux; -- 0xDEADBEEF"


def triage(number: int = 1, **fields: Any) -> CallFeatures:
    return chat(("system", TRIAGE), ("user", triage_text(number)), **fields)


@pytest.fixture
def promoted(cluster_of: Callable[[str], str]) -> Callable[..., dict[str, Promotion]]:
    def promote(stage: Stage = Stage.LIVE, share: float = 1.0, **fields: Any) -> dict[str, Promotion]:
        cluster_id = cluster_of("triage desk")
        return {cluster_id: Promotion(cluster_id, "triage-slm", stage, share, "local", **fields)}

    return promote


Promote = Callable[..., dict[str, Promotion]]


def test_without_a_snapshot_all_calls_are_the_llms() -> None:
    assert Router(None, {}).decide(triage()) == Decision(Reason.NO_SNAPSHOT)
    assert Router(None, {}).decide(triage(), held=Reason.HEADER_OVERRIDE) == Decision(Reason.HEADER_OVERRIDE)


def test_an_unknown_task_is_the_llms(snapshot: Snapshot, promoted: Promote) -> None:
    decision = Router(snapshot, promoted()).decide(chat(("system", "You are a poet of the sea."), ("user", "A verse!")))
    assert (decision.reason, decision.cluster_id, decision.to_slm) == (Reason.UNKNOWN_TASK, None, False)
    assert decision.snapshot_id == snapshot.snapshot_id


def test_a_promoted_task_is_the_slms(snapshot: Snapshot, promoted: Promote, cluster_of: Callable[[str], str]) -> None:
    decision = Router(snapshot, promoted()).decide(triage())
    assert decision.reason is Reason.MATCHED
    assert decision.promotion is not None
    assert decision.promotion.model == "triage-slm"
    assert decision.cluster_id == cluster_of("triage desk")
    assert decision.contract == snapshot.clusters[cluster_of("triage desk")].contract
    assert decision.score >= 0.5
    assert decision.payload_text is None


@pytest.mark.parametrize(
    ("stage", "share", "fields", "call", "reason"),
    [
        (Stage.SHADOW, 1.0, {}, {}, Reason.SHADOW_ONLY),
        (Stage.CANDIDATE, 1.0, {}, {}, Reason.NOT_PROMOTED),
        (Stage.RETIRED, 1.0, {}, {}, Reason.NOT_PROMOTED),
        (Stage.CANARY, 0.0, {}, {}, Reason.CANARY_HELD_BACK),
        (Stage.CANARY, 1.0, {}, {}, Reason.MATCHED),
        (Stage.CANARY, 0.0, {"in_doubt": True}, {}, Reason.CANARY_HELD_BACK),
        (Stage.LIVE, 1.0, {"in_doubt": True, "max_context_tokens": 100}, {}, Reason.IN_DOUBT),
        (Stage.LIVE, 1.0, {"max_context_tokens": 100}, {}, Reason.CONTEXT_TOO_LONG),
        (Stage.LIVE, 1.0, {"max_context_tokens": 1024}, {}, Reason.MATCHED),
        (Stage.LIVE, 1.0, {}, {"n": 2}, Reason.UNSUPPORTED_FEATURE),
        (Stage.LIVE, 1.0, {}, {"store": True}, Reason.STATEFUL_CALL),
        # the earlier question wins
        (Stage.SHADOW, 1.0, {"max_context_tokens": 100}, {"n": 2}, Reason.UNSUPPORTED_FEATURE),
        (Stage.SHADOW, 1.0, {"max_context_tokens": 100}, {}, Reason.SHADOW_ONLY),
    ],
)
def test_reasons_in_their_order(
    snapshot: Snapshot, promoted: Promote, stage: Stage, share: float, fields: dict[str, Any],
    call: dict[str, Any], reason: Reason,
) -> None:  # fmt: skip
    decision = Router(snapshot, promoted(stage, share, **fields)).decide(triage(**call))
    assert decision.reason is reason
    assert decision.to_slm is (reason is Reason.MATCHED)
    assert decision.cluster_id is not None  # the log wants to know, whoever answers


def test_in_doubt_an_slm_ends_the_tool_loops_that_it_began_and_answers_an_operator(
    snapshot: Snapshot, promoted: Promote
) -> None:
    router = Router(snapshot, promoted(in_doubt=True))
    reasons = []
    for call_id in ("call_us_1", "call_1"):
        called = {"id": call_id, "type": "function", "function": {"name": "look", "arguments": "{}"}}
        messages = [
            {"role": "system", "content": TRIAGE}, {"role": "user", "content": triage_text(1)},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": call_id, "content": "an invoice"},
        ]  # fmt: skip
        reasons.append(router.decide(read_chat({"model": "gpt-4o", "messages": messages})).reason)
    assert reasons == [Reason.MATCHED, Reason.TOOL_LOOP_HELD]
    assert router.decide(triage()).reason is Reason.IN_DOUBT
    assert router.decide(triage(), force=True).reason is Reason.HEADER_OVERRIDE


def test_a_held_call_is_still_recognised(snapshot: Snapshot, promoted: Promote) -> None:
    decision = Router(snapshot, promoted()).decide(triage(), held=Reason.KEY_POLICY)
    assert (decision.reason, decision.to_slm) == (Reason.KEY_POLICY, False)
    assert decision.cluster_id in promoted()


def test_the_other_task_is_not_promoted(
    snapshot: Snapshot, promoted: Promote, cluster_of: Callable[[str], str]
) -> None:
    decision = Router(snapshot, promoted()).decide(
        chat(("system", EXTRACT), ("user", "Send 3 crates of nails to Bonn."))
    )
    assert decision.reason is Reason.NOT_PROMOTED
    assert decision.cluster_id == cluster_of("order clerk")


def test_a_canary_serves_its_share_and_keeps_whom_it_serves(snapshot: Snapshot, promoted: Promote) -> None:
    def served(share: float) -> set[int]:
        router = Router(snapshot, promoted(Stage.CANARY, share))
        return {number for number in range(400) if router.decide(triage(number)).to_slm}

    small, large = served(0.2), served(0.6)
    assert 50 <= len(small) <= 110
    assert 200 <= len(large) <= 280
    assert small < large
    assert served(0.2) == small


def test_a_canary_goes_one_way_with_a_conversation(snapshot: Snapshot, promoted: Promote) -> None:
    router = Router(snapshot, promoted(Stage.CANARY, 0.5))
    for number in range(40):
        turns = [("system", TRIAGE), ("user", triage_text(number))]
        first = router.decide(chat(*turns)).to_slm
        later = chat(*turns, ("assistant", "billing"), ("user", triage_text(number + 1)))
        assert router.decide(later).to_slm is first
    ways = {router.decide(triage(number), session="s-1").to_slm for number in range(40)}
    assert len(ways) == 1


def test_an_operator_gets_the_slm_whatever_the_stage(snapshot: Snapshot, promoted: Promote) -> None:
    router = Router(snapshot, promoted(Stage.SHADOW, max_context_tokens=1024))
    decision = router.decide(triage(), force=True)
    assert (decision.reason, decision.to_slm) == (Reason.HEADER_OVERRIDE, True)
    assert router.decide(triage(n=2), force=True).reason is Reason.UNSUPPORTED_FEATURE
    assert Router(snapshot, {}).decide(triage(), force=True).reason is Reason.NOT_PROMOTED


def test_a_broken_snapshot_fails_open(snapshot: Snapshot, promoted: Promote) -> None:
    broken = replace(snapshot, tasks=())
    decision = Router(broken, promoted()).decide(triage())
    assert (decision.reason, decision.to_slm) == (Reason.ROUTER_ERROR, False)


def test_payloads_like_the_tasks_own_are_the_slms(
    snapshot_with_payloads: Snapshot, encoder: TransformerEncoder, promoted: Promote
) -> None:
    router = Router(snapshot_with_payloads, promoted(), encoder)
    decisions = [router.settle(router.decide(triage(number))) for number in range(60, 160)]
    assert sum(decision.to_slm for decision in decisions) >= 90


def test_an_alien_payload_is_the_llms(
    snapshot_with_payloads: Snapshot, encoder: TransformerEncoder, promoted: Promote
) -> None:
    router = Router(snapshot_with_payloads, promoted(), encoder)
    decision = router.settle(router.decide(chat(("system", TRIAGE), ("user", ALIEN))))
    assert (decision.reason, decision.to_slm) == (Reason.PAYLOAD_OUT_OF_DISTRIBUTION, False)
    assert decision.payload_text is None


def test_settling_is_only_for_what_is_unclear(
    snapshot_with_payloads: Snapshot, encoder: TransformerEncoder, promoted: Promote
) -> None:
    router = Router(snapshot_with_payloads, promoted(), encoder)
    clear = next(d for n in range(60) if (d := router.decide(triage(n))).payload_text is None and d.to_slm)
    assert router.settle(clear) is clear
    unclear = replace(clear, payload_text=triage_text(3))
    assert router.settle(unclear) == clear
    assert router.settle(replace(clear, payload_text=ALIEN)).reason is Reason.PAYLOAD_OUT_OF_DISTRIBUTION


@pytest.mark.parametrize("other", [None, TransformerEncoder("/nowhere/else")])
def test_without_its_encoder_unclear_payloads_are_the_llms(
    snapshot_with_payloads: Snapshot, promoted: Promote, other: TransformerEncoder | None
) -> None:
    router = Router(snapshot_with_payloads, promoted(), other)
    decision = replace(router.decide(triage(1)), payload_text=triage_text(1))
    assert router.settle(decision).reason is Reason.PAYLOAD_OUT_OF_DISTRIBUTION


def test_an_encoder_that_can_not_be_loaded_fails_open(
    snapshot_with_payloads: Snapshot, promoted: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = TransformerEncoder("/nowhere/at/all")
    router = Router(replace(snapshot_with_payloads, encoder=missing.name), promoted(), missing)
    decision = replace(router.decide(triage(1)), payload_text=triage_text(1))
    assert router.settle(decision).reason is Reason.ROUTER_ERROR
    assert not router.settle(decision).to_slm


def test_an_operators_call_skips_the_payload_check(
    snapshot_with_payloads: Snapshot, encoder: TransformerEncoder, promoted: Promote
) -> None:
    router = Router(snapshot_with_payloads, promoted(), encoder)
    decision = router.decide(chat(("system", TRIAGE), ("user", ALIEN)), force=True)
    assert (decision.reason, decision.to_slm, decision.payload_text) == (Reason.HEADER_OVERRIDE, True, None)
