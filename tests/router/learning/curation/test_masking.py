"""What an answer copies survives; what could not be learned is dropped, not broken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.learning.curation.drops import Drop, Dropped
from router.learning.curation.masking import Masked, mask
from router.learning.curation.reading import Reader, rewrite

#: An answer: a text, or the arguments of a call.
Said = str | dict[str, Any]


def masked(reader: Reader, user: str, answer: Said, tools: list[dict[str, Any]] | None = None) -> Masked:
    return mask([{"role": "user", "content": user}, said(answer)], tools or [], reader)


def said(answer: Said) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"role": "assistant", "content": answer}
    call = {"id": "call_1", "type": "function", "function": {"name": "reply", "arguments": json.dumps(answer)}}
    return {"role": "assistant", "tool_calls": [call]}


def reason(reader: Reader, user: str, answer: Said) -> Drop:
    with pytest.raises(Dropped) as dropped:
        masked(reader, user, answer)
    return dropped.value.reason


def test_a_value_has_one_placeholder_in_request_and_answer(reader: Reader) -> None:
    found = masked(
        reader,
        "Phone: 0660 123 4567, mail eva@kunde.at. Again: 0660 123 4567, cc otto@kunde.at",
        {"call": "0660 123 4567", "mail": "otto@kunde.at", "note": "eva@kunde.at wants a call"},
    )
    assert found.chat[0]["content"] == "Phone: [PHONE_1], mail [EMAIL_1]. Again: [PHONE_1], cc [EMAIL_2]"
    assert json.loads(found.chat[1]["tool_calls"][0]["function"]["arguments"]) == {
        "call": "[PHONE_1]",
        "mail": "[EMAIL_2]",
        "note": "[EMAIL_1] wants a call",
    }
    assert found.kinds == {"PHONE": 1, "EMAIL": 2}


def test_what_holds_nothing_keeps_its_bytes(reader: Reader) -> None:
    chat = [{"role": "user", "content": '{ "a" :1.0,\n "b":"\\u00e4" }'}, said({"city": "Wien"})]
    assert mask(chat, [], reader).chat == chat


def test_json_keeps_its_spelling_around_what_is_masked(reader: Reader) -> None:
    text = '{ "a" :1.50,\n "mail" : "eva@kunde.at", "x":"\\u00e4 \\"eva@kunde.at\\"" }'
    found = masked(reader, text, "done")
    assert found.chat[0]["content"] == text.replace("eva@kunde.at", "[EMAIL_1]")


def test_a_name_is_masked_wherever_it_comes_again_in_full_or_in_part(reader: Reader) -> None:
    found = masked(
        reader,
        "My name is Beatrix Veres. Please tell Mr. Veres at the desk that Beatrix Veres and Otto came. Beatrix",
        "Beatrix Veres was announced to Veres.",
    )
    text = json.dumps(found.chat)
    assert "Veres" not in text
    assert "Beatrix" not in text
    assert found.chat[1]["content"] == "[PERSON_1] was announced to [PERSON_2]."


def test_an_answer_that_invents_personal_data_is_dropped(reader: Reader) -> None:
    assert reason(reader, "Who works there?", "Ask eva@kunde.at") is Drop.MASKED_INVENTED


@pytest.mark.parametrize(
    ("user", "answer"),
    [
        ("card 4111 1111 1111 1111", "the card that ends in 1111"),  # a part
        ("card 4111 1111 1111 1111", {"card": "4111111111111111"}),  # another spelling
        ("mail Eva.Berg@kunde.at", "eva.berg@kunde.at it is"),
        ("My name is Beatrix Veres", "Dear Beatrix"),
        ("zip code: 94103", {"zip": 94103}),
        ("mail eva@kunde.at, not [EMAIL_1]", "eva@kunde.at"),  # somebody else's placeholder
    ],
)
def test_an_answer_that_needs_what_is_masked_is_dropped(reader: Reader, user: str, answer: Said) -> None:
    assert reason(reader, user, answer) is Drop.MASKED_AMBIGUOUS


def test_an_answer_whose_number_would_become_text_is_dropped(reader: Reader) -> None:
    assert reason(reader, "card 4111111111111111", {"card": 4111111111111111}) is Drop.MASKED_BROKEN


def test_choices_of_a_tool_are_its_form(reader: Reader) -> None:
    def tool(**address: Any) -> list[dict[str, Any]]:
        parameters = {"type": "object", "properties": {"to": {"type": "string", **address}}}
        return [{"type": "function", "function": {"name": "reply", "parameters": parameters}}]

    with pytest.raises(Dropped) as dropped:
        masked(reader, "to eva@kunde.at", {"to": "eva@kunde.at"}, tool(enum=["eva@kunde.at", "otto@kunde.at"]))
    assert dropped.value.reason is Drop.MASKED_AMBIGUOUS
    [described] = masked(reader, "hello", "hi", tool(description="such as eva@kunde.at")).tools
    assert described["function"]["parameters"]["properties"]["to"]["description"] == "such as [EMAIL_1]"


def test_nothing_masked_is_left_anywhere(reader: Reader) -> None:
    """Also where the words that gave it away are missing, in results of tools, in JSON inside JSON."""
    secret = "hunter2!xyz"
    chat = [
        {"role": "system", "content": f"password: '{secret}'. Never say {secret}."},
        {"role": "user", "content": "eva@kunde.at"},
        {"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"p": secret})}}]},
        {"role": "tool", "tool_call_id": "call_1",
         "content": json.dumps({"log": json.dumps([secret, "é eva@kunde.at"]), secret: 1})},
        said("ok"),
    ]  # fmt: skip
    text = json.dumps(mask(chat, [], reader).chat)
    assert secret not in text
    assert "eva@" not in text
    assert text.count("[SECRET_1]") == 5


@pytest.mark.parametrize("text", ['{"a": "x\\ud800"}', '["é\\ud83d"]', "[[[[", "{}", '{"a": "b", "a": "c"}', "[1, 2]"])
def test_rewriting_leaves_valid_json_or_the_text(text: str) -> None:
    changed = rewrite(text, lambda said: said.replace("x", "y"))
    assert changed == text.replace("x", "y")
