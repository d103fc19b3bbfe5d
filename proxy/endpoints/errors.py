"""Every error outside the relay in OpenAI's shape, whoever raised it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from proxy.errors import NoSuchThing, ServiceUnavailable, UnderstudyError, error_body
from storage.cipher import Undecipherable
from storage.errors import DatabaseDown, NotFound

_TYPES = {401: "authentication_error", 403: "permission_error"}


def shape_errors(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(UnderstudyError)
    def _own(request: Request, error: UnderstudyError) -> Response:
        return _response(error)

    @app.exception_handler(DatabaseDown)
    def _database(request: Request, error: DatabaseDown) -> Response:
        return _response(ServiceUnavailable(f"{error}; calls are served and logged all the same"))

    @app.exception_handler(Undecipherable)
    def _undecipherable(request: Request, error: Undecipherable) -> Response:
        return _response(ServiceUnavailable(f"the log can't be read: {error}"))

    @app.exception_handler(NotFound)
    def _not_found(request: Request, error: NotFound) -> Response:
        return _response(NoSuchThing(str(error)))

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            said = f"the body is not valid JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
            return Response(
                error_body(said, "invalid_request_error", "invalid_json"), 400, media_type="application/json"
            )
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        body = error_body(f"{where}: {first['msg']}", "invalid_request_error", "invalid_request", where)
        return Response(body, 400, media_type="application/json")

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            path = request.scope.get("raw_path", b"").decode("latin-1")
            return _response(NoSuchThing(f"there is nothing at {request.method} {path}"))
        kind = _TYPES.get(error.status_code, "invalid_request_error")
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        body = error_body(str(error.detail), kind, code)
        return Response(body, error.status_code, error.headers, media_type="application/json")

    @app.exception_handler(Exception)
    def _unexpected(request: Request, error: Exception) -> Response:
        return _response(UnderstudyError("something went wrong in the proxy; its log says what"))


def _response(error: UnderstudyError) -> Response:
    return Response(error.body(), error.status, media_type="application/json")
