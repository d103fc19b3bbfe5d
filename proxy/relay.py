"""One call, from its first byte to its record: read, decide, try, relay, log. Raw ASGI; mounted under /v1.

The LLM gets exactly the bytes that came, and the client exactly the bytes that the LLM sent. An SLM is tried only
before the first byte; whatever goes wrong with it, the LLM is asked in the same request.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from proxy.attempts import Declined, Served
from proxy.auth import bearer_token
from proxy.errors import BodyTooLarge, ClientError, Forbidden, UnderstudyError, UpstreamError
from proxy.headers import Headers, find, for_client, for_upstream
from proxy.logs import OncePerMinute
from proxy.recorder import CallLog
from proxy.upstreams import Patience, errors_mapped
from proxy.wire import sse
from proxy.wire.endpoint import Endpoint, classify
from router.decision import Reason
from router.features import FeaturesUnreadable, read_chat, read_responses

if TYPE_CHECKING:
    import aiohttp

    from proxy.state import State
    from router.features import CallFeatures

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = structlog.get_logger()

_MODEL = re.compile(rb'"model"\s*:\s*"([\x21\x23-\x5b\x5d-\x7e]{1,200})"')
WHOLE_BYTES = 2**18  # an answer up to this length is sent in one piece
PARSE_IN_THREAD_BYTES = 2**20
MAX_LOGGED_ANSWER_BYTES = 64 * 2**20
_DIVERTIBLE = frozenset({Endpoint.CHAT, Endpoint.RESPONSES})


class ClientLeft(Exception):
    """The client closed its connection."""


class Relay:
    """The data plane as an ASGI app."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._log_now = OncePerMinute()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        headers: Headers = scope["headers"]
        path = scope["raw_path"].decode("latin-1")
        call = CallLog(scope["method"], path, classify(scope["method"], path), headers)
        query = scope["query_string"]
        if query:
            call.path = f"{path}?{query.decode('latin-1')}"
        deadline = asyncio.get_running_loop().time() + self._state.settings.total_timeout_seconds
        try:
            call.request_body = await self._read_body(headers, receive)
        except ClientLeft:
            return
        except ClientError as error:
            await self._refuse(call, error, send)
            return

        me = asyncio.current_task()
        assert me is not None
        watch = asyncio.create_task(_cancel_when_gone(receive, me))
        try:
            await self._serve(call, send, deadline)
        except asyncio.CancelledError:
            if not watch.done() or watch.cancelled():
                self._state.recorder.record(call, "upstream_cut")
                raise  # the server is ending
            me.uncancel()
            call.status = call.status or 499
            self._state.recorder.record(call, "client_left")
        finally:
            watch.cancel()

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._state.settings.max_body_bytes
        length = find(headers, b"content-length")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return body
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
        return b"".join(parts)

    async def _serve(self, call: CallLog, send: Send, deadline: float) -> None:
        """Decide, try the SLM if there is one, else and otherwise the LLM."""
        try:
            if call.endpoint in _DIVERTIBLE and call.method == "POST" and await self._divert(call, send, deadline):
                return
            await self._ask_llm(call, send, deadline)
        except UnderstudyError as error:
            await self._refuse(call, error, send)

    # Deciding ---------------------------------------------------------------------------------------------------------

    async def _divert(self, call: CallLog, send: Send, deadline: float) -> bool:
        """Decide, and let an SLM answer if it may and can. False: it is the LLM's turn."""
        route = find(call.headers, b"x-understudy-route").decode("latin-1").strip().lower()
        if route == "slm" and not self._is_admin(call.headers):
            raise Forbidden("x-understudy-route: slm needs the admin token")
        router = self._state.serving.router
        if router.snapshot is None:
            call.reason = Reason.HEADER_OVERRIDE if route == "llm" else Reason.NO_SNAPSHOT
            return False
        body, features = await self._read(call)
        if features is None:
            call.reason = Reason.UNSUPPORTED_FEATURE
            return False
        decision = router.decide(
            features,
            held=Reason.HEADER_OVERRIDE if route == "llm" else None,
            force=route == "slm",
            session=find(call.headers, b"x-understudy-session").decode("latin-1") or None,
        )
        if decision.payload_text is not None:
            decision = await asyncio.get_running_loop().run_in_executor(None, router.settle, decision)
        call.decision, call.reason = decision, decision.reason
        if not decision.to_slm:
            return False
        begun = time.perf_counter()
        outcome = await self._state.slm.attempt(call.endpoint, body, features, decision, deadline)
        call.waited_seconds += time.perf_counter() - begun
        if isinstance(outcome, Declined):
            call.reason = outcome.reason
            call.attempts.append(outcome.attempt)
            return False
        call.served_by, call.upstream, call.model_resolved = "slm", outcome.upstream, outcome.model
        await self._send_served(call, outcome, send)
        return True

    async def _read(self, call: CallLog) -> tuple[dict[str, Any], CallFeatures | None]:
        """Parse a copy; what can't be read is none of the router's business."""
        data = call.request_body
        try:
            if len(data) > PARSE_IN_THREAD_BYTES:
                body = await asyncio.get_running_loop().run_in_executor(None, orjson.loads, data)
            else:
                body = orjson.loads(data)
            return body, read_chat(body) if call.endpoint is Endpoint.CHAT else read_responses(body)
        except (orjson.JSONDecodeError, FeaturesUnreadable, RecursionError):
            return {}, None

    def _is_admin(self, headers: Headers) -> bool:
        return self._state.gate.is_admin(bearer_token(find(headers, b"authorization").decode("latin-1")))

    # Answering --------------------------------------------------------------------------------------------------------

    async def _send_served(self, call: CallLog, served: Served, send: Send) -> None:
        call.status = served.status
        call.response_content_type = served.content_type.decode("latin-1")
        headers = [(b"content-type", served.content_type), *served.headers]
        if isinstance(served.body, bytes):
            headers.append((b"content-length", b"%d" % len(served.body)))
            await self._send_whole(call, headers, served.body, send)
            return
        await self._begin(call, headers, send)
        await self._stream_events(call, served.body, send, None)

    async def _ask_llm(self, call: CallLog, send: Send, deadline: float) -> None:
        state = self._state
        own_key = state.llm_authorization
        headers = for_upstream(call.headers, own_key, keep_authorization=not self._is_admin(call.headers))
        patience = Patience(state.settings, deadline)
        begun = time.perf_counter()
        answer: aiohttp.ClientResponse | None = None
        try:
            async with errors_mapped(patience):
                answer = await state.llm.request(call.method, call.path[3:], headers, call.request_body)
                patience.progressed()
                call.waited_seconds += time.perf_counter() - begun
                await self._relay(call, answer, patience, send)
        except UpstreamError as error:
            if call.first_byte is None:
                raise
            await self._break_off(call, error, send)
        finally:
            if answer is not None:
                answer.close() if not answer.content.is_eof() else answer.release()

    async def _relay(self, call: CallLog, answer: aiohttp.ClientResponse, patience: Patience, send: Send) -> None:
        call.status = answer.status
        headers = for_client(answer.raw_headers)
        content_type = find(headers, b"content-type")
        call.response_content_type = content_type.decode("latin-1")
        call.response_content_encoding = find(headers, b"content-encoding").decode("latin-1")
        call.upstream_request_id = find(headers, b"x-request-id").decode("latin-1") or None
        length = find(headers, b"content-length")
        if length.isdigit() and int(length) <= WHOLE_BYTES:
            begun = time.perf_counter()
            body = await answer.read()
            call.waited_seconds += time.perf_counter() - begun
            await self._send_whole(call, headers, body, send)
            return
        if content_type.startswith(b"text/event-stream"):
            headers.append((b"x-accel-buffering", b"no"))
            await self._begin(call, headers, send)
            await self._stream_events(call, _chunks(answer), send, patience)
            return
        await self._begin(call, headers, send)
        await self._stream_bytes(call, answer, int(length) if length.isdigit() else None, patience, send)

    async def _send_whole(self, call: CallLog, headers: Headers, body: bytes, send: Send) -> None:
        call.first_byte = time.perf_counter()
        call.answer.append(body)
        self._state.recorder.record(call, "finished")
        await send({"type": "http.response.start", "status": call.status, "headers": headers + self._own(call)})
        await send({"type": "http.response.body", "body": body})

    async def _begin(self, call: CallLog, headers: Headers, send: Send) -> None:
        await send({"type": "http.response.start", "status": call.status, "headers": headers + self._own(call)})
        call.first_byte = time.perf_counter()

    async def _stream_events(
        self, call: CallLog, chunks: AsyncGenerator[bytes, None], send: Send, patience: Patience | None
    ) -> None:
        """Pass events on as they come; hold only the last one, until the call is logged."""
        final = sse.FinalEvent()
        keep = call.answer.append
        try:
            while True:
                begun = time.perf_counter()
                chunk = await anext(chunks, None)
                call.waited_seconds += time.perf_counter() - begun
                if chunk is None:
                    break
                if patience is not None:
                    patience.progressed()
                keep(chunk)
                now, last = final.split(chunk)
                if now:
                    await send({"type": "http.response.body", "body": now, "more_body": True})
                if last:
                    self._state.recorder.record(call, "finished")
                    await send({"type": "http.response.body", "body": last, "more_body": True})
        except UpstreamError as error:  # of an SLM's stream; the LLM's are mapped around us
            await self._break_off(call, error, send)
            return
        finally:
            await chunks.aclose()
        self._state.recorder.record(call, "finished")
        await send({"type": "http.response.body", "body": final.held()})

    async def _stream_bytes(
        self, call: CallLog, answer: aiohttp.ClientResponse, length: int | None, patience: Patience, send: Send
    ) -> None:
        """Pass any other body on; the client has it whole with the last of `length` bytes, or with the end."""
        sent = 0
        async for chunk in answer.content.iter_any():
            patience.progressed()
            sent += len(chunk)
            if sent <= MAX_LOGGED_ANSWER_BYTES:
                call.answer.append(chunk)
            if sent == length:
                self._state.recorder.record(call, "finished")
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._state.recorder.record(call, "finished")
        await send({"type": "http.response.body", "body": b""})

    async def _break_off(self, call: CallLog, error: UpstreamError, send: Send) -> None:
        """The answer has begun and will never be whole: it must not look finished."""
        self._state.recorder.record(call, "upstream_cut")
        if call.response_content_type.startswith("text/event-stream"):
            await send({"type": "http.response.body", "body": b"\n\n" + sse.encode(error.body()), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        raise error  # the server closes the connection in the middle of the body

    async def _refuse(self, call: CallLog, error: UnderstudyError, send: Send) -> None:
        """Answer with an error of our own; if the answer has begun, the server closes the connection."""
        if call.first_byte is not None:
            raise error
        call.status = error.status
        call.response_content_type = "application/json"
        body = error.body()
        call.answer.append(body)
        call.first_byte = time.perf_counter()
        self._state.recorder.record(call, "refused")
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if isinstance(error, BodyTooLarge):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": error.status, "headers": headers + self._own(call)})
        await send({"type": "http.response.body", "body": body})

    def _own(self, call: CallLog) -> Headers:
        """The proxy's response headers."""
        headers = [
            (b"x-understudy-call-id", call.shown_id.encode()),
            (b"x-understudy-served-by", call.served_by.encode()),
        ]
        if call.reason:
            headers.append((b"x-understudy-reason", call.reason.encode()))
        if call.model_resolved:
            headers.append((b"x-understudy-model", call.model_resolved.encode()))
        elif call.endpoint in _DIVERTIBLE and (model := _model_of(call)):
            headers.append((b"x-understudy-model", model))
        if call.cluster_id is not None:
            headers.append((b"x-understudy-cluster", call.cluster_id.encode()))
        return headers


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    """Wait for the client to leave, then cancel the call, whatever it is waiting for."""
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """An answer's bytes as they come."""
    async for chunk in answer.content.iter_any():
        yield chunk


def _model_of(call: CallLog) -> bytes:
    """What the answer says its model is, else what was asked for; found without parsing."""
    for data in (call.answer[0] if call.answer else b"", call.request_body):
        found = _MODEL.search(data)
        if found is not None:
            return found[1]
    return b""


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {limit} bytes (UNDERSTUDY_MAX_BODY_BYTES)")
