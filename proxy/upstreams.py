"""The data plane's HTTP client: pools, timeouts, errors. aiohttp, at a tenth of httpx's CPU under concurrency."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from proxy.errors import UpstreamCut, UpstreamTimeout, UpstreamUnreachable
from proxy.headers import Headers
from proxy.settings import Settings

_SKIP = frozenset({"User-Agent", "Accept", "Accept-Encoding", "Content-Type"})
READ_BYTES = 2**18


def no_delay(address: aiohttp.abc.AddrInfo) -> socket.socket:  # type: ignore[name-defined]
    """A socket that sends small pieces at once: Nagle's algorithm costs 40 ms before the first token."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def open_session(settings: Settings) -> aiohttp.ClientSession:
    """One session a worker: no cookies, no decompression, no proxies from the environment."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, socket_factory=no_delay),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_seconds),
        skip_auto_headers=_SKIP,
        read_bufsize=READ_BYTES,
        max_line_size=65536,
        max_field_size=65536,
    )


class Patience:
    """The time that one call may still take, phase by phase. Made to be entered once, moved on often."""

    def __init__(self, settings: Settings, deadline: float) -> None:
        """
        Args:
            deadline: `loop.time()` at which the call must have ended.
        """
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._idle_seconds = settings.idle_timeout_seconds
        self._deadline = deadline
        self.phase = "first_token"
        self.timeout = asyncio.timeout_at(min(loop.time() + settings.first_token_timeout_seconds, deadline))

    def progressed(self) -> None:
        """Something came: from now on it is the idle timeout that counts."""
        self.phase = "idle"
        self.timeout.reschedule(min(self._now() + self._idle_seconds, self._deadline))

    def expired(self) -> UpstreamTimeout:
        """The error for the phase that took too long."""
        phase = "total" if self._now() >= self._deadline else self.phase
        return UpstreamTimeout(f"the LLM took too long ({phase.replace('_', ' ')} timeout)", phase)


@asynccontextmanager
async def errors_mapped(patience: Patience) -> AsyncIterator[None]:
    """Run the block within the call's patience, and raise `UpstreamError`s for whatever the network does."""
    try:
        async with patience.timeout:
            yield
    except TimeoutError as error:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            raise UpstreamTimeout("the LLM could not be reached in time (connect timeout)", "connect") from error
        raise patience.expired() from error
    except aiohttp.ClientConnectorError as error:
        raise UpstreamUnreachable(f"the LLM can't be reached: {error}") from error
    except (aiohttp.ClientError, ConnectionError) as error:
        raise UpstreamCut(f"the LLM's connection broke: {type(error).__name__}: {error}") from error


class Llm:
    """The LLM behind `UNDERSTUDY_UPSTREAM_URL`."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._base = settings.upstream_url
        self._urls: dict[str, URL] = {}

    def request(self, method: str, path: str, headers: Headers, body: bytes) -> Awaitable[aiohttp.ClientResponse]:
        """Send; the response's body is still to be read.

        Args:
            path: after `/v1`, as it came, with the query.
        """
        url = self._urls.get(path)
        if url is None:
            url = URL(self._base + path, encoded=True)
            if len(self._urls) < 256:
                self._urls[path] = url
        named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        return self._session.request(
            method, url, data=body or None, headers=named, allow_redirects=False, expect100=False
        )
