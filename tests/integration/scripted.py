"""An upstream that says exactly the bytes that a test gives it, piece by piece, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Script:
    """What it does with one request.

    Attributes:
        pieces: written one after the other, each on its way before the next.
        then: `close` the connection, `reset` it, or `keep` it for the next request.
    """

    pieces: tuple[bytes, ...]
    then: str = "keep"


def answer(
    body: bytes = b"", content_type: str = "application/json", status: str = "200 OK", **headers: str
) -> tuple[bytes, ...]:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "", ""]).encode() + body,)


def chunked(pieces: list[bytes], content_type: str = "text/event-stream") -> tuple[bytes, ...]:
    """An answer whose body comes in these chunks."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return (head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n")


class Scripted:
    """The server; `with Scripted() as upstream: upstream.script.append(…)`.

    Attributes:
        script: what comes next; without any it answers `{}`.
        requests: what it was sent, each as its head and its body.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.script: deque[Script] = deque()
        self.requests: list[tuple[bytes, bytes]] = []
        self._tls = tls
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._ready = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()

    def will(self, *pieces: bytes, then: str = "keep") -> None:
        """Answer the next request so."""
        self.script.append(Script(pieces, then))

    @property
    def target(self) -> bytes:
        """Of the last request's first line."""
        return self.requests[-1][0].split(b" ")[1]

    def __enter__(self) -> Scripted:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        scheme = "http" if self._tls is None else "https"
        self.base_url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()
        while self._open:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while head := await self._head(reader):
                length = next(
                    (line[15:] for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), b"0"
                )
                self.requests.append((head, await reader.readexactly(int(length))))
                script = self.script.popleft() if self.script else Script(answer(b"{}"))
                for piece in script.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if script.then == "reset":
                    await asyncio.sleep(0.05)  # what was written gets through before
                    writer.transport.abort()
                if script.then != "keep":
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._open.discard(writer)

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
