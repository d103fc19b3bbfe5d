"""Who may do what in the admin API: the admin token may everything, a key of the proxy's own what its role says.

Fails closed: no token, no entry.
"""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request

from proxy.errors import DataDirUnusable, Forbidden, Unauthorized
from proxy.settings import Settings

if TYPE_CHECKING:
    from proxy.keys import Key
    from proxy.state import State

TOKEN_FILE = "admin-token"


class Role(IntEnum):
    """What a caller may do; each role includes the ones before it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling.

    Attributes:
        name: for the audit trail.
        role: what is allowed.
    """

    name: str
    role: Role


def admin_token(settings: Settings) -> tuple[str, bool]:
    """The token in force, made on the first start.

    Returns:
        The token, and whether it was generated just now (then it is worth printing, once).

    Raises:
        DataDirUnusable: the token's file can't be read or written.
    """
    if settings.admin_token:
        return settings.admin_token, False
    path = settings.data_dir / TOKEN_FILE
    try:
        token, generated = _generate(path)
    except OSError as error:
        raise DataDirUnusable(f"{path}: can't keep the admin token there: {error.strerror}") from error
    if not token:
        raise DataDirUnusable(f"{path}: the admin token's file is empty; delete it to have a new token made")
    return token, generated


def _generate(path: Path) -> tuple[str, bool]:
    """Create the file, or read it where somebody was first. Whole at once, so that nobody reads half a token."""
    if path.exists():
        return path.read_text(encoding="ascii").strip(), False
    token = "us-admin-" + secrets.token_urlsafe(32)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=path.parent, prefix=TOKEN_FILE) as draft:  # mode 600
        draft.write(token + "\n")
        draft.flush()
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return path.read_text(encoding="ascii").strip(), False
    return token, True


def bearer_token(authorization: str | None) -> str | None:
    """What follows `Bearer` in an `Authorization` header; None when there is no such thing."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class Gate:
    """Tells callers by their tokens."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    @property
    def secret(self) -> bytes:
        """The admin token, for keeping it from crossing."""
        return self._token

    def is_admin(self, token: str | None) -> bool:
        """Whether it is the admin token. The comparison takes the same time whatever was guessed."""
        return token is not None and hmac.compare_digest(token.encode(), self._token)

    def enter(self, authorization: str | None, role: Role, keys: Mapping[str, Key] | None = None) -> Caller:
        """Let a caller in.

        Args:
            authorization: the header as it came.
            role: the least that is needed.
            keys: those in force, as `proxy.keys.Keys`.

        Raises:
            Unauthorized: no token, or one that nobody has.
            Forbidden: a known caller whose role is too low.
        """
        token = bearer_token(authorization)
        if token is None:
            raise Unauthorized("the admin API needs `Authorization: Bearer <admin token>`")
        caller = Caller("admin", Role.ADMIN) if self.is_admin(token) else _by_key(token, keys or {})
        if caller is None:
            raise Unauthorized(
                "this is neither the admin token (UNDERSTUDY_ADMIN_TOKEN, or where that is not set the data "
                "directory's file admin-token) nor a key in force"
            )
        if caller.role < role:
            raise Forbidden(f"this needs the role {role.name.lower()}; yours is {caller.role.name.lower()}")
        return caller


def _by_key(token: str, keys: Mapping[str, Key]) -> Caller | None:
    """Who has this key; None where it is none in force.

    Raises:
        Forbidden: the key is for calls only.
    """
    from proxy.keys import key_hash

    key = keys.get(key_hash(token))
    if key is None:
        return None
    if key.role is None:
        raise Forbidden(f"the key {key.key_id} is for calls; the admin API needs one with a role")
    return Caller(key.actor, Role(key.role))


def require(role: Role) -> Callable[[Request], Caller]:
    """A FastAPI dependency: the caller, if it has at least `role`."""

    def enter(request: Request) -> Caller:
        state: State = request.app.state.understudy
        return state.gate.enter(request.headers.get("authorization"), role, state.serving.keys)

    return enter
