"""Which headers cross the proxy, and which don't.

ASGI gives a request's names in lower case; an answer's keep the case in which the upstream sent them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

Header = tuple[bytes, bytes]
Headers = list[Header]

OWN_PREFIX = b"x-understudy-"
#: Of the console. A browser that is logged in there sends it to `/v1` as well.
SESSION_COOKIE = "understudy_session"
_SESSION = SESSION_COOKIE.encode()
#: How the proxy's own keys begin.
KEY_PREFIX = b"us-key-"
HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"trailers", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_NOT_FOR_UPSTREAM = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_NOTHING: frozenset[bytes] = frozenset()


def for_upstream(headers: Headers, authorization: bytes | None, secret: bytes) -> Headers:
    """A client's headers as the upstream gets them: its own credential, or the configured one in its place.

    Args:
        authorization: put in the place of the client's own; None passes that on.
        secret: the admin token; a header that holds it stays here.
    """
    dropped = _NOT_FOR_UPSTREAM | _named_by_connection(headers)
    passed = []
    for header in headers:
        name, value = header
        if name in dropped or name.startswith(OWN_PREFIX) or (value.endswith(secret) and value.split()[-1] == secret):
            continue
        if name == b"authorization" and (
            authorization is not None or KEY_PREFIX in value or _logs_in_with(secret, value)
        ):
            continue
        if name == b"cookie" and _SESSION in value:
            value = _without_session(value)
            if not value:
                continue
            header = (name, value)
        passed.append(header)
    if authorization is not None:
        passed.append((b"authorization", authorization))
    return passed


def for_client(headers: Headers) -> Headers:
    """An upstream's headers as the client gets them: all but those of the connection, repeated ones included."""
    dropped = HOP_BY_HOP | _named_by_connection(headers)
    return [
        header for header in headers if (name := header[0].lower()) not in dropped and not name.startswith(OWN_PREFIX)
    ]


def find(headers: Iterable[Header], wanted: bytes) -> bytes:
    """The first value of a header, its name given in lower case; empty where there is none."""
    for name, value in headers:
        if name == wanted or name.lower() == wanted:
            return value
    return b""


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Headers that `Connection` declares to be of this hop only."""
    named = _NOTHING
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"connection" and value not in (b"keep-alive", b"close"):
            named |= {token.strip() for token in value.lower().split(b",")}
    return named


def _without_session(cookies: bytes) -> bytes:
    """A `Cookie` header without the console's own."""
    pairs = cookies.split(b";")
    return b";".join(pair for pair in pairs if pair.partition(b"=")[0].strip() != _SESSION).strip()


def _logs_in_with(secret: bytes, authorization: bytes) -> bool:
    """Whether the admin token is a password: how a browser sends what it was given in its own dialogue."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return False
    try:
        return base64.b64decode(credentials).endswith(b":" + secret)
    except binascii.Error:
        return False
