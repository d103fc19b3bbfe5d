"""A pooled HTTP/1.1 client for one origin, for relaying: heads and bodies as they are on the wire, and nothing else.

No redirects, cookies, decompression, retries, proxies: a relay must not have them. aiohttp has, and takes 40 % of a
relayed call's CPU; this takes a quarter of that. The parser is llhttp, Node's, by httptools, as on uvicorn's side.

    Pool         idle connections; opens one where there is none
    Connection   the protocol: bytes ⇄ one exchange at a time
    Answer       one response, as it comes: `begin()`, then `read()`, or `chunk()` by `chunk()`; `close()` in any case
"""

from __future__ import annotations

import asyncio
import socket
import ssl

import httptools
from aiohappyeyeballs import start_connection

from proxy.errors import UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from proxy.transport.headers import Headers

# Servers close idle connections, uvicorn and Node after 5 s, and a request that crosses with that is lost. So they are
# closed here before (httpx does after 5 s), and nothing has to be sent twice.
IDLE_SECONDS = 4.0
MAX_HEAD_BYTES = 2**18
MAX_AHEAD_BYTES = 2**18  # read from the upstream before the client has taken it
_HAPPY_EYEBALLS_SECONDS = 0.25


class Answer:
    """A response.

    Attributes:
        status: 0 until it has begun.
        headers: as they came: order, case, repetitions.
    """

    def __init__(
        self, connection: Connection, *, bodiless: bool, first_due: float, idle_seconds: float, deadline: float
    ) -> None:
        """
        Args:
            bodiless: it answers a HEAD.
            first_due: `loop.time()` by which its body must have begun.
            idle_seconds: for each further piece.
            deadline: `loop.time()` by which it must have ended.
        """
        self.status = 0
        self.headers: Headers = []
        self.bodiless = bodiless
        self._connection = connection
        self._loop = connection.loop
        self._first_due = first_due
        self._idle_seconds = idle_seconds
        self._deadline = deadline
        self._pieces: list[bytes] = []
        self._ahead_bytes = 0
        self._some_read = False
        self._ended = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_framed(self) -> bool:
        """Whether its body says where it ends; if not, it ends with its connection."""
        for header, value in self.headers:
            name = header.lower()
            if name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked")):
                return True
        return False

    async def begin(self) -> None:
        """Wait for the head.

        Raises:
            UpstreamCut: the connection closed before, or what came is not HTTP.
            UpstreamTimeout: `first_token` or `total`.
        """
        while not self.status:
            await self._wait()

    async def chunk(self) -> bytes:
        """Wait for the next bytes of the body, as many as there are; empty at its end.

        Raises:
            UpstreamCut: the connection closed in the middle.
            UpstreamTimeout: `first_token`, `idle` or `total`.
        """
        while not self._pieces:
            if self._ended:
                return b""
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._some_read = True
        if self._ahead_bytes > MAX_AHEAD_BYTES and not self._ended:
            self._connection.go_on()
        self._ahead_bytes = 0
        return data

    async def read(self) -> bytes:
        """Wait for the rest of the body. Raises as `chunk` does."""
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Let go. Unless the body has come whole, the end of its connection tells the upstream to stop."""
        if not self._ended:
            self._connection.abort()

    async def _wait(self) -> None:
        """Wait until something has come, or was due."""
        if self._error is not None:
            raise self._error
        due = self._loop.time() + self._idle_seconds if self._some_read else self._first_due
        self._connection.ring_at(min(due, self._deadline))
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the upstream just now (and not for a slow client)."""
        return self._waiter is not None

    def take(self, piece: bytes) -> bool:
        """A piece of the body is there. Returns whether that is enough for now."""
        self._pieces.append(piece)
        self._ahead_bytes += len(piece)
        return self._ahead_bytes > MAX_AHEAD_BYTES

    def end(self) -> None:
        """The body is whole."""
        self._ended = True
        self.wake()

    def fail(self, error: UpstreamError) -> None:
        """It will never be whole. What has come can still be read."""
        self._error = error
        self.wake()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone: the end of a body that is as long as its connection, and a cut of any other."""
        if self.status and not self.is_framed and error is None:
            self.end()
        else:
            detail = f": {error}" if error else ""
            self.fail(UpstreamCut(f"the LLM closed the connection before its answer was whole{detail}"))

    def expire(self) -> None:
        """What was due has not come."""
        phase = "idle" if self._some_read else "first_token"
        if self._loop.time() >= self._deadline:
            phase = "total"
        self.fail(UpstreamTimeout(f"the LLM took too long ({phase.replace('_', ' ')} timeout)", phase))

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """One connection, and the answer that is coming over it."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.idle_since = 0.0
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._head_bytes = 0
        self._keeps_alive = False
        self._paused = False
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, answer: Answer, head: bytes, body: bytes) -> None:
        """Begin an exchange."""
        assert self._transport is not None
        self._answer = answer
        self._head_bytes = 0
        if body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)

    def ring_at(self, due: float) -> None:
        """See that the answer expires if it is still waited for then (`loop.time()`).

        The timer is armed once for many waits and looks what is due when it rings: arming it for each would cost more
        than the parser does.
        """
        self._due = due
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._answer is None or not self._answer.is_awaited:
            return  # whoever waits next arms it again
        if self.loop.time() < self._due:
            self._timer = self.loop.call_at(self._due, self._ring)
            return
        self._answer.expire()
        self.abort()

    def go_on(self) -> None:
        """Read again."""
        if self._paused and self.is_open and self._transport is not None:
            self._transport.resume_reading()
        self._paused = False

    def abort(self) -> None:
        """Close at once."""
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no subclasses of asyncio's

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.abort()  # nobody has asked
            return
        if not answer.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            answer.fail(UpstreamCut("the LLM went over to another protocol, unasked"))
            self.abort()
            return
        except httptools.HttpParserError as error:
            answer.fail(UpstreamCut(f"the LLM's answer is not HTTP: {error}"))
            self.abort()
            return
        if not answer.status and self._head_bytes > MAX_HEAD_BYTES:
            answer.fail(UpstreamCut(f"the head of the LLM's answer is larger than {MAX_HEAD_BYTES} bytes"))
            self.abort()
        answer.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._answer is not None:
            self._answer.lose(exc)

    def on_message_begin(self) -> None:
        """One request has one answer."""
        if self._answer is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those after the body (trailers) are of the hop."""
        if self._answer is not None and not self._answer.status:
            self._answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole; informational ones (1xx) are of the hop too."""
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None:
            return
        if status < 200:
            answer.headers.clear()
            return
        if status > 599:
            answer.fail(UpstreamCut(f"the LLM's answer is not HTTP: there is no status {status}"))
            self.abort()
            return
        answer.status = status
        self._keeps_alive = self._parser.should_keep_alive()
        if answer.bodiless:
            self._keeps_alive = False  # the parser can't be told that no body follows
            self.on_message_complete()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._answer is not None and self._answer.take(data) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The exchange is over. A request that was not taken whole leaves a connection that can't be used again."""
        answer = self._answer
        if answer is None or not answer.status or self._transport is None:
            return
        self._answer = None
        answer.end()
        if self._keeps_alive and self._transport.get_write_buffer_size() == 0:
            self.go_on()
            self._pool.give_back(self)
        else:
            self._transport.abort()


class Pool:
    """Connections to one origin. No limit: a proxy must not queue what its clients send at once."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, connect_timeout_seconds: float) -> None:
        """
        Args:
            tls: None for plain HTTP.
            connect_timeout_seconds: for looking up the name, connecting, and TLS.
        """
        self._host = host
        self._port = port
        self._tls = tls
        self._connect_timeout_seconds = connect_timeout_seconds
        self._idle: list[Connection] = []
        self._sweeper: asyncio.TimerHandle | None = None

    async def take(self) -> Connection:
        """A connection: the one that was used last, or a new one.

        Raises:
            UpstreamUnreachable: refused, no such name, no route, TLS failed.
            UpstreamTimeout: `connect`.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.loop.time() - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.abort()
        return await self._open()

    def give_back(self, connection: Connection) -> None:
        """A connection is free again."""
        connection.idle_since = connection.loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(IDLE_SECONDS, self._sweep, connection.loop)

    def close(self) -> None:
        """Close what is idle."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what was idle for too long."""
        eldest = loop.time() - IDLE_SECONDS
        for connection in self._idle:
            if connection.idle_since <= eldest:
                connection.abort()
        self._idle = [connection for connection in self._idle if connection.is_open]
        self._sweeper = loop.call_later(IDLE_SECONDS / 4, self._sweep, loop) if self._idle else None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        where = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                made = await start_connection(found, happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS, interleave=1)
                # Nagle's algorithm meeting delayed ACKs costs 40 ms before the first token.
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                name = self._host if self._tls is not None else None
                _, connection = await loop.create_connection(
                    lambda: Connection(self, loop), sock=made, ssl=self._tls, server_hostname=name
                )
                return connection
        except TimeoutError as error:
            message = f"the LLM at {where} could not be reached in time (connect timeout)"
            raise UpstreamTimeout(message, "connect") from error
        except ssl.SSLCertVerificationError as error:
            raise UpstreamUnreachable(
                f"the LLM at {where} does not prove that it is {self._host}: {error.verify_message.rstrip('.')} "
                "(SSL_CERT_FILE may name a file with the certificate of your own authority)"
            ) from error
        except (OSError, UnicodeError) as error:  # SSLError and gaierror among them; a name that is none
            raise UpstreamUnreachable(f"the LLM at {where} can't be reached: {error}") from error
