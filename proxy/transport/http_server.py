"""Clients' connections: uvicorn's HTTP/1.1 protocol, where it says too little or too much for a relay."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.errors import BadRequest, ClientError, HeadTooLarge

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


# The parser copies what it has of a header with each piece that comes: the time for one without an end grows with the
# square of its length. Generous: what comes in one piece with the end of an earlier request counts, too.
MAX_HEAD_BYTES = 2**19


class ClientConnection(HttpToolsProtocol):
    """One client's connection."""

    _head_bytes = 0  # since the request began, or since the last of its body: chunks have heads, too, and trailers
    _is_in_head = False
    _is_in_request = False

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._read_as_ordinary(data[upgrade.args[0] :])
            return
        except HttpParserError as error:
            self._refuse(BadRequest(f"this is not an HTTP request: {error}"))
        if self._is_in_request:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                what = "line and headers" if self._is_in_head else "trailers"
                self._refuse(HeadTooLarge(f"the request's {what} are larger than {MAX_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        super().on_message_begin()
        self._is_in_request, self._is_in_head, self._head_bytes = True, True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. One after the body (a trailer) is of the hop, and none of the request's (RFC 9110, 6.5.1)."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request's head is whole."""
        self._is_in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a request's body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._is_in_request = False
        super().on_message_complete()

    def _should_upgrade(self) -> bool:
        """Begin no call for the head of a request that asks for another protocol: see `_read_as_ordinary`."""
        return True

    def _read_as_ordinary(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol, which a server may ignore (RFC 9110, 7.8).

        Java's client wishes for h2c with its first request. The parser takes what follows such a head, the request's
        body too, for that protocol.

        Args:
            rest: what came after the head.
        """
        if self.scope["method"] == "CONNECT":
            self._refuse(BadRequest("this is not an HTTP request: CONNECT is for proxies of another kind"))
            return
        lines = [f"{self.scope['method']} ".encode(), self.url, f" HTTP/{self.scope['http_version']}\r\n".encode()]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(token for token in value.split(b",") if token.strip().lower() != b"upgrade")
            lines += (name, b": ", value, b"\r\n")
        self.parser = HttpRequestParser(self)
        self.data_received(b"".join([*lines, b"\r\n", rest]))

    def _refuse(self, error: ClientError) -> None:
        """Answer what can't be read as a request in OpenAI's shape, and close.

        In the middle of an earlier request's answer that would look like a part of it: there the connection just ends.
        """
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started):
            body = error.body()
            head = (
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if cycle.scope["http_version"] == "1.0":
            app = _UntilClose(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]


class _UntilClose:
    """Answers a client of HTTP/1.0, which knows no chunks: a body without a length ends with its connection."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._has_length = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        cycle = self._cycle

        async def unchunked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
                if not self._has_length:
                    cycle.chunked_encoding = False
            elif not self._has_length:
                cycle.expected_content_length = len(message.get("body", b""))  # each piece is as long as it should be
            await send(message)

        await self._app(scope, receive, unchunked)
