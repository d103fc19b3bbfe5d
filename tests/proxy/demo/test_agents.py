"""The demo's simulated agents, and the LLM that knows what is right."""

from __future__ import annotations

import itertools

import orjson
import pytest

from proxy.demo.agents import AGENTS, Agent, SimulatedLLM, triage
from proxy.demo.traffic import narrow, said
from router.contract import Answer, ContractKind, contract_for, violation
from router.features import ToolCall, read_chat
from router.learning.contracts import induce

LEARNED = 300


def answer_of(answer: str | dict[str, object]) -> Answer:
    if isinstance(answer, str):
        return Answer(answer)
    calls = answer["tool_calls"]
    assert isinstance(calls, list)
    return Answer("", tuple(ToolCall(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls))


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_agent_never_says_the_same_twice_and_says_it_again_with_the_same_seed(agent: Agent) -> None:
    first, again = (list(itertools.islice(agent.calls(3), LEARNED)) for _ in range(2))
    assert first == again
    asked = [assignment.request["messages"][1]["content"] for assignment in first]
    assert len(set(asked)) >= 0.99 * LEARNED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("triage", ContractKind.JSON),
        ("languages", ContractKind.LABEL),
        ("rooms", ContractKind.TOOL_CALL),
        ("letters", ContractKind.TEXT),
        ("slogans", ContractKind.TEXT),
    ],
)
def test_its_answers_have_the_form_that_they_are_shown_for(name: str, kind: ContractKind) -> None:
    agent = next(agent for agent in AGENTS if agent.name == name)
    calls = list(itertools.islice(agent.calls(3), LEARNED))
    features = [read_chat(call.request) for call in calls]
    answers = [answer_of(call.answer) for call in calls]
    contract = induce(features, answers)
    assert contract.kind is kind
    assert agent.narrow is (kind is not ContractKind.TEXT)
    further = list(itertools.islice(agent.calls(4), LEARNED))
    for call in further:
        assert violation(contract_for(contract, read_chat(call.request)), answer_of(call.answer)) is None


def test_the_llm_answers_what_it_expects_and_nothing_else() -> None:
    llm = SimulatedLLM()
    for agent in narrow():
        expected, other = itertools.islice(agent.calls(1), 2)
        llm.expect(expected)
        assert llm.answer(expected.request | {"max_tokens": 7}) == expected.answer
        assert llm.answer(other.request) is None
    assert llm.answer({"messages": None}) is None


def test_an_llm_that_was_changed_answers_one_agent_otherwise_and_the_others_as_before() -> None:
    llm = SimulatedLLM()
    assignments = {agent.name: next(agent.calls(1)) for agent in narrow()}
    for assignment in assignments.values():
        llm.expect(assignment)
    llm.change(triage.SYSTEM, triage.all_urgent)
    for name, assignment in assignments.items():
        now = llm.answer(assignment.request)
        if name == "triage":
            assert isinstance(now, str)
            assert isinstance(assignment.answer, str)
            assert orjson.loads(now) == orjson.loads(assignment.answer) | {"urgent": True}
        else:
            assert now == assignment.answer


def test_answers_are_compared_by_what_they_say() -> None:
    call = {"name": "book", "arguments": '{"day": "monday", "room":"hall"}'}
    other = {"name": "book", "arguments": '{"room":"hall","day":"monday"}'}
    assert said({"content": None, "tool_calls": [{"function": call}]}) == said({"tool_calls": [{"function": other}]})
    assert said('{"a": 1}') == said({"content": '{"a":1}'})
    assert said("german") != said("dutch")
