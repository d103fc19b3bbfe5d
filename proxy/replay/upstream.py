"""A simulated LLM provider: serves recorded or computed answers over HTTP, as well or as badly as it is told to.

What is simulated is the provider's server, not the answers: those were recorded from real models, or come from a function
that knows the truth. Everything runs on a real socket. `GET /_stats` counts; `POST /_ctl` changes the behaviour.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from proxy.errors import UnderstudyError, error_body
from proxy.replay.answers import Answerer, Answers, Unmatched
from proxy.replay.behaviour import Behaviour
from proxy.replay.provider import Provider, error, json_answer, openai_headers
from proxy.replay.recordings import Recording
from proxy.replay.spelling import spell
from proxy.wire import sse

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]

DEFAULT_MODEL = "gpt-4o"
MAX_BODY_BYTES = 256 * 2**20
_EVENT = re.compile(rb".*?\r?\n\r?\n|.+\Z", re.DOTALL)
_FOREVER_SECONDS = 3600.0
_ANSWERING = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/completions": "completions",
    "/v1/messages": "anthropic",
}


class CannotServe(UnderstudyError):
    """The simulated upstream can't listen where it should."""

    code = "cannot_serve"


class ReplayUpstream:
    """The server. `start` runs it in a thread of its own, `run` in the calling task.

    Attributes:
        base_url: ends in `/v1`; empty before it serves.
        answerer: asked first; may be exchanged while it serves.
        stats: `calls`, `running`, `finished` and `cancelled` (the client left before the end), since the start.
        last: the last request: `method`, `path` (with the query), `headers` (names in lower case), `body`.
    """

    def __init__(
        self,
        recordings: Iterable[Recording] = (),
        answerer: Answerer | None = None,
        *,
        unmatched: Unmatched = Unmatched.ERROR,
        latency_seconds: float = 0.0,
        token_seconds: float = 0.0,
    ) -> None:
        """
        Args:
            recordings: several answers to one request take turns.
            answerer: asked first; None from it means that the request isn't its business.
            unmatched: what becomes of requests that nobody knows.
            latency_seconds: before the headers.
            token_seconds: between two events of a stream.
        """
        self.stats: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        self.base_url = ""
        self._answers = Answers(recordings, answerer, unmatched)
        self._provider = Provider(lambda: self._answers.models | {DEFAULT_MODEL})
        self._usual = Behaviour(latency_seconds=latency_seconds, token_seconds=token_seconds)
        self._for_now: tuple[Behaviour, int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    # Running ----------------------------------------------------------------------------------------------------------

    def start(self, port: int = 0) -> str:
        """Serve on 127.0.0.1 in a thread; returns the base URL.

        Raises:
            CannotServe: the port is taken.
        """
        ready = threading.Event()
        failed: list[BaseException] = []

        def serve() -> None:
            try:
                asyncio.run(self.run(port, lambda _: ready.set()))
            except CannotServe as error:
                failed.append(error)
                ready.set()

        self._thread = threading.Thread(target=serve, name="replay-upstream", daemon=True)
        self._thread.start()
        ready.wait(30)
        if failed:
            raise failed[0]
        return self.base_url

    def stop(self) -> None:
        """End the thread, and the calls that are still running."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    async def run(self, port: int, announce: Callable[[str], None], host: str = "127.0.0.1") -> None:
        """Serve until `stop`, or until cancelled.

        Args:
            announce: gets the base URL.

        Raises:
            CannotServe: the port is taken.
        """
        runner = web.AppRunner(self.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
            self.base_url = f"http://{host}:{runner.addresses[0][1]}/v1"
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            announce(self.base_url)
            await self._stop.wait()
        except OSError as error:
            raise CannotServe(f"can't listen on {host}:{port}: {error.strerror}") from error
        finally:
            await runner.cleanup()

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._counted])
        app.router.add_get("/_stats", self._show_stats)
        app.router.add_post("/_ctl", self._control)
        for path in _ANSWERING:
            app.router.add_post(path, self._answer)
        self._provider.add_to(app.router)
        return app

    # Behaving ---------------------------------------------------------------------------------------------------------

    def behave(self, behaviour: Behaviour, times: int | None = None) -> None:
        """Serve like this, from the next call on.

        Args:
            times: only so many calls, then as before; None: until it is changed.
        """
        if times is None:
            self._usual, self._for_now = behaviour, None
        else:
            self._for_now = behaviour, times

    def _behaviour(self) -> Behaviour:
        if self._for_now is None:
            return self._usual
        behaviour, times = self._for_now
        self._for_now = (behaviour, times - 1) if times > 1 else None
        return behaviour

    async def _control(self, request: web.Request) -> web.Response:
        try:
            wishes = orjson.loads(await request.read())
            times = wishes.pop("times", None)
            self.behave(self._usual.changed(wishes), times if times is None else int(times))
        except (AttributeError, TypeError, ValueError) as problem:
            return error(400, str(problem))
        return json_answer({"ok": True})

    async def _show_stats(self, request: web.Request) -> web.Response:
        return json_answer(dict(self.stats))

    @web.middleware
    async def _counted(self, request: web.Request, respond: Respond) -> web.StreamResponse:
        if request.path.startswith("/_"):
            return await respond(request)
        self.stats["calls"] += 1
        self.stats["running"] += 1
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            seen = {"method": request.method, "path": request.path_qs, "headers": headers, "body": b""}
            self.last = seen
            seen["body"] = await request.read()
            answer = await respond(request)
        except (asyncio.CancelledError, ConnectionError):
            self.stats["cancelled"] += 1
            raise
        finally:
            self.stats["running"] -= 1
        self.stats["finished"] += 1
        return answer

    # Answering --------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            behaviour = self._behaviour().as_asked(request.headers)
        except ValueError as problem:
            return error(400, str(problem))
        await asyncio.sleep(behaviour.latency_seconds)
        if (status := behaviour.error_status) is not None:
            return error(status, f"simulated error {status}")
        if behaviour.fault == "stall":
            await asyncio.sleep(_FOREVER_SECONDS)
        if behaviour.fault == "reset":
            return _hang_up(request, web.StreamResponse())
        if behaviour.fault == "garbage":
            return web.Response(body=b"<html>bad gateway</html>", content_type="text/html")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return error(400, "We could not parse the JSON body of your request.")
        if not isinstance(body, dict):
            return error(400, "The request body is no JSON object.")
        found = self._answers.find(_ANSWERING[request.path], body)
        if found is None:
            return error(404, "no recorded answer for this request", "not_recorded")
        if found.status != 200:
            return json_answer(found.response, found.status, {"retry-after": "1"} if found.status == 429 else None)
        stream = body.get("stream") is True
        data = spell(found, body) if stream else orjson.dumps(found.response)
        return await _send(request, data, stream, behaviour)


async def _send(request: web.Request, data: bytes, stream: bool, behaviour: Behaviour) -> web.StreamResponse:
    """Send an answer, or as much of it as the fault lets through."""
    fault = behaviour.fault
    content_type = "text/event-stream; charset=utf-8" if stream else "application/json"
    answer = web.StreamResponse(headers={**openai_headers(), "content-type": content_type})
    events = _EVENT.findall(data) if stream else [data]
    if fault == "truncate":
        events = events[:-1] if stream else [data[: len(data) // 2]]
    elif fault == "error-event":
        failure = error_body("The server had an error processing your request.", "server_error", None)
        events = [*events[: len(events) // 2], sse.encode(failure)]
    elif fault in ("cut", "stall-body"):
        events = events[: len(events) // 2] if len(events) > 1 else [data[: len(data) // 2]]
    if fault == "wrong-length":
        answer.content_length = len(data) + 1
    elif not stream:
        answer.content_length = len(data) if fault in ("cut", "stall-body") else sum(map(len, events))
    await answer.prepare(request)
    await asyncio.sleep(_FOREVER_SECONDS if fault == "stall-first" else behaviour.first_token_seconds)
    await _write(answer, events, behaviour)
    if fault == "stall-body":
        await asyncio.sleep(_FOREVER_SECONDS)
    if fault in ("cut", "wrong-length"):
        return _hang_up(request, answer)
    await answer.write_eof()
    return answer


async def _write(answer: web.StreamResponse, events: list[bytes], behaviour: Behaviour) -> None:
    if not behaviour.token_seconds:
        events = [b"".join(events)]
    for number, event in enumerate(events):
        if number:
            await asyncio.sleep(behaviour.token_seconds)
        size = behaviour.split_bytes or len(event)
        for start in range(0, len(event), size or 1):
            await answer.write(event[start : start + size])
            if behaviour.split_bytes:
                await asyncio.sleep(0)


def _hang_up(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """Close the connection in the middle; what was written before is sent."""
    if request.transport is not None:
        request.transport.close() if answer.prepared else request.transport.abort()
    return answer
