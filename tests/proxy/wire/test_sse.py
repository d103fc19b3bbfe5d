"""Server-sent events, split anywhere."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import DONE, Event, EventParser, FinalEvent, encode, parse

TRICKY = (
    b"\xef\xbb\xbf: a comment\n\n"
    b'data: {"text":"zw\xc3\xb6lf \xf0\x9f\x98\x80"}\r\n\r\n'
    b"event: named\ndata:first\ndata: second\n\n"
    b"event: lonely\n\n"
    b"id: 7\nretry: 10\ndata\n\n"
    b"data: mac\r\r"
    b"data: [DONE]\n\n"
)
EVENTS = [
    Event('{"text":"zwölf 😀"}'.encode()),
    Event(b"first\nsecond", "named"),
    Event(b""),
    Event(b"mac"),
    Event(b"[DONE]"),
]


def feed(pieces: list[bytes]) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)]


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def test_reads_every_form_of_the_grammar() -> None:
    assert list(parse(TRICKY)) == EVENTS


@pytest.mark.parametrize("at", range(len(TRICKY)))
def test_gives_the_same_events_wherever_the_bytes_are_split(at: int) -> None:
    assert feed([TRICKY[:at], TRICKY[at:]]) == EVENTS


def test_gives_the_same_events_byte_by_byte() -> None:
    assert feed([TRICKY[i : i + 1] for i in range(len(TRICKY))]) == EVENTS


LINES = st.lists(
    st.builds(
        bytes.__add__,
        st.sampled_from([b"data: ", b"data:", b"event: ", b":", b"", b"id: ", b"\xc3\xa4"]) | st.binary(max_size=4),
        st.binary(max_size=12),
    ),
    max_size=12,
)


@given(
    LINES, st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=1), st.lists(st.integers(0, 10_000), max_size=8)
)
def test_any_bytes_give_the_same_events_however_they_are_split(
    lines: list[bytes], ends: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(line + ends[i % len(ends)] for i, line in enumerate(lines))
    assert feed(split(stream, cuts)) == list(parse(stream))


@given(
    st.lists(
        st.tuples(st.binary(max_size=40).filter(lambda b: b"\n" not in b and b"\r" not in b), st.none() | st.just("x"))
    )
)
def test_reads_what_it_writes(events: list[tuple[bytes, str | None]]) -> None:
    stream = b"".join(encode(data, name) for data, name in events)
    assert list(parse(stream)) == [Event(data, name or "message") for data, name in events]


def test_reads_an_event_far_beyond_64_kib_in_small_pieces() -> None:
    data = b"x" * 3_000_000
    stream = encode(data)
    assert feed([stream[i : i + 4096] for i in range(0, len(stream), 4096)]) == [Event(data)]


def test_drops_an_event_that_is_cut() -> None:
    assert list(parse(b"data: whole\n\ndata: cut\n")) == [Event(b"whole")]


# The final event


def relayed(pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What went out before the record, and from the final event on."""
    final_event = FinalEvent()
    before, after = b"", b""
    for piece in pieces:
        now, final = final_event.split(piece)
        if after:
            after += now + final
        else:
            before, after = before + now, final
    return before, after + final_event.held()


FINALS = [
    DONE,
    b"data:[DONE]\r\n\r\n",
    encode(b'{"type":"response.completed","response":{"id":"r","output":[]}}', "response.completed"),
    encode(b'{"type":"response.incomplete","response":{}}', "response.incomplete"),
    encode(b'{"type":"response.failed","response":{}}'),
    encode(b'{"type": "message_stop" }', "message_stop"),
]
DELTAS = encode(b'{"delta":"say data: [DONE] or\\ndata: [DONE] or response.completed"}') + b": ping\n\n"


@pytest.mark.parametrize("final", FINALS)
def test_holds_the_final_event_back_until_it_is_whole(final: bytes) -> None:
    stream = DELTAS + final
    for at in range(len(stream) + 1):
        before, after = relayed([stream[:at], stream[at:]])
        assert before + after == stream
        assert after
        assert len(before) <= max(len(DELTAS), at)
        assert not any(event for event in list(parse(before))[1:])  # the deltas alone


@pytest.mark.parametrize("final", FINALS)
def test_finds_the_final_event_byte_by_byte(final: bytes) -> None:
    stream = DELTAS + final + b": trailing\n\n"
    before, after = relayed([stream[i : i + 1] for i in range(len(stream))])
    assert before + after == stream
    assert list(parse(before)) == list(parse(DELTAS))
    assert after.endswith(b": trailing\n\n")


def test_the_words_of_the_end_inside_an_answer_are_not_the_end() -> None:
    assert relayed([DELTAS, DELTAS]) == (DELTAS * 2, b"")


def test_gives_what_is_left_of_a_final_event_that_is_cut() -> None:
    final_event = FinalEvent()
    assert final_event.split(b"event: response.completed\ndata: {") == (b"", b"")
    assert final_event.held() == b"event: response.completed\ndata: {"


def test_finds_the_end_of_every_recorded_stream(recorded_streams: list[dict[str, Any]]) -> None:
    for recorded in recorded_streams:
        stream = recorded["sse"].encode()
        before, after = relayed([stream[i : i + 1000] for i in range(0, len(stream), 1000)])
        assert before + after == stream
        tail = max(len(stream) - 400, 0)
        early, late = relayed([stream[:tail], *(stream[i : i + 1] for i in range(tail, len(stream)))])
        assert early + late == stream
        assert bool(late) == bool(after)  # something of it waits for the record, however little comes at a time
        for at in range(tail, len(stream)):
            assert b"".join(relayed([stream[:at], stream[at:]])) == stream
        events = list(parse(before))
        if after:
            assert json.loads(events[-1].data)
        else:
            assert "error" in json.loads(events[-1].data)  # an error inside a status 200, and no end
