"""Which headers cross the proxy, and which don't. Names in lower case, as ASGI and the wire of HTTP/2 have them."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]
Headers = list[Header]

OWN_PREFIX = b"x-understudy-"
HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"trailers", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_NOT_FOR_UPSTREAM = HOP_BY_HOP | {b"host", b"content-length", b"expect"}


def for_upstream(headers: Iterable[Header], authorization: bytes | None, keep_authorization: bool) -> Headers:
    """A client's headers as the upstream gets them.

    Args:
        authorization: put in the place of the client's own.
        keep_authorization: whether the client's own is passed on where there is no other.
    """
    named = _named_by_connection(headers)
    passed = [
        (name, value)
        for name, value in headers
        if name not in _NOT_FOR_UPSTREAM
        and name not in named
        and not name.startswith(OWN_PREFIX)
        and (name != b"authorization" or (keep_authorization and authorization is None))
    ]
    if authorization is not None:
        passed.append((b"authorization", authorization))
    return passed


def for_client(headers: Iterable[Header]) -> Headers:
    """An upstream's headers as the client gets them: all but those of the connection, repeated ones included."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(lowered)
    return [
        (name, value)
        for name, value in lowered
        if name not in HOP_BY_HOP and name not in named and not name.startswith(OWN_PREFIX)
    ]


def find(headers: Iterable[Header], wanted: bytes) -> bytes:
    """The first value of a header; empty where there is none."""
    for name, value in headers:
        if name == wanted:
            return value
    return b""


def _named_by_connection(headers: Iterable[Header]) -> frozenset[bytes]:
    """Headers that `Connection` declares to be of this hop only."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            return frozenset(token.strip().lower() for token in value.split(b","))
    return frozenset()
