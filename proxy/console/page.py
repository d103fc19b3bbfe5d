"""What all pages have in common: who is asking, headers that keep a page to itself, and errors in words."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlsplit

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from proxy.auth import Role
from proxy.console.render import render
from proxy.console.session import Session, Sessions
from proxy.errors import BadRequest, BodyTooLarge, Forbidden, UnderstudyError
from proxy.state import State
from proxy.transport.headers import SESSION_COOKIE
from storage.cipher import Undecipherable
from storage.errors import DatabaseDown, NotFound

SAFE = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
MAX_FORM_BYTES = 64 * 1024

log = structlog.get_logger()
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class SignedOut(Exception):
    """Nobody is logged in, or no longer; the page will be asked for again after the login."""


class Page(APIRoute):
    """A route whose answers are pages, those about errors included."""

    def get_route_handler(self) -> _Handler:
        """FastAPI's handler, with safe headers on whatever comes of it."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await answer(request)
            except SignedOut:
                response = _to_login(request)
            except (UnderstudyError, RequestValidationError, DatabaseDown, NotFound, Undecipherable) as error:
                response = await run_in_threadpool(_say, request, error)
            except Exception:
                log.exception("console.page_failed", path=request.url.path)
                unexpected = UnderstudyError("something went wrong in the proxy; its log says what")
                response = await run_in_threadpool(_say, request, unexpected)
            for name, value in SAFE.items():
                response.headers.setdefault(name, value)
            return response

        return handle


def page_router() -> APIRouter:
    """A router of pages."""
    return APIRouter(include_in_schema=False, route_class=Page)


def sessions_of(request: Request) -> Sessions:
    """What knows sessions."""
    state: State = request.app.state.understudy
    return Sessions(state.gate, state.cipher, state.serving.keys)


def _signed_in(request: Request) -> Session:
    session = sessions_of(request).read(request.cookies.get(SESSION_COOKIE))
    if session is None:
        raise SignedOut
    request.state.session = session
    return session


#: Whoever is logged in; else the way leads to the login.
SignedIn = Annotated[Session, Depends(_signed_in)]


async def _form(request: Request) -> dict[str, str]:
    """A form's fields, one value each.

    Raises:
        Forbidden: another site sent it.
        BodyTooLarge: no form of ours is that long.
    """
    if not _from_here(request):
        raise Forbidden("this form was sent by another site")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise BodyTooLarge(f"a form is at most {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=50)
    except (UnicodeDecodeError, ValueError) as error:
        raise BadRequest("this is not a form") from error
    return {name: values[-1] for name, values in fields.items()}


def _from_here(request: Request) -> bool:
    """Whether a form comes from a page of ours, as every browser of these years says."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


#: Fields of a form that comes from this console; for the login, where there is no session yet.
Form = Annotated[dict[str, str], Depends(_form)]


def _own_form(fields: Form, session: SignedIn) -> dict[str, str]:
    if not session.sent(fields.pop("form_token", "")):
        raise Forbidden("this form is of another session; go back, load the page again and repeat")
    if session.caller.role < Role.OPERATOR:
        raise Forbidden(f"this needs the role operator; yours is {session.caller.role.name.lower()}")
    return fields


#: Fields of a form that a page of the same session sent, by somebody who may change things.
OwnForm = Annotated[dict[str, str], Depends(_own_form)]


def _to_login(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"hx-refresh": "true"})
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        return render(request, "again")  # a strict cookie doesn't come with a link from elsewhere: ask from here
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse("/login" if wanted == "/" else f"/login?next={quote(wanted, safe='')}", 303)


def _say(request: Request, error: Exception) -> Response:
    """An error as a page."""
    match error:
        case UnderstudyError():
            status = error.status
        case NotFound():
            status = 404
        case RequestValidationError():
            status = 400
            first = error.errors()[0]
            error = BadRequest(f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}")
        case _:
            status = 503
    if not hasattr(request.state, "session"):
        request.state.session = sessions_of(request).read(request.cookies.get(SESSION_COOKIE))
    return render(request, "error", status=status, said=str(error), code=status)
