"""Templates: every value in them is made visible and escaped, and a name that isn't there is an error."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from proxy.console import figures, hostile
from proxy.console.assets import address
from proxy.console.session import Session

_FILTERS = (
    figures.usd, figures.count, figures.short, figures.share, figures.milliseconds, figures.size, figures.moment,
    figures.clock, figures.day, figures.age, hostile.clip, hostile.one_line,
)  # fmt: skip
_PLACES = (
    ("/", "Savings"),
    ("/tasks", "Tasks"),
    ("/calls", "Calls"),
    ("/runs", "Runs"),
    ("/models", "Models"),
    ("/audit", "Audit"),
    ("/keys", "Keys"),
)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("proxy.console"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {filter_.__name__: filter_ for filter_ in _FILTERS}
    environment.globals |= {"asset": address, "places": _PLACES}
    return environment


def _shown(value: object) -> object:
    """Every value on its way into a page, before it is escaped."""
    return hostile.visible(value) if type(value) is str else value


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page.

    Args:
        template: its file's name, without the ending.
        values: what it shows; `session` is the request's own, None on the way to the login.
    """
    session: Session | None = getattr(request.state, "session", None)
    here = "/" + request.url.path.split("/")[1]
    text = _environment().get_template(f"{template}.html").render(session=session, here=here, **values)
    return HTMLResponse(text, status)
