"""Past calls of every format, from samples written by hand in the shapes that the vendors document."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.imports import FORMATS, FileBroken, import_calls, read_calls
from proxy.imports.past import moment
from proxy.imports.rows import Malformed
from storage.ids import format_call_id
from storage.records import CallRecord

NOON = int(datetime(2025, 1, 1, 12, tzinfo=UTC).timestamp() * 1e9)
PROMPT = [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "Capital of Norway?"}]
WEATHER_CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}

Samples = Callable[[str], Path]


@pytest.fixture
def calls(sample: Samples) -> Callable[[str, str], list[CallRecord]]:
    return lambda name, form: list(read_calls(sample(name), form))


def sent(record: CallRecord) -> Any:
    return json.loads(record.request_body)


def got(record: CallRecord) -> Any:
    return json.loads(record.response_body)


def message(record: CallRecord) -> Any:
    return got(record)["choices"][0]["message"]


class TestJsonl:
    def test_bodies_status_and_agent_are_taken_over(self, calls: Any) -> None:
        whole, bare, failed = calls("calls.jsonl", "jsonl")
        assert (sent(whole)["messages"], message(whole)["content"]) == (PROMPT, "Oslo")
        assert (whole.agent, whole.arrived_at_ns, whole.source) == ("geo", NOON, "import:jsonl")
        assert (whole.endpoint, whole.path, whole.complete) == ("chat", "/v1/chat/completions", True)
        assert message(bare) == {"role": "assistant", "content": "Oslo"}
        assert (failed.status, got(failed)["error"]["param"]) == (400, "messages")

    def test_reads_everything_that_was_recorded(self, shared_data: Path) -> None:
        counts = {
            "agent_calls": 3888, "sse_recorded": 150, "responses_api_calls": 150,
            "errors_recorded": 65,  # three have no answer at all
        }  # fmt: skip
        for name, count in counts.items():
            records = list(read_calls(shared_data / f"{name}.jsonl.gz", "jsonl"))
            assert len(records) == len({record.call_id for record in records}) == count, name

    def test_streams_keep_their_exact_bytes(self, tmp_path: Path) -> None:
        stream = 'data: {"choices":[]}\r\n\r\n: é\n\ndata: [DONE]\n\n'
        path = tmp_path / "sse.jsonl"
        path.write_text(json.dumps({"request": {"messages": []}, "sse": stream}))
        [record] = read_calls(path, "jsonl")
        assert record.response_body == stream.encode()
        assert record.response_content_type == "text/event-stream"


class TestOpenAI:
    def test_the_last_message_of_a_tuning_row_is_the_answer(self, calls: Any) -> None:
        plain, tool = calls("openai_tuning.jsonl", "openai-chat")
        assert (sent(plain)["messages"], message(plain)) == (PROMPT, {"role": "assistant", "content": "Oslo"})
        assert sent(tool)["parallel_tool_calls"] is False
        assert sent(tool)["tools"][0]["function"]["name"] == "get_weather"
        assert message(tool)["tool_calls"] == [WEATHER_CALL]
        assert got(tool)["choices"][0]["finish_reason"] == "tool_calls"

    def test_a_batch_is_joined_and_what_expired_left_out(self, calls: Any) -> None:
        failed, answered = calls("openai_batch.jsonl", "openai-chat")
        assert (failed.status, got(failed)["error"]["message"]) == (400, "[] is too short")
        assert (sent(answered)["messages"], message(answered)["content"]) == (PROMPT, "Oslo")
        assert answered.arrived_at_ns == NOON

    def test_a_batch_output_alone_says_what_to_do(self, sample: Samples, tmp_path: Path) -> None:
        lines = sample("openai_batch.jsonl").read_text().splitlines(keepends=True)
        path = tmp_path / "output.jsonl"
        path.write_text("".join(lines[3:]))
        with pytest.raises(FileBroken, match="the batch's input and its output into one file"):
            list(read_calls(path, "openai-chat"))


class TestLiteLLM:
    def test_spend_logs_with_prompts_stored(self, calls: Any) -> None:
        answered, failed = calls("litellm_spend_logs.json", "litellm")
        assert (sent(answered)["messages"], message(answered)["content"]) == (PROMPT, "Oslo")
        assert (answered.arrived_at_ns, answered.duration_ms, answered.first_token_ms) == (NOON, 1500, 400)
        assert (answered.agent, answered.session) == ("support-bot", "s-1")
        assert (failed.status, got(failed)["error"]["message"]) == (429, "Rate limit reached")

    def test_the_payload_of_logging_callbacks(self, calls: Any) -> None:
        [call] = calls("litellm_payload.jsonl", "litellm")
        assert (sent(call)["model"], sent(call)["temperature"], sent(call)["stream"]) == ("fast", 0, True)
        assert sent(call)["tools"][0]["function"]["name"] == "get_weather"
        assert message(call)["tool_calls"] == [WEATHER_CALL]
        assert (call.duration_ms, call.first_token_ms) == (1000, 250)

    def test_says_how_to_have_prompts_stored(self, tmp_path: Path) -> None:
        path = tmp_path / "spend.json"
        path.write_text(json.dumps([{"request_id": "1", "call_type": "acompletion", "messages": {}, "response": {}}]))
        with pytest.raises(FileBroken, match="store_prompts_in_spend_logs"):
            list(read_calls(path, "litellm"))


class TestLangfuse:
    def test_an_api_page_in_all_the_shapes_of_instrumentations(self, calls: Any) -> None:
        wrapped, langchain, plain, failed, responses = calls("langfuse_api.json", "langfuse")
        assert (sent(wrapped)["messages"], len(sent(wrapped)["tools"])) == (PROMPT, 1)
        assert (sent(wrapped)["temperature"], sent(wrapped)["top_p"], "max_tokens" in sent(wrapped)) == (0.2, 1, False)
        assert got(wrapped)["usage"] == {
            "prompt_tokens": 120, "completion_tokens": 1, "total_tokens": 121,
            "prompt_tokens_details": {"cached_tokens": 100},
        }  # fmt: skip
        assert (wrapped.arrived_at_ns, wrapped.duration_ms, wrapped.first_token_ms) == (NOON, 2000, 500)
        assert sent(langchain)["messages"] == [{"role": "user", "content": "Weather in Oslo?"}]
        assert message(langchain)["tool_calls"] == [WEATHER_CALL]
        assert (sent(plain)["messages"][0]["content"], message(plain)["content"]) == ("Say hi", "hi")
        assert (failed.status, got(failed)["error"]["message"]) == (500, "Connection error.")
        assert (responses.endpoint, got(responses)["output"][0]["name"]) == ("responses", "get_weather")
        assert got(responses)["usage"]["input_tokens"] == 9

    @pytest.mark.parametrize("name", ["langfuse_blob.jsonl", "langfuse_table.csv"])
    def test_blob_and_table_exports(self, calls: Any, name: str) -> None:
        [call] = calls(name, "langfuse")
        assert (sent(call)["messages"], sent(call)["model"]) == (PROMPT, "gpt-4o")
        assert message(call)["content"].startswith("Oslo")
        assert (call.session, call.arrived_at_ns) == ("sess-1", NOON)
        assert got(call)["usage"]["prompt_tokens"] == 21


class TestHelicone:
    def test_exported_requests(self, calls: Any) -> None:
        plain, streamed, failed, embedding = calls("helicone.jsonl", "helicone")
        assert (sent(plain)["messages"], message(plain)["content"], plain.duration_ms) == (PROMPT, "Oslo", 1180)
        assert (plain.session, plain.agent, plain.path) == ("sess-1", "support", "/v1/chat/completions")
        assert streamed.response_content_type == "text/event-stream"
        assert streamed.response_body.endswith(b"data: [DONE]\n\n")
        assert streamed.first_token_ms == 310
        assert (failed.status, got(failed)["error"]["code"]) == (429, "rate_limit_exceeded")
        assert embedding.endpoint == "embeddings"

    def test_says_how_to_have_bodies_exported(self, tmp_path: Path) -> None:
        path = tmp_path / "output.jsonl"
        path.write_text(json.dumps({"request_id": "1", "request_created_at": "2025-01-01T12:00:00Z"}))
        with pytest.raises(FileBroken, match="--include-body"):
            list(read_calls(path, "helicone"))


class TestOpenTelemetry:
    def test_messages_as_attributes(self, calls: Any) -> None:
        answered, tool, failed = calls("otel_new.jsonl", "otel-genai")
        system, user, assistant, result = sent(answered)["messages"]
        assert (system, user["content"]) == ({"role": "system", "content": "You are a helpful bot"}, "Weather in Oslo?")
        assert (assistant["content"], assistant["tool_calls"]) == (None, [WEATHER_CALL])
        assert result == {"role": "tool", "tool_call_id": "call_1", "content": "rainy, 7 degrees"}
        assert sent(answered)["tools"][0]["function"]["name"] == "get_weather"
        assert (message(answered)["content"], got(answered)["usage"]["total_tokens"]) == ("Rainy.", 59)
        assert (answered.arrived_at_ns, answered.duration_ms, answered.session) == (NOON, 1500, "conv-1")
        assert message(tool)["tool_calls"] == [WEATHER_CALL]
        assert got(tool)["choices"][0]["finish_reason"] == "tool_calls"
        assert (failed.status, got(failed)["error"]["message"]) == (429, "Rate limit reached")

    def test_messages_as_events_of_the_span_or_as_log_records(self, calls: Any) -> None:
        events, logged = calls("otel_events.jsonl", "otel-genai")
        assert (sent(events)["messages"], message(events)["content"]) == ([
            {"content": PROMPT[0]["content"], "role": "system"}, {"content": PROMPT[1]["content"], "role": "user"},
        ], "Oslo")  # fmt: skip
        assert sent(logged)["messages"][0]["content"] == "Weather in Oslo?"
        assert message(logged)["tool_calls"] == [WEATHER_CALL]

    def test_messages_as_numbered_attributes(self, calls: Any) -> None:
        [call] = calls("otel_indexed.json", "otel-genai")
        assert [m["role"] for m in sent(call)["messages"]] == ["system", "user"]
        assert sent(call)["tools"][0]["function"]["parameters"] == {"type": "object"}
        assert message(call)["tool_calls"] == [WEATHER_CALL]
        assert got(call)["usage"]["total_tokens"] == 35


FILES = {
    "calls.jsonl": "jsonl", "openai_tuning.jsonl": "openai-chat", "openai_batch.jsonl": "openai-chat",
    "litellm_spend_logs.json": "litellm", "litellm_payload.jsonl": "litellm", "langfuse_api.json": "langfuse",
    "langfuse_blob.jsonl": "langfuse", "langfuse_table.csv": "langfuse", "helicone.jsonl": "helicone",
    "otel_new.jsonl": "otel-genai", "otel_events.jsonl": "otel-genai", "otel_indexed.json": "otel-genai",
}  # fmt: skip


@pytest.mark.parametrize(("name", "form"), FILES.items())
def test_the_same_file_gives_the_same_ids_gzipped_or_not(sample: Samples, tmp_path: Path, name: str, form: str) -> None:
    path = sample(name)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    once, again = list(read_calls(path, form)), list(read_calls(packed, form))
    assert [record.call_id for record in once] == [record.call_id for record in again]
    assert len({record.call_id for record in once}) == len(once)
    assert all(format_call_id(record.call_id)[14] == "7" for record in once)


def test_pretty_printed_json_is_read_wherever_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "calls.json"
    row = {"request": {"messages": PROMPT}, "response": {"role": "assistant", "content": "Oslo"}}
    path.write_text("\n\n" + json.dumps([row, row], indent=2))
    assert len(list(read_calls(path, "jsonl"))) == 2


def test_a_repeated_call_is_another_call(tmp_path: Path) -> None:
    row = json.dumps({"request": {"messages": PROMPT}, "response": {"role": "assistant", "content": "Oslo"}}) + "\n"
    path = tmp_path / "calls.jsonl"
    path.write_text(row * 3)
    assert len({record.call_id for record in read_calls(path, "jsonl")}) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"request": {"messages": []}, "response": {"choices": []}}\n{"request": \n', "line 2: not JSON"),
        (b'{"request": {"messages": []}, "response": {"choices": []}}\n[1]\n', "line 2: not a JSON object"),
        (b'\n\n{"response": {"choices": []}}\n', 'line 3: no "request" object'),
        (b'{"request": {"messages": []}}\n', 'line 1: no "response" object'),
        (b'{"request": {"model": "m"}, "response": {"choices": []}}\n', 'line 1: the request has neither "messages"'),
        (b'[{"request": {"messages": []}, "response": {"choices": []}}, 7]', "item 2: not a JSON object"),
        (b'{"request": {"messages": 5}, "response": {}}\n', 'line 1: "messages" is no list of objects'),
        (
            b'{"request": {"messages": ["hi"]}, "response": {"choices": []}}\n',
            'line 1: "messages" is no list of objects',
        ),
        (b'{"request": {"input": 5}, "response": {"output": []}}\n', 'line 1: "input" is neither text nor a list'),
        (b'\n{"request": {"messages": []}, "response": {}}\n', 'line 2: "response" is empty'),
        (b'{"request": {"messages": []}, "response": {}, "status": "bad"}\n', 'line 1: "status" is no number'),
        (b'{\n "request": {"messages": []},\n "response" 7\n}', "line 3: not JSON.*, column 13"),
        (b'\n[\n {"request": {"messages": []}, "response": {}},\n {"request" 7}\n]', "line 4: not JSON"),
        (b'[{"request": {"messages": []}}\n,{"request" 7}]', "line 2: not JSON"),
        (b'{"request": {"messa\n{"request": {"messages": []}, "response": {}}\n', "line 1: not JSON"),
        (b"", "no answered call in it"),
        (b"\x1f\x8b\x08\x00broken", "can't be read"),
        (
            gzip.compress(b'{"request": {"messages": []}, "response": {"choices": []}}\n' * 99, mtime=0)[:-20],
            "can't be read",
        ),
    ],
)
def test_nothing_of_a_broken_file_is_imported(tmp_path: Path, content: bytes, said: str) -> None:
    def sink(records: Iterable[CallRecord]) -> int:
        pytest.fail("the file is broken")

    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileBroken, match=said) as caught:
        import_calls(path, "jsonl", sink)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match=r"nowhere\.jsonl: can't be read"):
        import_calls(tmp_path / "nowhere.jsonl", "jsonl", lambda records: 0)


def test_the_sink_gets_every_call_and_tells_how_many_were_new(sample: Samples) -> None:
    seen: list[CallRecord] = []

    def sink(records: Iterable[CallRecord]) -> int:
        seen.extend(records)
        return len(seen) - 1

    assert import_calls(sample("calls.jsonl"), "jsonl", sink) == 2
    assert len(seen) == 3


@pytest.mark.parametrize(("name", "form"), FILES.items())
def test_a_file_of_another_format_is_refused_in_one_line(sample: Samples, name: str, form: str) -> None:
    for other in FORMATS.keys() - {form}:
        if {form, other} == {"jsonl", "openai-chat"}:
            continue  # pairs of bodies are in both
        with pytest.raises(FileBroken) as caught:
            list(read_calls(sample(name), other))
        assert "\n" not in str(caught.value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, child in inner for path in _paths(child, (*at, key)))]


@pytest.mark.parametrize(("name", "form"), [pair for pair in FILES.items() if not pair[0].endswith(".csv")])
@given(data=st.data())
def test_a_row_with_any_value_replaced_is_read_or_refused(name: str, form: str, data: st.DataObject) -> None:
    text = (Path(__file__).parent.parent / "data" / "imports" / name).read_text()
    rows = [json.loads(text)] if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]
    rows = rows[0] if isinstance(rows[0], list) else rows[0].get("data", rows)
    *way, last = data.draw(st.sampled_from([path for path in _paths(rows) if len(path) > 1]))
    place = rows
    for step in way:
        place = place[step]
    place[last] = data.draw(_json)
    try:
        for call in FORMATS[form](rows):
            call.record(form, 1)
    except (Malformed, AttributeError, KeyError, TypeError, ValueError):
        pass  # what `read_calls` turns into one line


@pytest.mark.parametrize("endless", [float("inf"), "Infinity", "1e999", float("nan")])
def test_a_time_without_end_is_refused(endless: object) -> None:
    with pytest.raises(Malformed, match="is not a time"):
        moment(endless)
