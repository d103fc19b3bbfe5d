import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.redaction import redact

telling = st.sampled_from(
    [
        "jane.doe@example.com",
        "+49 151 2345678",
        "4111 1111 1111 1111",
        "10.0.0.1",
        "sk-abcdefghijklmnop1234",
        '{"n": 41111}',
    ]
)
texts = st.lists(st.text(max_size=8) | telling | st.sampled_from(["\n", '"', "\\", "\\u00e9"])).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**10, 10**20) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4) | inner.map(json.dumps),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.booleans(), st.sampled_from([None, 2]))
def test_redacted_json_is_json(value: dict, ascii_only: bool, indent: int | None) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    json.loads(redact(raw).decode("utf-8", "surrogatepass"))


@given(st.lists(st.dictionaries(st.sampled_from(["delta", "text", "index", "x"]), json_values), max_size=4))
def test_the_events_of_a_redacted_stream_are_json(events: list[dict]) -> None:
    raw = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    lines = redact(raw.encode()).decode().split("\n\n")
    assert len(lines) == len(events) + 1
    for line in lines[:-1]:
        json.loads(line.removeprefix("data: "))


@given(st.binary(max_size=100))
def test_any_bytes_are_redacted_without_failing(raw: bytes) -> None:
    redact(raw)


@pytest.mark.parametrize("depth", [300, 600, 5000])
def test_what_is_nested_too_deeply_is_redacted_all_the_same(depth: int) -> None:
    event = '{"a":' * depth + '"jane@example.com"' + "}" * depth
    for said in (event, f"data: {event}\n\n"):
        redacted = redact(said.encode())
        assert b"jane" not in redacted
        assert redacted.count(b"{") == depth


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('{"a":"line\\njane@example.com"}', '{"a":"line\\n[EMAIL]"}'),
        ('{"card":4111111111111111,"created":1767000000,"ms":1767000000123}',
         '{"card":"[NUMBER]","created":1767000000,"ms":1767000000123}'),
        ('{"at":"2026-03-01T12:00:00Z","on":"2026-03-01 12:30"}', None),
        ('{"from":"2026-03-01 - 2026-03-09"}', None),
        (r'{"arguments":"{\"phone\":4915112345678}"}', r'{"arguments":"{\"phone\":\"[NUMBER]\"}"}'),
        ("[INFO] mail jane@example.com", "[INFO] mail [EMAIL]"),
        ('{"cut":"jane@example.com', '{"cut":"[EMAIL]'),
        ("call 0151 2345 678 on 2026-03-01", "call [PHONE] on 2026-03-01"),
    ],
)  # fmt: skip
def test_what_identifies_is_blacked_out_and_the_rest_stays(said: str, kept: str | None) -> None:
    assert redact(said.encode()).decode() == (said if kept is None else kept)


def test_what_a_stream_says_in_pieces_is_found() -> None:
    pieces = ["Write to ja", "ne.doe@exam", "ple.com", " today"]
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    raw = "".join(f"data: {json.dumps(event)}\r\n\r\n" for event in events) + "data: [DONE]\r\n\r\n"
    redacted = redact(raw.encode()).decode().split("\r\n\r\n")
    said = [json.loads(line[6:])["choices"][0]["delta"]["content"] for line in redacted[:4]]
    assert "".join(said) == "Write to [EMAIL] today"
    assert redacted[4:] == ["data: [DONE]", ""]


def tool_call(index: int | None, **function: str) -> dict:
    place = {} if index is None else {"index": index}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [place | {"function": function}]}}]}


def arguments_of(redacted: bytes) -> list[str]:
    events = [json.loads(line[6:]) for line in redacted.decode().split("\n\n")[:-1]]
    return [event["choices"][0]["delta"]["tool_calls"][0]["function"].get("arguments", "") for event in events]


@given(st.dictionaries(texts, json_values, max_size=4), st.lists(st.integers(0, 200), max_size=6))
@example({"ms": 1767000000123}, [1])  # a time, as the whole shows; its piece alone is just a long number
def test_streamed_tool_arguments_stay_json_wherever_they_are_cut(arguments: dict, cuts: list[int]) -> None:
    said = json.dumps(arguments)
    ends = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
    events = [tool_call(0, arguments=said[start:end]) for start, end in itertools.pairwise(ends)]
    first = events[0]["choices"][0]["delta"]["tool_calls"][0]
    first |= {"id": "call_1", "type": "function"}  # as OpenAI does: in the first piece only
    first["function"]["name"] = "dial"
    redacted = redact("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode())
    assert json.loads("".join(arguments_of(redacted))) == json.loads(redact(said.encode()))


def test_what_stands_beside_a_redacted_piece_is_redacted_too() -> None:
    event = {"user": "jane@example.com", "card": 4111111111111111, "choices": [{"delta": {"content": "10.0.0.1"}}]}
    [line, _] = redact(f"data: {json.dumps(event)}\n\n".encode()).decode().split("\n\n")
    kept = {"user": "[EMAIL]", "card": "[NUMBER]", "choices": [{"delta": {"content": "[IP]"}}]}
    assert json.loads(line[6:]) == kept


def test_a_repeated_key_hides_nothing() -> None:
    assert b"jane" not in redact(b'data: {"content":"jane@example.com","content":"x"}\n\n')


def test_whole_tool_calls_without_an_index_are_kept_apart() -> None:
    events = [tool_call(None, arguments=f'{{"phone":491511234567{digit}}}') for digit in "89"]
    redacted = redact("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode())
    assert arguments_of(redacted) == ['{"phone":"[NUMBER]"}'] * 2


def test_two_texts_in_one_stream_are_kept_apart() -> None:
    events = [
        {"choices": [{"index": index, "delta": {"content": piece}}]}
        for piece in ("jane@", "example.com")
        for index in (0, 1)
    ]
    raw = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    redacted = redact(raw.encode()).decode()
    assert redacted.count("[EMAIL]") == 2
    assert "example.com" not in redacted
