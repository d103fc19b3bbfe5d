"""Base URLs of upstreams, as settings give them."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?")
_NOT_IN_A_URL = re.compile(r"[\s\x00-\x1f\x7f]")


def checked_base_url(value: str) -> str:
    """A base URL to which paths can be appended, without the slash at its end.

    Raises:
        ValueError: it is none; the message says why, in one line and without the URL (which may hold a password).
    """
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if _NOT_IN_A_URL.search(value):
        raise ValueError("must not contain white space or control characters")
    if "?" in value or "#" in value:
        raise ValueError("must have no query and no fragment: paths are appended to it")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from error
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("must have a port from 1 to 65535 after the colon")
    if not _is_host(host):
        raise ValueError("must name a host after ://")
    if not parts.path.isascii():
        raise ValueError("must have a path in ASCII; other characters are written %C3%A4")
    return value.rstrip("/")


def _is_host(host: str) -> bool:
    """Whether it is a name, in any script, or an address."""
    if ":" in host:  # only in brackets, or it would be a port
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
        return True
    try:
        return _HOST.fullmatch(host.encode("idna").decode("ascii")) is not None
    except UnicodeError:  # empty or too long between two dots
        return False
