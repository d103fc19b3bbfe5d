"""Any answer's body as one JSON value."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from proxy.wire import completions
from proxy.wire.answer import read_answer
from proxy.wire.endpoint import Endpoint, classify

JSON = b'{"id":"c","usage":{"prompt_tokens":1}}'
SSE = "text/event-stream; charset=utf-8"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("zstd", zstandard.compress),
    ],
)
def test_reads_every_usual_compression(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    assert read_answer(Endpoint.CHAT, compress(JSON), "application/json", encoding) == json.loads(JSON)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"<html>", ""),
        (b"[1]", ""),
        (b"", ""),
        (JSON, "gzip"),
        (JSON, "zstd"),
        (JSON, "br"),
        (gzip.compress(JSON, mtime=0)[:20], "gzip"),
    ],
)
def test_what_cannot_be_read_is_none(body: bytes, encoding: str) -> None:
    assert read_answer(Endpoint.CHAT, body, "application/json", encoding) is None


def test_reads_what_was_received_of_a_compressed_stream() -> None:
    stream = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n' * 50
    body = gzip.compress(stream)[:-10]
    answer = read_answer(Endpoint.CHAT, body, SSE, "gzip")
    assert answer is not None
    assert answer["choices"][0]["message"]["content"].startswith("hello")


def test_reads_every_recorded_stream(recorded_streams: list[dict[str, Any]]) -> None:
    endpoints = {"chat": Endpoint.CHAT, "responses": Endpoint.RESPONSES, "completions": Endpoint.COMPLETIONS}
    for record in recorded_streams:
        answer = read_answer(endpoints.get(record["endpoint"], Endpoint.OTHER), record["sse"].encode(), SSE)
        assert answer is not None
        want = record["assembled"]
        if record["endpoint"] == "completions":
            assert answer["choices"][0]["text"] == want["choices"][0]["message"]["content"]
        if record["endpoint"] == "anthropic":
            assert (answer["id"], answer["stop_reason"]) == (want["id"], want["stop_reason"])
            assert [b["type"] for b in answer["content"]] == [b["type"] for b in want["content"]]
            for mine, theirs in zip(answer["content"], want["content"], strict=True):
                assert (mine.get("text"), mine.get("input")) == (theirs.get("text"), theirs.get("input"))


@pytest.mark.parametrize("endpoint", list(Endpoint))
@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"data: {}\n\n",
        b'data: {"choices":{"a":1}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":"x"}]}}]}\n\n',
        b'event: message_start\ndata: {"type":"message_start"}\n\n',
        b'event: response.created\ndata: {"type":"response.output_item.added","output_index":"x","item":{}}\n\n',
        b'data: {"type":"response.output_item.added","output_index":[],"item":{}}\n\n',
    ],
)
def test_no_stream_however_odd_raises(endpoint: Endpoint, stream: bytes) -> None:
    read_answer(endpoint, stream, SSE)


def test_legacy_completions_are_put_together_by_index() -> None:
    stream = (
        b'data: {"id":"c","choices":[{"index":1,"text":"b"},{"index":0,"text":"a"}]}\n\n'
        b'data: {"choices":[{"index":1,"text":"c","finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'
    )
    assert completions.assemble(stream) == {
        "object": "text_completion",
        "id": "c",
        "usage": {"prompt_tokens": 1},
        "choices": [
            {"index": 0, "text": "a", "finish_reason": None},
            {"index": 1, "text": "bc", "finish_reason": "stop"},
        ],
    }


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("POST", "/v1/chat/completions", Endpoint.CHAT),
        ("GET", "/v1/chat/completions", Endpoint.OTHER),
        ("POST", "/v1/chat/completions/chatcmpl-1", Endpoint.OTHER),
        ("POST", "/v1/responses", Endpoint.RESPONSES),
        ("POST", "/v1/responses/resp_1/cancel", Endpoint.OTHER),
        ("DELETE", "/v1/files/f", Endpoint.FILES),
        ("GET", "/v1/models", Endpoint.MODELS),
        ("POST", "/v1/audio/transcriptions", Endpoint.AUDIO),
        ("POST", "/v1/", Endpoint.OTHER),
        ("POST", "/v1/models_i_made_up", Endpoint.OTHER),
    ],
)
def test_endpoints_are_told_apart(method: str, path: str, endpoint: Endpoint) -> None:
    assert classify(method, path) is endpoint
