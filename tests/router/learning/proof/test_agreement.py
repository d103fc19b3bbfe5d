"""Whether two answers agree, by the contract of their task."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import Answer, ContractKind, OutputContract
from router.features import ToolCall
from router.learning.proof.agreement import Comparator, Json, Label, Outcome, ToolCalls, comparator_for
from router.learning.proof.text import JudgedText

AGREE, DISAGREE, INCOMPARABLE = Outcome.AGREE, Outcome.DISAGREE, Outcome.INCOMPARABLE
SAME_LENGTH = JudgedText("length", lambda left, right: len(left.text) == len(right.text))
SEARCH = {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "default": 10}}}
CONTRACTS = [
    OutputContract(ContractKind.TOOL_CALL, tools={"search": SEARCH}),
    OutputContract(ContractKind.JSON, schema={"type": "object"}, tools={"search": SEARCH}),
    OutputContract(ContractKind.LABEL, labels=("yes", "no"), tools={"search": SEARCH}),
    OutputContract(ContractKind.TEXT, tools={"search": SEARCH}),
]


def said(text: str) -> Answer:
    return Answer(text)


def called(*calls: tuple[str, Any]) -> Answer:
    """An answer of tool calls; arguments that are no text are written as JSON."""
    return Answer(
        tool_calls=tuple(
            ToolCall(f"call_{place}", name, value if isinstance(value, str) else orjson.dumps(value).decode())
            for place, (name, value) in enumerate(calls)
        )
    )


ANSWERS = st.one_of(
    st.sampled_from(["", "yes", "No.", '{"a": 1}', '{"a": 2}', "{", "[1]", "some words"]).map(said),
    st.lists(
        st.tuples(st.sampled_from(["search", "open"]), st.sampled_from(["", "{}", '{"query": "a"}', "[", "[1]"])),
        min_size=1, max_size=3,
    ).map(lambda calls: called(*calls)),
)  # fmt: skip


@given(st.sampled_from(CONTRACTS), ANSWERS)
def test_whatever_can_be_read_agrees_with_itself(contract: OutputContract, answer: Answer) -> None:
    assert comparator_for(contract, SAME_LENGTH).compare(answer, answer).outcome in (AGREE, INCOMPARABLE)


@given(st.sampled_from(CONTRACTS), ANSWERS, ANSWERS)
def test_who_is_the_reference_makes_no_difference_between_readable_answers(
    contract: OutputContract, left: Answer, right: Answer
) -> None:
    comparator = comparator_for(contract, SAME_LENGTH)
    there, back = comparator.compare(left, right), comparator.compare(right, left)
    if INCOMPARABLE not in (there.outcome, back.outcome):
        assert there.outcome == back.outcome


@given(st.sampled_from(CONTRACTS), ANSWERS, ANSWERS)
def test_an_unreadable_reference_measures_nobody(contract: OutputContract, left: Answer, right: Answer) -> None:
    comparator = comparator_for(contract, SAME_LENGTH)
    unreadable = comparator.compare(left, left).outcome is INCOMPARABLE
    outcome = comparator.compare(left, right).outcome
    assert (outcome is INCOMPARABLE) == unreadable or outcome is DISAGREE


@pytest.mark.parametrize("kind", ContractKind)
def test_an_empty_reference_is_incomparable_under_every_contract(kind: ContractKind) -> None:
    contract = OutputContract(kind, schema={}, labels=("a", "b"), tools={"search": SEARCH})
    for answer in (said(""), said("a"), called(("search", {}))):
        assert comparator_for(contract, SAME_LENGTH).compare(said(" \n"), answer).outcome is INCOMPARABLE


@pytest.mark.parametrize("kind", [ContractKind.JSON, ContractKind.LABEL, ContractKind.TEXT])
def test_answering_where_the_other_calls_a_tool_disagrees(kind: ContractKind) -> None:
    contract = OutputContract(kind, schema={}, labels=("a", "b"), tools={"search": SEARCH})
    comparator = comparator_for(contract, SAME_LENGTH)
    assert comparator.compare(said("{}"), called(("search", {}))).outcome is DISAGREE
    assert comparator.compare(called(("search", {})), said("{}")).outcome is DISAGREE
    assert comparator.compare(called(("search", {})), called(("search", {"limit": 10}))).outcome is AGREE


def test_reasons_hold_nothing_of_the_answers() -> None:
    secret = "hunter2"
    pairs = [
        (said(f'{{"a": "{secret}"}}'), said(f'{{"b": "{secret}"}}')),
        (called((secret, {"a": secret})), called((secret, {"b": secret}))),
        (said(secret), said(secret + "!")),
        (called(("search", secret)), called(("search", secret))),
    ]
    for contract in CONTRACTS:
        for left, right in pairs:
            verdict = comparator_for(contract, SAME_LENGTH).compare(left, right)
            assert secret not in verdict.reason


class TestLabels:
    @pytest.mark.parametrize("answer", ["billing", " Billing\n", '"billing"', "**billing**", "BILLING.", "ｂilling"])
    def test_dress_makes_no_other_label(self, answer: str) -> None:
        assert Label(("billing", "shipping")).compare(said("billing"), said(answer)).outcome is AGREE

    @pytest.mark.parametrize("answer", ["shipping", "", "billing and shipping", "bill ing", "not billing"])
    def test_another_label_disagrees(self, answer: str) -> None:
        assert Label(("billing", "shipping")).compare(said("billing"), said(answer)).outcome is DISAGREE

    def test_labels_that_differ_in_their_dress_only_are_told_apart(self) -> None:
        comparator = Label(("A", "a", "b"))
        assert comparator.name == "label: exact"
        assert comparator.compare(said("A"), said("a")).outcome is DISAGREE
        assert comparator.compare(said("A"), said(" A ")).outcome is AGREE

    def test_labels_of_nothing_but_marks_are_read_as_they_are(self) -> None:
        assert Label(("!", "?")).compare(said("!"), said("?")).outcome is DISAGREE


class TestJson:
    @pytest.mark.parametrize("answer", ['{"b":[1,2],"a":1}', '{\n "a": 1.0,\n "b": [1, 2]}'])
    def test_spelling_makes_no_other_value(self, answer: str) -> None:
        assert Json().compare(said('{"a": 1, "b": [1, 2]}'), said(answer)).outcome is AGREE

    def test_a_difference_is_named_by_its_place(self) -> None:
        verdict = Json().compare(said('{"a": {"x": 1}, "b": [1, 2]}'), said('{"a": {"x": 2}, "b": [1, 3], "c": 0}'))
        assert verdict.fields == ("/a/x", "/b/1", "/c")
        assert verdict.reason == "differs in 3 places"

    def test_a_cut_off_reference_is_incomparable_and_a_cut_off_answer_disagrees(self) -> None:
        assert Json().compare(said('{"a": '), said('{"a": 1}')).outcome is INCOMPARABLE
        assert Json().compare(said('{"a": 1}'), said('{"a": ')).outcome is DISAGREE


class TestToolCalls:
    comparator: Comparator = ToolCalls({"search": SEARCH})

    def test_order_and_ids_and_defaults_make_no_difference(self) -> None:
        left = called(("open", {"page": 1}), ("search", {"query": "a"}))
        right = called(("search", {"limit": 10.0, "query": "a"}), ("open", {"page": 1}))
        assert self.comparator.compare(left, right).outcome is AGREE

    def test_arguments_encoded_twice_are_read(self) -> None:
        twice = orjson.dumps('{"query": "a"}').decode()
        assert self.comparator.compare(called(("search", {"query": "a"})), called(("search", twice))).outcome is AGREE

    def test_no_arguments_are_empty_arguments(self) -> None:
        assert self.comparator.compare(called(("open", "")), called(("open", {}))).outcome is AGREE

    def test_talk_beside_the_calls_does_not_count(self) -> None:
        call = called(("open", {}))
        assert self.comparator.compare(call, Answer("Let me see.", call.tool_calls)).outcome is AGREE

    def test_other_arguments_are_named_by_their_place(self) -> None:
        verdict = self.comparator.compare(called(("search", {"query": "a"})), called(("search", {"query": "b"})))
        assert verdict.outcome is DISAGREE
        assert verdict.fields == ("/search/query",)

    @pytest.mark.parametrize(
        "answer",
        [
            called(("open", {"query": "a"})),
            called(("search", {"query": "a"}), ("search", {"query": "a"})),
            called(("search", "[1]")),
            called(("search", "{")),
            said("I would search for it."),
        ],
        ids=["another tool", "twice", "no object", "cut off", "no call"],
    )
    def test_anything_else_disagrees(self, answer: Answer) -> None:
        assert self.comparator.compare(called(("search", {"query": "a"})), answer).outcome is DISAGREE

    def test_how_often_a_call_is_made_counts(self) -> None:
        left = called(("open", {"p": 1}), ("open", {"p": 1}), ("open", {"p": 2}))
        right = called(("open", {"p": 1}), ("open", {"p": 2}), ("open", {"p": 2}))
        assert self.comparator.compare(left, right).outcome is DISAGREE
