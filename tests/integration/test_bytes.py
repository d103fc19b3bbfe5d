"""What an upstream says, byte for byte: recorded answers, odd ones, and what the proxy's own headers tell of them."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.transport.http_server import MAX_HEAD_BYTES
from tests.conftest import ADMIN_TOKEN, Proxy, running
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


@pytest.mark.parametrize(
    ("target", "passed"),
    [
        ("/v1/models/ft:gpt-4o:acme::a1?after=b:c", "/v1/models/ft:gpt-4o:acme::a1?after=b:c"),
        ("/v1/%6dodels/a%2Fb%20c//d;e?f=%67&g", "/v1/%6dodels/a%2Fb%20c//d;e?f=%67&g"),
        ("/v1/files/a..b/%2e/c/../d", "/v1/files/a..b/%2e/c/../d"),
        ("/%761/models", None),
        ("/v1", None),
        ("//v1/models", None),
        ("/v2/models", None),
        ("/v1/../admin", None),
        ("/v1/%2e%2E/admin", None),
        ("/v1/a/..%2f..%2fadmin", None),
    ],
)
def test_what_is_below_v1_goes_up_as_it_is_and_nothing_else(
    proxy: Proxy, upstream: Scripted, target: str, passed: str | None
) -> None:
    before = len(upstream.requests)
    got = exchange(proxy, f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    if passed is not None:
        assert upstream.target.decode() == passed
    else:
        assert len(upstream.requests) == before
        assert got.startswith(b"HTTP/1.1 404 ")
        assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["message"] == f"there is nothing at GET {target}"


def exchange(proxy: Proxy, sent: bytes) -> bytes:
    """Send bytes, and read until the connection ends."""
    with socket.create_connection(("127.0.0.1", httpx.URL(proxy.root).port or 0), timeout=10) as client:
        client.sendall(sent)
        got = b""
        while piece := client.recv(65536):
            got += piece
        return got


@pytest.mark.parametrize(
    "sent",
    [
        b"no HTTP at all\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /v1/\xc3\xa4 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnot a length\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_openais_shape(proxy: Proxy, sent: bytes) -> None:
    head, _, body = exchange(proxy, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert b"content-length: %d" % len(body) in head
    error = json.loads(body)["error"]
    assert error["message"].startswith("this is not an HTTP request: ")
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "bad_request", None)


@pytest.mark.parametrize("sent", [b"GET /v1/models?x=", b"GET /v1/models HTTP/1.1\r\nx: ", b"\r\n\r\nGET /"])
def test_a_head_without_an_end_is_refused_before_it_costs_much(proxy: Proxy, sent: bytes) -> None:
    head, _, body = exchange(proxy, sent + b"a" * (MAX_HEAD_BYTES + 1 - len(sent))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(body)["error"]["code"] == "head_too_large"


@pytest.mark.parametrize("trailers", [b"x: aaaaaaaa\r\n", b"a"])
def test_trailers_without_an_end_are_refused(proxy: Proxy, trailers: bytes) -> None:
    sent = b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    filler = trailers * (MAX_HEAD_BYTES // len(trailers) + 1)
    head, _, body = exchange(proxy, sent + filler[: MAX_HEAD_BYTES + 1 - len(sent)]).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert "trailers" in json.loads(body)["error"]["message"]


def test_a_trailer_is_no_header(proxy: Proxy, upstream: Scripted) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    got = exchange(proxy, head + b"2\r\nhi\r\n0\r\nx-late: 1\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"x-late" not in upstream.requests[-1][0].lower()


def test_rubbish_after_a_request_never_looks_like_its_answer(proxy: Proxy, upstream: Scripted) -> None:
    upstream.will(*answer(b"x" * 1000)[:1], then="keep")
    got = exchange(proxy, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n\x00\x01rubbish\r\n\r\n")
    assert b"400 Bad Request" not in got


@pytest.mark.parametrize("head", ["", "connection: keep-alive\r\n"])
def test_a_client_of_http_1_0_gets_bodies_that_end_with_the_connection(
    proxy: Proxy, upstream: Scripted, head: str
) -> None:
    stream = b'data: {"a":1}\n\ndata: [DONE]\n\n'
    request = f"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: 2\r\n{head}\r\n{{}}".encode()
    upstream.will(*chunked([stream[:7], stream[7:]]))
    got_head, _, body = exchange(proxy, request).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in got_head
    assert b"connection: close" in got_head
    assert body == stream
    upstream.will(*answer(ANSWER))
    got_head, _, body = exchange(proxy, request).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(ANSWER) in got_head
    assert body == ANSWER


def test_an_upgrade_that_is_not_made_leaves_ordinary_requests(proxy: Proxy, upstream: Scripted) -> None:
    """Java's client asks for h2c with its first request."""
    before = len(upstream.requests)
    head = (
        b"POST /v1/x%20y HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, http2-settings\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABkAAQ\r\ncontent-length: 5\r\n\r\n"
    )
    following = b"POST /v1/z HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    got = exchange(proxy, head + b"[1,2]" + following)
    assert got.count(b"HTTP/1.1 200 ") == 2
    (first_head, first_body), (second_head, second_body) = upstream.requests[before:]
    assert first_head.startswith(b"POST /v1/x%20y HTTP/1.1\r\n")
    assert second_head.startswith(b"POST /v1/z HTTP/1.1\r\n")
    assert (first_body, second_body) == (b"[1,2]", b"{}")
    assert not any(word in first_head.lower() for word in (b"upgrade", b"http2-settings"))


def test_a_refused_websocket_is_no_noise_in_the_log(proxy: Proxy) -> None:
    before = proxy.errors.read_text()
    upgrade = b"connection: close, upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAA\r\n\r\n"
    for target in (b"/v1/realtime?model=x", b"/elsewhere"):
        got = exchange(proxy, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n" + upgrade)
        assert got.startswith((b"HTTP/1.1 501 ", b"HTTP/1.1 404 "))
        assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert proxy.errors.read_text() == before


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_a_health_check_may_be_a_head(proxy: Proxy, path: str) -> None:
    got = httpx.head(proxy.root + path)
    assert (got.status_code, got.content) == (200, b"")


def test_a_body_that_is_no_json_is_called_that(proxy: Proxy) -> None:
    headers = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"}
    got = httpx.post(f"{proxy.root}/admin/v1/models", content=b'{"name": }', headers=headers)
    error = got.json()["error"]
    assert (got.status_code, error["code"], error["param"]) == (400, "invalid_json", None)
    assert error["message"] == "the body is not valid JSON: Expecting value at character 9"


SSE = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'


def test_an_answer_without_a_body_may_tell_the_length_that_it_would_have(proxy: Proxy, upstream: Scripted) -> None:
    upstream.will(b"HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 1234\r\n\r\n")
    got = httpx.get(f"{proxy.base_url}/files/f/content", headers={"if-none-match": "x"})
    assert (got.status_code, got.headers["etag"], got.content) == (304, "x", b"")
    upstream.will(b"HTTP/1.1 200 OK\r\ncontent-length: 1234567\r\n\r\n", then="close")
    got = httpx.head(f"{proxy.base_url}/files/f/content")
    assert (got.status_code, got.headers["content-length"]) == (200, "1234567")
    for length in (b"", b"content-length: 0\r\n", b"content-length: 2\r\n"):
        upstream.will(b"HTTP/1.1 204 No Content\r\n" + length + b"\r\n", then="close")
        assert httpx.delete(f"{proxy.base_url}/files/f").status_code == 204


@pytest.mark.parametrize("then", ["reset", "close"])
def test_a_stream_that_breaks_after_its_final_event_is_whole(proxy: Proxy, upstream: Scripted, then: str) -> None:
    upstream.will(*chunked([SSE])[:-1], then=then)
    assert ask(proxy).content == SSE
    upstream.will(*chunked([SSE, b"data: [D"])[:-1], then=then)
    got = ask(proxy)
    assert got.content == SSE + b"data: [D"


def test_a_stream_that_says_its_length_is_cut_where_it_breaks(proxy: Proxy, upstream: Scripted) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000000\r\n\r\n"
    upstream.will(head + b": note\n\n", then="close")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        ask(proxy)


def test_a_compressed_stream_may_end_with_its_connection(proxy: Proxy, upstream: Scripted) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\r\n"
    upstream.will(head, gzip.compress(SSE), then="close")
    assert ask(proxy).content == SSE


@pytest.mark.parametrize("header", [b"", b"transfer-encoding: identity\r\n"])
def test_a_body_may_end_with_its_connection(proxy: Proxy, upstream: Scripted, header: bytes) -> None:
    upstream.will(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n" + ANSWER, then="close")
    assert ask(proxy).content == ANSWER


def test_what_an_llm_says_beside_its_answer_is_not_passed_on(proxy: Proxy, upstream: Scripted) -> None:
    upstream.will(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", *chunked([SSE])[:-1], b"0\r\nx-trailer: 1\r\n\r\n")
    got = ask(proxy)
    assert (got.status_code, got.content) == (200, SSE)
    assert not {"link", "x-trailer"} & set(got.headers)
    upstream.will(*answer(ANSWER), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
    assert [ask(proxy).content, ask(proxy).content] == [ANSWER, b"{}"]
    upstream.will(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
    assert ask(proxy).json()["error"]["message"] == "the LLM went over to another protocol, unasked"


@pytest.mark.parametrize("status", ["999 Denied", "600 What", "000 Nothing"])
def test_a_status_that_http_does_not_have_is_a_502(proxy: Proxy, upstream: Scripted, status: str) -> None:
    upstream.will(*answer(b"{}", status=status), then="close")
    got = ask(proxy)
    assert (got.status_code, got.json()["error"]["code"]) == (502, "upstream_cut")


def test_headers_may_be_empty_or_repeated(proxy: Proxy, upstream: Scripted) -> None:
    upstream.will(
        b"HTTP/1.1 200 OK\r\nX-Empty:\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: x-one\r\n"
        b"connection: x-two\r\nx-one: 1\r\nx-two: 2\r\ncontent-length: 0\r\n\r\n"
    )
    got = exchange(
        proxy,
        b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-empty:\r\nx-same: 1\r\nx-same: 2\r\nconnection: x-one\r\n"
        b"connection: close, x-two\r\nx-one: 1\r\nx-two: 2\r\n\r\n",
    )
    head = upstream.requests[-1][0]
    assert b"x-empty: \r\nx-same: 1\r\nx-same: 2\r\n" in head
    assert b"x-empty: \r\nset-cookie: a=1\r\nset-cookie: b=2\r\n" in got.lower()
    assert not any(word in both for word in (b"x-one", b"x-two") for both in (head, got))
