"""The data plane's HTTP clients: the LLM by a client of our own, SLMs by aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import aiohttp

from proxy.settings import Settings
from proxy.transport.headers import Headers
from proxy.transport.http1 import Answer, Pool

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ALWAYS_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})


def open_session(settings: Settings) -> aiohttp.ClientSession:
    """A client for SLM servers: one session a worker; no cookies, no proxies from the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),  # vLLM closes idle connections after 5 s
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_seconds),
    )


class Llm:
    """The LLM behind `UNDERSTUDY_UPSTREAM_URL`.

    Attributes:
        authorization: what it gets in the place of the client's own `Authorization`; None: the client's own.
    """

    def __init__(self, settings: Settings) -> None:
        key = settings.upstream_api_key
        self.authorization = None if key is None else f"Bearer {key}".encode()
        url = urlsplit(settings.upstream_url)
        tls = ssl.create_default_context() if url.scheme == "https" else None
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        host, port = url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme]
        self._pool = Pool(host, port, tls, settings.connect_timeout_seconds)
        self._host_header = url.netloc.rpartition("@")[2].encode("idna" if not host.isascii() else "ascii")
        self._base_path = url.path.encode("ascii")
        self._first_token_seconds = settings.first_token_timeout_seconds
        self._idle_seconds = settings.idle_timeout_seconds

    async def ask(self, method: str, target: bytes, headers: Headers, body: bytes, deadline: float) -> Answer:
        """Send a call; the answer has its head, its body is still to be read. Its `close` is the caller's duty.

        Args:
            target: path after `/v1` and query, as they came.
            headers: without `host`, `content-length` and those of the hop.
            deadline: `loop.time()` at which the answer must have ended.

        Raises:
            UpstreamUnreachable, UpstreamCut, UpstreamTimeout
        """
        connection = await self._pool.take()
        answer = Answer(
            connection,
            bodiless=method == "HEAD",
            first_due=asyncio.get_running_loop().time() + self._first_token_seconds,
            idle_seconds=self._idle_seconds,
            deadline=deadline,
        )
        connection.send(answer, self._head(method, target, headers, len(body)), body)
        try:
            await answer.begin()
        except BaseException:  # cancelled, above all: the upstream must not go on working
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _head(self, method: str, target: bytes, headers: Headers, body_bytes: int) -> bytes:
        """The request's first bytes."""
        lines = [
            method.encode("ascii"),
            b" ",
            self._base_path,
            target,
            b" HTTP/1.1\r\nhost: ",
            self._host_header,
            b"\r\n",
        ]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        if body_bytes or method in _ALWAYS_WITH_LENGTH:
            lines.append(b"content-length: %d\r\n" % body_bytes)
        lines.append(b"\r\n")
        return b"".join(lines)
