"""What an upstream says, byte for byte: recorded answers, odd ones, and what the proxy's own headers tell of them."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Proxy, running
from tests.integration.scripted import Scripted, answer, chunked

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
ANSWER = b'{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[]}'
PATHS = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
    "anthropic": "/messages",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with Scripted() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(upstream: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("proxy"), upstream_url=upstream.base_url, max_body_bytes="1000000") as proxy:
        yield proxy


def ask(proxy: Proxy, path: str = "/chat/completions", **arguments: Any) -> httpx.Response:
    arguments = arguments or {"json": CHAT}
    return httpx.post(proxy.base_url + path, **arguments)


def records(shared_data: Path, name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(shared_data / name, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def test_every_recorded_error_passes_byte_for_byte(proxy: Proxy, upstream: Scripted, shared_data: Path) -> None:
    seen = 0
    for record in records(shared_data, "errors_recorded.jsonl.gz"):
        status = record["meta"]["status"]
        if record["response"] is None and status == 200:
            continue  # its stream is not in the recording
        body = b"" if record["response"] is None else json.dumps(record["response"], indent=1).encode()
        headers = record["meta"].get("response_headers") or {}
        kept = {name: value for name, value in headers.items() if name not in ("content-length", "content-encoding")}
        content_type = kept.pop("content-type", "application/json")
        upstream.will(*answer(body, content_type, f"{status} Because", **kept))
        got = ask(proxy, PATHS[record["meta"]["endpoint"]], json=record["request"])
        assert (got.status_code, got.content, got.headers["content-type"]) == (status, body, content_type)
        assert {name: got.headers[name] for name in kept} == kept
        assert json.loads(upstream.requests[-1][1]) == record["request"]
        seen += 1
    assert seen == 65


def test_every_recorded_stream_passes_byte_for_byte(proxy: Proxy, upstream: Scripted, shared_data: Path) -> None:
    """In chunks of a kilobyte, and the end, which the relay looks at, in chunks of three bytes."""
    seen = 0
    with httpx.Client() as client:
        for record in records(shared_data, "sse_recorded.jsonl.gz"):
            stream = record["sse"].encode()
            calm = max(len(stream) - 300, 0)
            edges = [*range(0, calm, 1024), *range(calm, len(stream), 3), len(stream)]
            pieces = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]
            upstream.will(*chunked(pieces))
            got = client.post(proxy.base_url + PATHS[record["endpoint"]], json=record["request"])
            assert (got.status_code, got.content) == (200, stream), record["id"]
            seen += 1
    assert seen == 150


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_the_model_is_the_answers_own_also_where_that_is_compressed(
    proxy: Proxy, upstream: Scripted, encoding: str
) -> None:
    packed = {"gzip": gzip.compress(ANSWER), "deflate": zlib.compress(ANSWER), "br": b"\x0b\x02\x80{}\x03"}[encoding]
    upstream.will(*answer(packed, content_encoding=encoding))
    with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=CHAT) as got:
        assert b"".join(got.iter_raw()) == packed
    told = got.headers["x-understudy-model"]
    assert told == ("gpt-4o" if encoding == "br" else "gpt-4o-2024-08-06")  # Brotli is not read: what was asked for


FORM = {"files": {"file": b"RIFF"}, "data": {"model": "whisper-1"}}


@pytest.mark.parametrize(
    ("path", "sent", "said", "model"),
    [
        ("/embeddings", {"json": {"model": "te-3", "input": "x"}}, b'{"data":[],"model":"te-3-small"}', "te-3-small"),
        ("/moderations", {"json": {"input": "x"}}, b'{"id":"m","model":"omni-1"}', "omni-1"),
        ("/messages", {"json": {"model": "c"}}, b'{"type":"message","model":"c-1"}', "c-1"),
        ("/images/generations", {"json": {"model": "gpt-image-1"}}, b'{"data":[]}', "gpt-image-1"),
        ("/audio/transcriptions", FORM, b'{"text":"Hello"}', "whisper-1"),
        ("/fine_tuning/jobs", {"json": {"model": "gpt-4o"}}, b'{"model":"gpt-4o"}', None),
    ],
)
def test_the_model_is_told_wherever_one_answers(
    proxy: Proxy, upstream: Scripted, path: str, sent: dict[str, Any], said: bytes, model: str | None
) -> None:
    upstream.will(*answer(said))
    got = ask(proxy, path, **sent)
    assert got.headers.get("x-understudy-model") == model
    assert got.headers["x-understudy-served-by"] == "llm"


def test_an_error_of_the_llm_names_no_model(proxy: Proxy, upstream: Scripted) -> None:
    upstream.will(*answer(b'{"error":{}}', status="404 Not Found"))
    got = ask(proxy)
    assert got.headers["x-understudy-served-by"] == "llm"
    assert "x-understudy-model" not in got.headers


def test_an_error_of_the_proxys_own_was_served_by_nobody(proxy: Proxy, upstream: Scripted) -> None:
    upstream.will(b"", then="close")
    cut = ask(proxy)
    large = ask(proxy, content=b"x" * 1_000_001)
    forbidden = ask(proxy, json=CHAT, headers={"x-understudy-route": "slm"})
    for got, status in ((cut, 502), (large, 413), (forbidden, 403)):
        assert got.status_code == status
        assert got.headers["x-understudy-call-id"]
        assert not {"x-understudy-served-by", "x-understudy-model"} & set(got.headers)
