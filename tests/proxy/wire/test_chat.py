"""Chat streams: put together, and spelled out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.wire import chat, sse


def stream(*chunks: dict[str, Any]) -> bytes:
    return b"".join(sse.encode(orjson.dumps(chunk)) for chunk in chunks) + sse.DONE


def delta(index: int = 0, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}]}


def call(index: int | None, call_id: str | None = None, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    head: dict[str, Any] = {} if index is None else {"index": index}
    if call_id is not None:
        head |= {"id": call_id, "type": "function"}
    return head | {"function": ({"name": name} if name else {}) | {"arguments": arguments}}


def message(body: bytes) -> dict[str, Any]:
    result: dict[str, Any] = chat.assemble(body)["choices"][0]["message"]
    return result


def test_assembles_every_recorded_stream(recorded_streams: list[dict[str, Any]]) -> None:
    recorded = [r for r in recorded_streams if r["endpoint"] == "chat"]
    assert recorded
    for record in recorded:
        got, want = chat.assemble(record["sse"].encode()), record["assembled"]
        if "error" in got:
            assert got["error"]["message"]
        if want["id"] and not record["id"].startswith("pydantic-ai/test_groq_model_web_search"):  # it ends with a stub
            assert (got["id"], got["model"], got["created"]) == (want["id"], want["model"], want["created"])
        assert got.get("usage") == want["usage"], record["id"]
        for mine, theirs in zip(got["choices"], want["choices"], strict=True):
            assert mine["finish_reason"] == theirs["finish_reason"]
            assert mine["message"]["content"] == theirs["message"]["content"], record["id"]
            calls, their_calls = mine["message"].get("tool_calls"), theirs["message"].get("tool_calls")
            for their_call in their_calls or ():  # one vendor repeats the name, which doubled it there
                if their_call["function"]["name"] == "llm_versionllm_version":
                    their_call["function"]["name"] = "llm_version"
            assert calls == their_calls, record["id"]


def test_spells_every_recorded_completion_so_that_it_assembles_to_itself(
    recorded_streams: list[dict[str, Any]],
) -> None:
    for record in recorded_streams:
        if record["endpoint"] != "chat":
            continue
        completion = chat.assemble(record["sse"].encode())
        if completion["choices"][0]["finish_reason"] is None:
            continue
        again = chat.assemble(chat.render(completion, include_usage=True))
        assert again.get("usage") == completion.get("usage")
        for mine, theirs in zip(again["choices"], completion["choices"], strict=True):
            assert mine["finish_reason"] == theirs["finish_reason"]
            for field in ("content", "tool_calls", "refusal", "reasoning"):
                assert (mine["message"].get(field) or None) == (theirs["message"].get(field) or None)


def test_parallel_tool_calls_are_told_apart_by_index() -> None:
    body = stream(
        delta(role="assistant", content=None),
        delta(tool_calls=[call(0, "a", "f")]),
        delta(tool_calls=[call(0, arguments='{"x":')]),
        delta(tool_calls=[call(1, "b", "g")]),
        delta(tool_calls=[call(1, arguments="{}"), call(0, arguments="1}")]),
        delta(finish_reason="tool_calls"),
    )
    assert message(body) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("index", [0, None])
def test_whole_calls_under_one_index_or_none_are_told_apart_by_id(index: int | None) -> None:
    body = stream(delta(tool_calls=[call(index, "a", "f", "{}")]), delta(tool_calls=[call(index, "b", "g", "[]")]))
    assert [(c["id"], c["function"]["arguments"]) for c in message(body)["tool_calls"]] == [("a", "{}"), ("b", "[]")]


def test_indexes_that_begin_late_keep_their_order() -> None:
    body = stream(delta(tool_calls=[call(3, "b", "g")]), delta(tool_calls=[call(1, "a", "f")]))
    assert [c["id"] for c in message(body)["tool_calls"]] == ["a", "b"]


def test_missing_arguments_become_an_empty_string() -> None:
    body = stream(delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": None}}]))
    assert message(body)["tool_calls"][0]["function"]["arguments"] == ""


def test_legacy_function_calls_and_refusals_are_continued() -> None:
    body = stream(
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": '{"a"'}),
        delta(function_call={"arguments": ":1}"}, refusal="I "),
        delta(refusal="won't"),
    )
    assert message(body)["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert message(body)["refusal"] == "I won't"


def test_several_choices_and_their_log_probabilities_stay_apart() -> None:
    chunks = [delta(i, content=str(i)) | {} for i in (1, 0, 1)]
    for chunk in chunks:
        chunk["choices"][0]["logprobs"] = {"content": [{"token": chunk["choices"][0]["delta"]["content"]}]}
    first, second = chat.assemble(stream(*chunks))["choices"]
    assert (first["message"]["content"], second["message"]["content"]) == ("0", "11")
    assert [t["token"] for t in second["logprobs"]["content"]] == ["1", "1"]


def test_a_cut_stream_has_no_finish_reason() -> None:
    whole = stream(delta(content="par"), delta(content="tial"), delta(finish_reason="stop"))
    cut = chat.assemble(whole[: whole.index(b"tial") + 2])
    assert cut["choices"][0]["finish_reason"] is None
    assert cut["choices"][0]["message"]["content"] == "par"


def test_an_error_event_becomes_the_completions_error() -> None:
    body = stream(delta(content="a"), {"error": {"message": "overloaded"}})
    assert chat.assemble(body)["error"] == {"message": "overloaded"}


@pytest.mark.parametrize(
    "body", [b"", b": comment\n\n", b"data: not json\n\n", b"data: []\n\n", b'data: {"choices":[3]}\n\n']
)
def test_a_stream_without_deltas_has_no_choices(body: bytes) -> None:
    assert chat.assemble(body)["choices"] == []


COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "hello",
                "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "logprobs": {"content": [{"token": "hello", "logprob": -0.1, "bytes": None, "top_logprobs": []}]},
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


@pytest.mark.parametrize("include_usage", [False, True])
def test_rendered_chunks_are_what_the_official_client_expects(include_usage: bool) -> None:
    ChatCompletion.model_validate(COMPLETION)
    body = chat.render(COMPLETION, include_usage=include_usage)
    chunks = [ChatCompletionChunk.model_validate(chunk) for chunk in chat.chunks(body)]
    assert body.endswith(sse.DONE)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chat.assemble(body)["choices"][0] == COMPLETION["choices"][0]
    assert (chunks[-1].usage is not None) == include_usage
    assert all(b'"usage":null' in event.data for event in list(sse.parse(body))[:-2]) == include_usage
