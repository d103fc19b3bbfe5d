"""What can go wrong in the proxy, and the shape in which clients and operators see it.

    UnderstudyError
    ├── SettingsInvalid         at start: a setting is unknown or malformed
    ├── DataDirUnusable         at start: the data directory can't be read or written
    ├── PortUnusable            at start: the port is taken, or not ours to take
    ├── ClientError             4xx that the proxy itself answers
    │   ├── BodyTooLarge        413
    │   ├── BadRequest          400
    │   ├── Unauthorized        401
    │   ├── Forbidden           403
    │   ├── NoSuchThing         404
    │   ├── Conflict            409
    │   ├── Unprocessable       422
    │   └── HeadTooLarge        431
    ├── UpstreamError           the LLM did not answer properly
    │   ├── UpstreamUnreachable 502: refused, no DNS, TLS failed
    │   ├── UpstreamCut         502: closed before or in the middle of its answer
    │   └── UpstreamTimeout     504: connect, first token, idle or total
    ├── ServiceUnavailable      503: it needs what is not known here, for a database that is down
    └── ShuttingDown            503: the call did not end before the proxy had to

Each class carries a constant `code`: metric label, log field and OpenAI's `error.code` in one.
"""

from __future__ import annotations

import orjson


class UnderstudyError(Exception):
    """The root of the tree."""

    status = 500
    type = "server_error"
    code = "internal_error"

    def body(self) -> bytes:
        """OpenAI's error shape, as JSON."""
        return error_body(str(self), self.type, self.code)


class SettingsInvalid(UnderstudyError):
    """A setting is unknown or malformed."""

    code = "settings_invalid"


class DataDirUnusable(UnderstudyError):
    """The data directory can't be read or written."""

    code = "data_dir_unusable"


class PortUnusable(UnderstudyError):
    """The port is taken, or not ours to take."""

    code = "port_unusable"


class ClientError(UnderstudyError):
    """The request can't be served as it is."""

    status = 400
    type = "invalid_request_error"
    code = "bad_request"


class BadRequest(ClientError):
    """Malformed input to the proxy's own endpoints."""


class BodyTooLarge(ClientError):
    """The request body is over `UNDERSTUDY_MAX_BODY_BYTES`."""

    status = 413
    code = "body_too_large"


class HeadTooLarge(ClientError):
    """A request's line and headers are larger than the proxy takes."""

    status = 431
    code = "head_too_large"


class Unauthorized(ClientError):
    """No or a wrong admin token, or key of the proxy's own."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(ClientError):
    """The role does not allow it."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class NoSuchThing(ClientError):
    """An id that isn't there."""

    status = 404
    code = "not_found"


class Conflict(ClientError):
    """The state of things doesn't allow it now."""

    status = 409
    code = "conflict"


class Unprocessable(ClientError):
    """Well-formed, but it can't be done as asked."""

    status = 422
    code = "unprocessable"


class UpstreamError(UnderstudyError):
    """The LLM did not answer properly."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """No connection."""

    code = "upstream_unreachable"


class UpstreamCut(UpstreamError):
    """The connection closed before the answer was whole."""

    code = "upstream_cut"


class UpstreamTimeout(UpstreamError):
    """Too slow; `phase` is `connect`, `first_token`, `idle` or `total`."""

    status = 504
    code = "upstream_timeout"

    def __init__(self, message: str, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class ShuttingDown(UnderstudyError):
    """The proxy ended before the answer was whole: it took longer than `UNDERSTUDY_DRAIN_SECONDS`."""

    status = 503
    code = "shutting_down"


class ServiceUnavailable(UnderstudyError):
    """A part that the admin API needs is down; serving goes on."""

    status = 503
    code = "service_unavailable"


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's error shape.

    Returns:
        `{"error": {"message", "type", "param", "code"}}` as JSON bytes.
    """
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})
