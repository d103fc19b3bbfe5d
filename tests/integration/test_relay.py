"""The relay on real sockets: what the LLM gets, what the client gets, and what happens when either fails."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, Serve, answer_to_everything, running, wait_for

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ReplayUpstream]:
    server = ReplayUpstream(answerer=answer_to_everything)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(upstream: ReplayUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy for all tests that need no settings of their own."""
    with running(tmp_path_factory.mktemp("proxy"), upstream_url=upstream.base_url) as proxy:
        yield proxy


def sent_headers(upstream: ReplayUpstream) -> dict[str, str]:
    """What the LLM got, names in lower case."""
    return {name.lower(): value for name, value in upstream.last["headers"].items()}


def test_the_llm_gets_exactly_the_bytes_that_came(proxy: Proxy, upstream: ReplayUpstream) -> None:
    body = b'{ "messages":[{"content":"\\u00e4 \xc3\xa4","role":"user"}],\n\t"unknown":  1e3, "model":"gpt-4o" }'
    answer = httpx.post(f"{proxy.base_url}/chat/completions?a=b%20c", content=body)
    assert answer.status_code == 200
    assert upstream.last["body"] == body
    assert upstream.last["path"] == "/v1/chat/completions?a=b%20c"


def test_headers_cross_but_those_of_a_hop_and_our_own(proxy: Proxy, upstream: ReplayUpstream) -> None:
    headers = {
        "Authorization": "Bearer sk-mine", "OpenAI-Beta": "x=1", "X-Understudy-Agent": "a", "TE": "trailers",
        "Connection": "keep-alive, X-Hop", "X-Hop": "1",
    }  # fmt: skip
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers=headers)
    got = sent_headers(upstream)
    assert got["authorization"] == "Bearer sk-mine"
    assert got["openai-beta"] == "x=1"
    assert not {"x-understudy-agent", "te", "x-hop"} & set(got)
    assert answer.headers["x-request-id"] == "req_replay"
    assert answer.headers["x-ratelimit-remaining-requests"] == "9999"
    assert answer.headers["x-understudy-served-by"] == "llm"
    assert answer.headers["x-understudy-reason"] == "no_snapshot"
    assert answer.headers["x-understudy-model"] == "gpt-4o"


def test_the_configured_key_replaces_the_clients(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url, upstream_api_key="sk-ours")
    httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"authorization": "Bearer sk-theirs"})
    assert sent_headers(upstream)["authorization"] == "Bearer sk-ours"


def test_the_admin_token_never_goes_upstream(proxy: Proxy, upstream: ReplayUpstream) -> None:
    httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"authorization": "Bearer test-admin-token"})
    assert "authorization" not in sent_headers(upstream)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST"])
def test_any_method_and_path_is_relayed(proxy: Proxy, upstream: ReplayUpstream, method: str) -> None:
    answer = httpx.request(method, f"{proxy.base_url}/whatever/comes/next", content=b"\x00\xff binary")
    assert answer.headers["x-echo-method"] == method
    assert answer.content == b"\x00\xff binary"


def test_broken_json_is_the_llms_to_refuse(proxy: Proxy, upstream: ReplayUpstream) -> None:
    answer = httpx.post(f"{proxy.base_url}/chat/completions", content=b'{"messages": [')
    assert answer.status_code == 400
    assert "could not parse" in answer.json()["error"]["message"]
    assert upstream.last["body"] == b'{"messages": ['


@pytest.mark.parametrize("fault", ["error-429", "error-500", "error-503"])
def test_errors_of_the_llm_pass_unchanged(proxy: Proxy, fault: str) -> None:
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"x-replay-fault": fault})
    assert answer.status_code == int(fault[6:])
    assert answer.json()["error"]["message"] == f"simulated error {fault[6:]}"
    assert answer.headers.get("retry-after") == ("1" if fault != "error-500" else None)


def test_a_body_over_the_limit_is_refused(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url, max_body_bytes="2048")
    assert httpx.post(f"{proxy.base_url}/chat/completions", content=b"x" * 2048).status_code == 400
    refused = httpx.post(f"{proxy.base_url}/chat/completions", content=b"x" * 2049)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    before = upstream.stats["calls"]
    chunked = httpx.post(f"{proxy.base_url}/chat/completions", content=iter([b"x" * 2000, b"y" * 2000]))
    assert chunked.status_code == 413
    assert upstream.stats["calls"] == before


def test_a_dead_llm_is_a_502_in_openais_shape(serve: Serve) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = serve(upstream_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert httpx.get(f"{proxy.root}/readyz").status_code == 200


@pytest.mark.parametrize(("fault", "code"), [("reset", "upstream_cut"), ("stall", "upstream_timeout")])
def test_an_llm_that_never_answers_is_an_error(serve: Serve, upstream: ReplayUpstream, fault: str, code: str) -> None:
    proxy = serve(upstream_url=upstream.base_url, first_token_timeout_seconds="0.5")
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"x-replay-fault": fault})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504 if fault == "stall" else 502, code)
    assert proxy.metric("understudy_overhead_seconds_sum") < 0.4  # waiting for an LLM is not the proxy's own time


@pytest.mark.parametrize("fault", ["cut", "stall-body"])
def test_a_stream_that_breaks_off_does_not_look_finished(serve: Serve, upstream: ReplayUpstream, fault: str) -> None:
    proxy = serve(upstream_url=upstream.base_url, idle_timeout_seconds="0.5")
    answer = httpx.post(
        f"{proxy.base_url}/chat/completions", json=CHAT | {"stream": True}, headers={"x-replay-fault": fault}
    )
    assert b"[DONE]" not in answer.content
    last = [line for line in answer.text.splitlines() if line.startswith("data:")][-1]
    assert json.loads(last[5:])["error"]["code"] == ("upstream_cut" if fault == "cut" else "upstream_timeout")
    wait_for(lambda: proxy.logged() == 1)
    [call] = proxy.admin("GET", "/calls").json()["data"]
    assert (call["ended"], call["complete"]) == ("upstream_cut", False)
    assert proxy.metric("understudy_overhead_seconds_sum") < 0.4


def test_a_cut_body_that_is_no_stream_does_not_look_whole(proxy: Proxy) -> None:
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"x-replay-fault": "cut"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_cut")


class Slow:
    """An upstream that never gets beyond a given point of each answer, and counts the clients that have left."""

    def __init__(self, before_stalling: list[bytes]) -> None:
        self.left = 0
        self._heads = before_stalling
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for head in self._heads:
            connection, _ = self._socket.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head)
                while connection.recv(65536):
                    pass
                self.left += 1
        self._socket.close()


HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PHASES = {
    "before the headers": b"",
    "before the first token": HEADERS,
    "in the middle of the stream": HEADERS + b"e\r\ndata: {}\n\n: .\n\r\n",
    "in the middle of a body": b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
}


def test_a_client_that_leaves_cancels_the_llm_in_every_phase(serve: Serve) -> None:
    slow = Slow(list(PHASES.values()))
    proxy = serve(upstream_url=slow.base_url)
    for number, phase in enumerate(PHASES, 1):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT | {"stream": True}, timeout=1.0)
        wait_for(lambda number=number: slow.left == number, 10)
        assert slow.left == number, phase
    wait_for(lambda: proxy.logged() == len(PHASES))
    calls = proxy.admin("GET", "/calls").json()["data"]
    assert {(call["ended"], call["complete"]) for call in calls} == {("client_left", False)}
    assert proxy.metric("understudy_overhead_seconds_sum") < 0.9  # each waited for a second, and none for the proxy


def test_a_websocket_is_refused_in_words(proxy: Proxy) -> None:
    answer = httpx.get(
        f"{proxy.base_url}/realtime?model=x",
        headers={
            "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )  # fmt: skip
    assert answer.status_code == 501
    assert answer.json()["error"]["code"] == "not_implemented"


@pytest.fixture
def pieces() -> Iterator[tuple[str, list[list[bytes]]]]:
    """An upstream that writes each answer in the given pieces."""
    plans: list[list[bytes]] = []

    async def run(ready: threading.Event, where: list[str], stop: threading.Event) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readline() not in (b"\r\n", b""):
                pass
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for piece in plans.pop(0):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        where.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.05)
        server.close()

    ready, where, stop = threading.Event(), [], threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(run(ready, where, stop)))
    thread.start()
    ready.wait(10)
    yield where[0], plans
    stop.set()
    thread.join()


def test_a_stream_split_anywhere_arrives_byte_for_byte(serve: Serve, pieces: tuple[str, list[list[bytes]]]) -> None:
    url, plans = pieces
    stream = 'data: {"a":"ä"}\r\n\r\n: note\n\ndata: {"b":1}\n\ndata: [DONE]\n\n'.encode()
    proxy = serve(upstream_url=url)
    with httpx.Client() as client:
        for cut in range(1, len(stream)):
            plans.append([stream[:cut], stream[cut:]])
            answer = client.post(f"{proxy.base_url}/chat/completions", json=CHAT | {"stream": True})
            assert answer.content == stream
    wait_for(lambda: proxy.logged() == len(stream) - 1)
    page = proxy.admin("GET", "/calls?limit=500").json()["data"]
    assert {call["ended"] for call in page} == {"finished"}
    stored = proxy.admin("GET", f"/calls/{page[0]['call_id']}").json()
    assert stored["response_body"].encode() == stream


def test_a_stream_reaches_the_client_while_it_is_written(serve: Serve) -> None:
    upstream = ReplayUpstream(answerer=lambda request: "word " * 40, token_seconds=0.05)
    upstream.start()
    proxy = serve(upstream_url=upstream.base_url)
    begun = time.monotonic()
    with httpx.stream("POST", f"{proxy.base_url}/chat/completions", json=CHAT | {"stream": True}) as answer:
        chunks = answer.iter_raw()
        first = next(chunks)
        early = time.monotonic() - begun
        rest = b"".join(chunks)
    upstream.stop()
    assert b"[DONE]" not in first
    assert rest.endswith(b"data: [DONE]\n\n")
    assert answer.headers["x-accel-buffering"] == "no"
    assert early < time.monotonic() - begun


def test_tokens_and_cost_are_counted_also_where_a_stream_says_nothing(proxy: Proxy) -> None:
    counted = 'understudy_tokens_total{direction="output",served_by="llm"}'
    before = proxy.metric(counted)
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT | {"stream": True})
    path = f"/calls/{answer.headers['x-understudy-call-id']}"
    wait_for(lambda: proxy.admin("GET", path).status_code == 200)
    call = proxy.admin("GET", path).json()
    assert (call["tokens_estimated"], call["stream"]) == (True, True)
    assert call["output_tokens"] == 8
    assert call["cost_usd"] > 0
    wait_for(lambda: proxy.metric(counted) >= before + 8)


def test_a_misspelt_wish_about_the_log_keeps_the_content_out_of_it(proxy: Proxy) -> None:
    answer = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"x-understudy-log": "flase"})
    path = f"/calls/{answer.headers['x-understudy-call-id']}"
    wait_for(lambda: proxy.admin("GET", path).status_code == 200)
    stored = proxy.admin("GET", path).json()
    assert (stored["log"], stored["request_body"], stored["response_body"]) == ("metadata", None, None)


def test_a_client_may_have_less_logged_and_never_more(serve: Serve, upstream: ReplayUpstream) -> None:
    proxy = serve(upstream_url=upstream.base_url, log_bodies="metadata")
    httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"x-understudy-log": "full"})
    httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT, headers={"x-understudy-log": "off"})
    wait_for(lambda: proxy.logged() == 1)
    [call] = proxy.admin("GET", "/calls").json()["data"]
    stored = proxy.admin("GET", f"/calls/{call['call_id']}").json()
    assert (stored["log"], stored["request_body"], stored["response_body"]) == ("metadata", None, None)
    assert proxy.logged() == 1
