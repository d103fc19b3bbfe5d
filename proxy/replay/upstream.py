"""A simulated LLM: serves recorded or computed answers over HTTP, and misbehaves on demand as real ones do.

What it simulates is the provider's server; the answers are recorded ones, or come from a function. Faults
(`faults.py`) are asked for by request headers (`x-replay-fault: stall`), so that one server plays every part of a test;
or the server is told to have one in every so many answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from proxy.errors import error_body
from proxy.replay.faults import Fault
from proxy.replay.recordings import Recording
from proxy.wire import chat, responses

#: A request's answer: a text, or a message with `content` and `tool_calls`.
Answerer = Callable[[dict[str, Any]], str | dict[str, Any] | None]
_NOT_ASKED = frozenset({"stream", "stream_options", "user", "metadata", "model"})
CHARS_PER_TOKEN = 4


def request_key(request: dict[str, Any]) -> str:
    """What makes two requests the same: all but how the answer is delivered, and the model's name."""
    asked = {name: value for name, value in request.items() if name not in _NOT_ASKED}
    return hashlib.blake2b(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


class ReplayUpstream:
    """The server. `start` runs it in a thread of its own, `run` in this one."""

    def __init__(
        self,
        recordings: Iterable[Recording] = (),
        answerer: Answerer | None = None,
        *,
        latency_seconds: float = 0.0,
        token_seconds: float = 0.0,
        fault: Fault | None = None,
        fault_every: int = 1,
        stall_seconds: float = 600.0,
    ) -> None:
        """
        Args:
            recordings: several answers to one request take turns.
            answerer: asked first; None from it means that the request isn't its.
            latency_seconds: before the headers.
            token_seconds: between two events of a stream.
            fault: of every `fault_every`th answer to chat or responses calls that ask for none themselves.
            stall_seconds: how long a fault that stalls does.
        """
        self.answerer = answerer
        self.latency_seconds = latency_seconds
        self.token_seconds = token_seconds
        self.fault = fault
        self._fault_every = fault_every
        self._stall_seconds = stall_seconds
        self._asked = itertools.count(1)
        self.stats: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        self._recorded: dict[str, list[Recording]] = {}
        for recording in recordings:
            self._recorded.setdefault(request_key(recording.request), []).append(recording)
        self._turns = {key: itertools.cycle(found) for key, found in self._recorded.items()}
        self._files: dict[str, bytes] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.base_url = ""

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=256 * 2**20, middlewares=[self._counted])
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._download)
        app.router.add_post("/v1/audio/speech", self._speech)
        app.router.add_get("/_stats", self._show_stats)
        app.router.add_route("*", "/v1/{rest:.*}", self._echo)
        return app

    def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1 in a thread; returns the base URL, ending in `/v1`."""
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.run(port, lambda _: ready.set())), name="replay-upstream", daemon=True
        )
        self._thread.start()
        ready.wait(30)
        return self.base_url

    def stop(self) -> None:
        """End the thread; once is enough."""
        if self._loop is not None and self._stop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    async def run(self, port: int, announce: Callable[[str], None]) -> None:
        """Serve until `stop`, or until cancelled."""
        runner = web.AppRunner(self.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server = site._server
        assert isinstance(server, asyncio.Server)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        announce(self.base_url)
        try:
            await self._stop.wait()
        finally:
            await runner.cleanup()

    @web.middleware
    async def _counted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.stats["calls"] += 1
        self.stats["running"] += 1
        try:
            self.last = {"headers": dict(request.headers), "path": request.path_qs, "method": request.method}
            answer: web.StreamResponse = await handler(request)
            return answer
        except (asyncio.CancelledError, ConnectionResetError):
            self.stats["cancelled"] += 1
            raise
        finally:
            self.stats["running"] -= 1

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "chat")

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "responses")

    async def _answer(self, request: web.Request, endpoint: str) -> web.StreamResponse:
        raw = await request.read()
        self.last["body"] = raw
        fault = request.headers.get("x-replay-fault") or self._next_fault()
        await asyncio.sleep(self.latency_seconds)
        if (status := fault.removeprefix("error-")).isdigit():
            return _error(int(status))
        if fault == Fault.STALL:
            await asyncio.sleep(self._stall_seconds)
        if fault == Fault.RESET:
            assert request.transport is not None
            request.transport.abort()
        if fault == Fault.GARBAGE:
            return web.Response(body=b"<html>bad gateway</html>", content_type="text/html")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            return _error(400, "We could not parse the JSON body of your request.")
        found = self._find(body, endpoint)
        if found is None:
            return _error(404, "no recorded answer for this request")
        if found.status != 200:
            return web.json_response(found.response, status=found.status, headers=_headers())
        stream = body.get("stream") is True
        if stream and endpoint == "chat":
            options = body.get("stream_options") or {}
            data = found.sse or chat.render(found.response, include_usage=options.get("include_usage") is True)
        elif stream:
            data = found.sse or responses.render(found.response)
        else:
            data = orjson.dumps(found.response)
        if fault == Fault.ERROR_EVENT:
            data = error_body("the server had an error", "server_error", None)
            data = b"data: " + data + b"\n\n" if stream else data
        return await self._send(request, data, stream, fault)

    def _next_fault(self) -> str:
        """The server's own fault, when it is due."""
        return self.fault or "" if next(self._asked) % self._fault_every == 0 else ""

    async def _send(self, request: web.Request, data: bytes, stream: bool, fault: str) -> web.StreamResponse:
        content_type = "text/event-stream; charset=utf-8" if stream else "application/json"
        answer = web.StreamResponse(headers={**_headers(), "content-type": content_type})
        if not stream:
            answer.content_length = len(data)
        await answer.prepare(request)
        pieces = data.split(b"\n\n") if stream else [data]
        pieces = [piece + b"\n\n" for piece in pieces if piece] if stream else pieces
        if fault in (Fault.CUT, Fault.STALL_BODY):
            half = b"".join(pieces)
            await answer.write(half[: len(half) // 2])
            await asyncio.sleep(
                self._stall_seconds if fault == Fault.STALL_BODY else 0.1
            )  # the half gets through before the end
            assert request.transport is not None
            request.transport.abort()
            return answer
        if stream and self.token_seconds:
            for piece in pieces:
                await answer.write(piece)
                await asyncio.sleep(self.token_seconds)
        else:
            await answer.write(b"".join(pieces))
        await answer.write_eof()
        return answer

    def _find(self, body: dict[str, Any], endpoint: str) -> Recording | None:
        answer = self.answerer(body) if self.answerer is not None else None
        if answer is not None:
            return Recording(endpoint, body, _completion(body, answer), 200, None, 0)
        turns = self._turns.get(request_key(body))
        return next(turns) if turns is not None else None

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        rows = []
        for index, text in enumerate(texts):
            digest = hashlib.blake2b(str(text).encode(), digest_size=32).digest()
            rows.append({"object": "embedding", "index": index, "embedding": [byte / 255 - 0.5 for byte in digest]})
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return web.json_response({"object": "list", "data": rows, "model": body.get("model"), "usage": usage})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": "gpt-4o", "object": "model", "created": 0, "owned_by": "replay"}
        return web.json_response({"object": "list", "data": [model]}, headers=_headers())

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form.get("file")
        if not isinstance(upload, web.FileField):
            return _error(400, "'file' is a required property")
        content = upload.file.read()
        name = f"file-{hashlib.blake2b(content, digest_size=8).hexdigest()}"
        self._files[name] = content
        row = {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": upload.filename,
               "purpose": form.get("purpose"), "status": "processed"}  # fmt: skip
        return web.json_response(row)

    async def _download(self, request: web.Request) -> web.Response:
        return web.Response(body=self._files[request.match_info["id"]], content_type="application/octet-stream")

    async def _speech(self, request: web.Request) -> web.Response:
        return web.Response(body=bytes(range(256)) * 64, content_type="audio/mpeg")

    async def _show_stats(self, request: web.Request) -> web.Response:
        return web.json_response(dict(self.stats))

    async def _echo(self, request: web.Request) -> web.Response:
        """Whatever comes next: the body as it came."""
        self.last["body"] = await request.read()
        return web.Response(body=self.last["body"], headers={**_headers(), "x-echo-method": request.method})


def _completion(request: dict[str, Any], answer: str | dict[str, Any]) -> dict[str, Any]:
    """A computed answer as a completion, with usage by a rule of thumb."""
    message = {"content": answer} if isinstance(answer, str) else answer
    sent = sum(len(str(message.get("content") or "")) for message in request.get("messages", ())) // CHARS_PER_TOKEN
    generated = max(1, len(str(answer)) // CHARS_PER_TOKEN)
    return {
        "id": f"chatcmpl-{request_key(request)}",
        "object": "chat.completion",
        "created": 0,
        "model": request.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None} | message,
                "logprobs": None,
                "finish_reason": "tool_calls" if message.get("tool_calls") else "stop",
            }
        ],
        "usage": {"prompt_tokens": sent, "completion_tokens": generated, "total_tokens": sent + generated},
    }


def _headers() -> dict[str, str]:
    return {
        "x-request-id": "req_replay",
        "openai-processing-ms": "1",
        "openai-version": "2020-10-01",
        "x-ratelimit-remaining-requests": "9999",
    }


def _error(status: int, message: str = "") -> web.Response:
    kind = {429: "rate_limit_error", 404: "invalid_request_error", 400: "invalid_request_error"}
    body = error_body(message or f"simulated error {status}", kind.get(status, "server_error"), None)
    headers = _headers() | ({"retry-after": "1"} if status in (429, 503) else {})
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
