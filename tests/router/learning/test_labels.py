"""Names of tasks: short, telling, distinct."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import ContractKind, OutputContract
from router.learning.labels import MAX_CHARS, distinct, label

TEXT = OutputContract(ContractKind.TEXT)
LABEL = OutputContract(ContractKind.LABEL, labels=("a", "b", "c"))
JSON = OutputContract(ContractKind.JSON, schema={})
TOOL = OutputContract(ContractKind.TOOL_CALL, tools={"get_weather": {}})
TOOLS = OutputContract(ContractKind.TOOL_CALL, tools={"get_weather": {}, "book": {}})


@pytest.mark.parametrize(
    ("lines", "contract", "expected"),
    [
        (["You are the triage desk of an online shop.", "Answer with one word."], LABEL,
         "triage desk of an online shop → label (3)"),
        (["Some preface.", "You are a Senior Writer, and you write."], TEXT, "Senior Writer → text"),
        (["You are a helpful assistant.", "Classify the ticket into a queue."], LABEL,
         "Classify the ticket into a queue → label (3)"),
        (["You are a helpful AI assistant that writes SQL queries."], TEXT, "You are a helpful AI assistant → text"),
        (["You are free to play as many turns as you like.", "Translate the sentence below."], TEXT,
         "Translate the sentence below → text"),
        (["You are an expert python developer tasked with making tests pass"], TEXT, "expert python developer → text"),
        (["# Instructions", "- Extract the names: all of them"], JSON, "Extract the names → JSON"),
        (["Your task is to summarize the text."], TEXT, "Summarize the text → text"),
        ([], TOOL, "Use get_weather → get_weather"),
        ([], TOOLS, "Use book, get_weather → tools (2)"),
        ([], TEXT, "Free-form requests → text"),
        (["###", "12", "Ticket # of @"], TEXT, "Ticket of → text"),
        (["You are " + "a very long title of somebody " * 9], TEXT,
         "very long title of somebody a very long → text"),
    ],
)  # fmt: skip
def test_says_who_or_what(lines: list[str], contract: OutputContract, expected: str) -> None:
    assert label(lines, contract) == expected


def test_twins_are_told_apart_by_a_word_of_their_own() -> None:
    lines = [["You are a Writer.", "Write about politics."], ["You are a Writer.", "Write about gardens."]]
    assert distinct(["Writer → text"] * 2, lines) == ["Writer (politics) → text", "Writer (gardens) → text"]


def test_twins_without_one_get_numbers() -> None:
    assert distinct(["Writer → text"] * 2 + ["Poet → text"], [["x"]] * 3) == [
        "Writer (1) → text", "Writer (2) → text", "Poet → text",
    ]  # fmt: skip


@given(st.lists(st.lists(st.text(max_size=80), max_size=4), min_size=1, max_size=12))
def test_names_are_short_and_no_two_alike(tasks: list[list[str]]) -> None:
    names = distinct([label(lines, TOOL) for lines in tasks], tasks)
    assert len(set(names)) == len(names)
    assert all(0 < len(name) <= MAX_CHARS and "\n" not in name for name in names)
