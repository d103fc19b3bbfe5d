"""One call, from its first byte to its record: read, decide, try, relay, log. Raw ASGI; mounted under /v1.

The LLM gets exactly the bytes that came, and the client exactly the bytes that the LLM sent. An SLM is tried only
before the first byte; whatever goes wrong with it, the LLM is asked in the same request.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from proxy.auth import bearer_token
from proxy.errors import (
    BodyTooLarge,
    Forbidden,
    ServiceUnavailable,
    ShuttingDown,
    Unauthorized,
    UnderstudyError,
    UpstreamCut,
    UpstreamError,
)
from proxy.logs import OncePerMinute
from proxy.relay.reading import read_request
from proxy.relay.recorder import CallLog
from proxy.slm.attempts import Declined, Served
from proxy.transport.disconnects import ClientWatch, Receive
from proxy.transport.headers import KEY_PREFIX, Headers, find, for_client, for_upstream
from proxy.wire.endpoint import Endpoint, classify
from proxy.wire.model_name import model_in_answer, model_in_request
from proxy.wire.sse import FinalEvent, encode
from router.decision import Reason

if TYPE_CHECKING:
    from starlette.types import Scope, Send

    from proxy.state import State
    from proxy.transport.http1 import Answer

log = structlog.get_logger()

WHOLE_BYTES = 2**18  # an answer up to this length is sent in one piece
LINGER_SECONDS = 5.0
_EVENT_STREAM = "text/event-stream"
_BODILESS = frozenset({204, 304})
_DIVERTIBLE = frozenset({Endpoint.CHAT, Endpoint.RESPONSES})
#: A stream of these without its final event is not whole.
_WITH_FINAL_EVENT = _DIVERTIBLE | {Endpoint.COMPLETIONS}
#: A POST to these is answered by a model.
_OF_MODELS = _WITH_FINAL_EVENT | {
    Endpoint.EMBEDDINGS, Endpoint.MODERATIONS, Endpoint.IMAGES, Endpoint.AUDIO, Endpoint.OTHER,
}  # fmt: skip


class ClientLeft(Exception):
    """The client closed its connection before its request was whole."""


class Relay:
    """The data plane as an ASGI app."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._record = state.recorder.record
        self._log_now = OncePerMinute()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        method, target = scope["method"], scope["raw_path"]
        endpoint = classify(method, target.decode("latin-1"))
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        call = CallLog(method, target, endpoint, scope["headers"])
        deadline = asyncio.get_running_loop().time() + self._state.settings.total_timeout_seconds
        try:
            self._admit(call)
            call.request_body = await self._read_body(call, receive)
        except ClientLeft:
            return
        except (Unauthorized, ServiceUnavailable, BodyTooLarge) as error:
            await self._refuse(call, error, send, lambda: _linger(call, receive))
            return

        with ClientWatch(receive) as client:
            try:
                await self._serve(call, send, deadline)
            except asyncio.CancelledError:
                client.forgive()
                if client.has_left:
                    call.status = call.status or 499
                    await self._record(call, "client_left")
                else:
                    await self._fail(call, ShuttingDown("the proxy is shutting down"), send)
        if call.decision is not None and not client.has_left:
            self._state.copies.consider(call)

    def _admit(self, call: CallLog) -> None:
        """See by its head whether a call may come in.

        Raises:
            Unauthorized: it needs one of the proxy's own keys and has none, or has one that is not in force.
            ServiceUnavailable: which keys are in force was never known here.
        """
        if b"x-understudy-key" in call.fields or KEY_PREFIX in call.fields.get(b"authorization", b""):
            self._know(call)
        if call.key is None and self._state.settings.require_key:
            raise Unauthorized(
                "UNDERSTUDY_REQUIRE_KEY: a call needs one of the proxy's own keys, as x-understudy-key, or as "
                "Authorization where the proxy has the LLM's; `understudy keys create` makes one"
            )

    def _know(self, call: CallLog) -> None:
        """Find the proxy's own key that a call carries.

        Raises:
            Unauthorized: it is not in force, or came where the LLM's own should be.
            ServiceUnavailable: which keys are in force was never known here.
        """
        bearer = bearer_token(call.fields.get(b"authorization", b"").decode("latin-1"))
        in_authorization = bearer is not None and bearer.startswith(KEY_PREFIX.decode())
        if in_authorization and self._state.llm.authorization is None:
            raise Unauthorized(
                "this key is the proxy's own, and the proxy has none for the LLM: send the LLM's as Authorization and "
                "this one as x-understudy-key, or set UNDERSTUDY_UPSTREAM_API_KEY"
            )
        named = call.fields.get(b"x-understudy-key", b"").decode("latin-1").strip()
        token = named or (bearer if in_authorization else None)
        if token:
            call.key = self._state.serving.key(token)
            call.credential = f"Bearer {token}".encode("latin-1")

    async def _read_body(self, call: CallLog, receive: Receive) -> bytes:
        limit = self._state.settings.max_body_bytes
        length = call.fields.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _serve(self, call: CallLog, send: Send, deadline: float) -> None:
        """Decide, try the SLM if there is one, else and otherwise the LLM."""
        try:
            if call.endpoint in _DIVERTIBLE and await self._divert(call, send, deadline):
                return
            await self._ask_llm(call, send, deadline)
        except UnderstudyError as error:
            await self._fail(call, error, send)
        except Exception:  # a fault of ours: the client gets it in OpenAI's shape, the log in full
            log.exception("call.failed", call=call.shown_id)
            await self._fail(call, UnderstudyError("something went wrong in the proxy; its log says what"), send)

    async def _fail(self, call: CallLog, error: UnderstudyError, send: Send) -> None:
        """Tell the client, in the way that is left."""
        if call.has_begun:
            await self._break_off(call, error, send)
        else:
            await self._refuse(call, error, send)

    async def _divert(self, call: CallLog, send: Send, deadline: float) -> bool:
        """Decide, and let an SLM answer if it may and can. False: it is the LLM's turn."""
        route = _route(call)
        if route == b"slm" and not (call.key.may_force if call.key else self._is_admin(call)):
            raise Forbidden("x-understudy-route: slm needs the admin token, or a key that allows it")
        held = _held(call, route)
        router = self._state.serving.router
        if router.snapshot is None:
            call.reason = held or Reason.NO_SNAPSHOT
            return False
        body, features = await read_request(call.endpoint, call.request_body)
        if features is None:
            call.reason = Reason.UNSUPPORTED_FEATURE
            return False
        decision = router.decide(
            features,
            held=held,
            force=route == b"slm",
            session=call.fields.get(b"x-understudy-session", b"").decode("latin-1") or None,
        )
        if decision.payload_text is not None:
            decision = await asyncio.get_running_loop().run_in_executor(None, router.settle, decision)
        call.decision, call.reason = decision, decision.reason
        if not decision.to_slm:
            return False
        begun = time.perf_counter()
        try:
            outcome = await self._state.slm.attempt(call.endpoint, body, features, decision, deadline)
        finally:
            call.waited_seconds += time.perf_counter() - begun
        if isinstance(outcome, Declined):
            call.reason = outcome.reason
            call.attempts.append(outcome.attempt)
            return False
        call.served_by, call.upstream, call.model_resolved = "slm", outcome.upstream, outcome.model
        await self._relay_served(call, outcome, send)
        return True

    def _is_admin(self, call: CallLog) -> bool:
        return self._state.gate.is_admin(bearer_token(call.fields.get(b"authorization", b"").decode("latin-1")))

    async def _relay_served(self, call: CallLog, served: Served, send: Send) -> None:
        """Send an SLM's answer."""
        call.status = served.status
        call.response_content_type = served.content_type.decode("latin-1")
        headers = [(b"content-type", served.content_type), *served.headers]
        if isinstance(served.body, bytes):
            headers.append((b"content-length", b"%d" % len(served.body)))
            await self._send_whole(call, headers, served.body, send)
            return
        async with contextlib.aclosing(served.body) as chunks:
            await self._send_stream(call, headers, lambda: anext(chunks, b""), FinalEvent(), send)

    async def _ask_llm(self, call: CallLog, send: Send, deadline: float) -> None:
        """Send the LLM what came, and the client what comes back."""
        state = self._state
        headers = for_upstream(call.headers, state.llm.authorization, state.gate.secret)
        begun = time.perf_counter()
        try:
            answer = await state.llm.ask(call.method, call.target[3:], headers, call.request_body, deadline)
        finally:
            call.waited_seconds += time.perf_counter() - begun
        try:
            await self._relay_answer(call, answer, send)
        finally:
            answer.close()

    async def _relay_answer(self, call: CallLog, answer: Answer, send: Send) -> None:
        call.status = answer.status
        headers = for_client(answer.headers)
        content_type = find(headers, b"content-type")
        call.response_content_type = content_type.decode("latin-1").lower()
        call.response_content_encoding = find(headers, b"content-encoding").decode("latin-1")
        call.upstream_request_id = find(headers, b"x-request-id").decode("latin-1") or None
        length = find(headers, b"content-length")
        if answer.status in _BODILESS and length:  # of a body that it does not have
            headers = [header for header in headers if header[0].lower() != b"content-length"]
        call.response_has_length = bool(length)
        if length.isdigit() and int(length) <= WHOLE_BYTES:
            begun = time.perf_counter()
            try:
                body = await answer.read()
            finally:
                call.waited_seconds += time.perf_counter() - begun
            await self._send_whole(call, headers, body, send)
        elif call.response_content_type.startswith(_EVENT_STREAM):
            must_be_final = (
                call.endpoint in _WITH_FINAL_EVENT
                and answer.status == 200
                and not answer.is_framed
                and not call.response_content_encoding
            )
            await self._send_stream(call, headers, answer.chunk, FinalEvent(), send, must_be_final)
        else:
            end = _LastBytes(int(length) if length.isdigit() else None)
            await self._send_stream(call, headers, answer.chunk, end, send)

    async def _send_whole(self, call: CallLog, headers: Headers, body: bytes, send: Send) -> None:
        call.first_byte = time.perf_counter()
        call.keep(body)
        await self._record(call, "finished")
        call.has_begun = True
        await send({"type": "http.response.start", "status": call.status, "headers": headers + self._whose(call)})
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(
        self,
        call: CallLog,
        headers: Headers,
        more: Callable[[], Awaitable[bytes]],
        end: _End,
        send: Send,
        must_be_final: bool = False,
    ) -> None:
        """Pass on what comes as it comes; hold only its end, until the call is logged.

        The head waits for the body's first bytes: until then, whatever goes wrong is an error with a status.

        Args:
            more: the next bytes; empty when there are none.
            must_be_final: the end of the bytes alone does not say that they are whole.
        """
        is_whole = False
        begun = time.perf_counter()
        try:
            chunk = await more()
        finally:
            call.waited_seconds += time.perf_counter() - begun
        call.first_byte = time.perf_counter()
        call.keep(chunk)
        call.has_begun = True
        if isinstance(end, FinalEvent):
            headers.append((b"x-accel-buffering", b"no"))
        await send({"type": "http.response.start", "status": call.status, "headers": headers + self._whose(call)})
        while chunk:
            now, last = end.split(chunk)
            if now:
                await send({"type": "http.response.body", "body": now, "more_body": True})
            if last:
                must_be_final, is_whole = False, isinstance(end, FinalEvent)
                await self._record(call, "finished")
                await send({"type": "http.response.body", "body": last, "more_body": True})
            begun = time.perf_counter()
            try:
                chunk = await more()
            except UpstreamError:
                if not is_whole:
                    raise
                chunk = b""  # what breaks off after the final event is no part of the answer
            finally:
                call.waited_seconds += time.perf_counter() - begun
            call.keep(chunk)
        if must_be_final:
            raise UpstreamCut("the LLM closed the connection before its answer was whole")
        await self._record(call, "finished")
        await send({"type": "http.response.body", "body": end.held()})

    async def _break_off(self, call: CallLog, error: UnderstudyError, send: Send) -> None:
        """The answer has begun and will never be whole: it must not look finished."""
        await self._record(call, "upstream_cut")
        if self._log_now(error.code):
            log.warning("answer.broken_off", call=call.shown_id, error=str(error))
        is_stream = call.response_content_type.startswith(_EVENT_STREAM)
        if is_stream and not call.response_content_encoding and not call.response_has_length:
            # The blank line ends what was cut. SDKs raise on an event with `error`, and take a clean end for the end.
            await send({"type": "http.response.body", "body": b"\n\n" + encode(error.body()), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        # else the body stays without its end, and the server closes the connection.

    async def _refuse(
        self, call: CallLog, error: UnderstudyError, send: Send, linger: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Answer with an error of our own."""
        call.status = error.status
        call.response_content_type = "application/json"
        body = error.body()
        call.keep(body)
        call.first_byte = time.perf_counter()
        await self._record(call, "refused")
        if isinstance(error, UpstreamError) and self._log_now(error.code):
            log.warning("llm.failed", call=call.shown_id, error=str(error))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if linger is not None:
            headers.append((b"connection", b"close"))
        call.has_begun = True
        await send({"type": "http.response.start", "status": error.status, "headers": headers + self._own(call)})
        if linger is not None:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await linger()
            body = b""
        await send({"type": "http.response.body", "body": body})

    def _own(self, call: CallLog) -> Headers:
        """The proxy's response headers."""
        headers = [(b"x-understudy-call-id", call.shown_id.encode())]
        if call.reason:
            headers.append((b"x-understudy-reason", call.reason.encode()))
        if call.cluster_id is not None:
            headers.append((b"x-understudy-cluster", call.cluster_id.encode()))
        return headers

    def _whose(self, call: CallLog) -> Headers:
        """Who answered; an error of the proxy's own has no such headers."""
        headers = self._own(call)
        headers.append((b"x-understudy-served-by", call.served_by.encode()))
        if model := call.model_resolved.encode() if call.model_resolved else _model_of(call):
            headers.append((b"x-understudy-model", model))
        return headers


class _End(Protocol):
    """Knows the end of an answer when it comes, so that the call is logged before the client can have it."""

    def split(self, chunk: bytes) -> tuple[bytes, bytes]:
        """(what can be sent at once, the end)."""
        ...

    def held(self) -> bytes:
        """What was held back, and never became the end."""
        ...


class _LastBytes:
    """The end of a body of known length, or of one whose end nobody knows before it has come."""

    def __init__(self, length: int | None) -> None:
        self._missing = length

    def split(self, chunk: bytes) -> tuple[bytes, bytes]:
        """See `_End`."""
        if self._missing is None:
            return chunk, b""
        self._missing -= len(chunk)
        return (chunk, b"") if self._missing > 0 else (b"", chunk)

    def held(self) -> bytes:
        """See `_End`."""
        return b""


def _held(call: CallLog, route: bytes) -> Reason | None:
    """Why a call stays with the LLM whatever its task; None when nobody said so."""
    if route == b"llm":
        return Reason.HEADER_OVERRIDE
    return Reason.KEY_POLICY if call.key is not None and not call.key.may_divert else None


def _route(call: CallLog) -> bytes:
    """`auto`, `llm` or `slm`. Who asks for anything else, or for several, gets the LLM: it is never wrong."""
    if b"x-understudy-route" not in call.fields:
        return b"auto"
    asked = {value.strip().lower() for name, value in call.headers if name == b"x-understudy-route"}
    return asked.pop() if asked in ({b"auto"}, {b"slm"}) else b"llm"


async def _linger(call: CallLog, receive: Receive) -> None:
    """Take what a client still sends of a refused body, for a while: closing on it could destroy the answer unread."""
    if b"expect" in call.fields:
        return  # it waits for our word
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass


def _model_of(call: CallLog) -> bytes:
    """What the answer says its model is, else what was asked for. Errors are no model's."""
    if call.method != "POST" or call.endpoint not in _OF_MODELS or call.status >= 400:
        return b""
    piece = call.answer[0] if call.answer else b""
    return model_in_answer(piece, call.response_content_type, call.response_content_encoding) or model_in_request(
        call.request_body, call.fields.get(b"content-type", b"")
    )


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than {limit} bytes (UNDERSTUDY_MAX_BODY_BYTES)")
