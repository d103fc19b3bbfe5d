"""In and out."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from proxy.console.page import Form, OwnForm, page_router, sessions_of
from proxy.console.render import render
from proxy.console.session import LIFETIME_SECONDS, Throttle
from proxy.errors import Forbidden, Unauthorized
from proxy.transport.headers import SESSION_COOKIE

router = page_router()


@router.get("/login")
def ask(request: Request, next: str = "/", sent: bool = False) -> Response:  # noqa: A002 - as the address says it
    """The form. After the right token (`sent`), whoever still isn't logged in has a browser that kept no cookie."""
    if sent and sessions_of(request).read(request.cookies.get(SESSION_COOKIE)):
        return RedirectResponse(_own_path(next), 303)
    return render(request, "login", wanted=_own_path(next), wrong="", lost=sent)


@router.post("/login")
def enter(request: Request, fields: Form) -> Response:
    """Let in who has the admin token or a key with a role, and on to the page that was wanted."""
    wanted = _own_path(fields.get("next", "/"))
    address = request.client.host if request.client else ""
    throttle: Throttle = request.app.state.login_throttle
    wait = throttle.wait_seconds(address)
    if wait:
        said = f"Too many wrong tokens came from {address}. Try again in {wait:.0f} seconds."
        answer = render(request, "login", status=429, wanted=wanted, wrong=said, lost=False)
        answer.headers["retry-after"] = f"{wait:.0f}"
        return answer
    try:
        cookie = sessions_of(request).begin(fields.get("token", ""))
    except (Unauthorized, Forbidden) as error:
        throttle.note_failure(address)
        said = str(error) if isinstance(error, Forbidden) else "That is neither the admin token nor a key in force."
        return render(request, "login", status=error.status, wanted=wanted, wrong=said, lost=False)
    response = RedirectResponse(f"/login?sent=1&next={quote(wanted, safe='')}", 303)
    secure = not _is_loopback(request)
    response.set_cookie(SESSION_COOKIE, cookie, LIFETIME_SECONDS, httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/logout")
def leave(fields: OwnForm) -> Response:
    """Forget who it was."""
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _own_path(wanted: str) -> str:
    """Where to go after the login: a page of ours, never another site."""
    plain = wanted.startswith("/") and wanted.isascii() and wanted.isprintable()
    return wanted if plain and not wanted.startswith(("//", "/\\")) else "/"


def _is_loopback(request: Request) -> bool:
    """Whether the browser runs on this machine, or reaches it through a tunnel: there HTTP is as good as HTTPS, and
    not every browser keeps a `Secure` cookie from it."""
    host = (request.url.hostname or "").strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
