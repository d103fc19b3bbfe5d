"""What pages refer to, from this package: a browser that shows them asks no other host for anything."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from proxy.errors import NoSuchThing

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    "console.css": "text/css; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_YEAR = "public, max-age=31536000, immutable"


@cache
def address(name: str) -> str:
    """Where a browser finds a file. The address changes with the file, so that it may be kept for good."""
    return f"/static/{name}?{hashlib.blake2b((_STATIC / name).read_bytes(), digest_size=6).hexdigest()}"


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def asset(name: str) -> FileResponse:
    """A file; open to all, as it holds nothing of anybody's."""
    if name not in _TYPES:
        raise NoSuchThing(f"there is no /static/{name[:80]}")
    headers = {"cache-control": _YEAR, "x-content-type-options": "nosniff"}
    return FileResponse(_STATIC / name, media_type=_TYPES[name], headers=headers)
