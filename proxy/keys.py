"""Keys of the proxy's own: made, revoked, and known by every worker without asking the database.

A key stands for a client, for somebody at the admin API, or both. Calls carry it as `Authorization: Bearer us-key-…`
where the proxy has a key for the LLM (`UNDERSTUDY_UPSTREAM_API_KEY`), else as `x-understudy-key`, beside the LLM's own.
It never goes upstream. Who sends none is served by the settings alone, or refused (`UNDERSTUDY_REQUIRE_KEY`).

What is in force is part of what workers poll (`serving.py`) and keep in `serving.json`, so that a dead database neither
locks clients out nor lets revoked keys in again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

import msgspec

from proxy.auth import Role
from proxy.errors import BadRequest, NoSuchThing
from proxy.transport.headers import KEY_PREFIX
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import NotFound
from storage.models import KeyRow
from storage.repositories import keys as rows
from storage.repositories.registry import audit

PREFIX = KEY_PREFIX.decode()
MAX_NAME_CHARS = 100

LogLevel = Literal["full", "redacted", "metadata", "off"]


class Key(msgspec.Struct, frozen=True):
    """A key in force, as workers know it.

    Attributes:
        name: for the audit trail.
        role: in the admin API; None for a key that is for calls only.
        may_divert: whether an SLM may answer its calls.
        may_force: whether it may ask for the SLM.
        max_log: how much of its calls is kept at most.
    """

    key_id: str
    name: str
    role: int | None = None
    may_divert: bool = True
    may_force: bool = False
    max_log: LogLevel = "full"

    @property
    def actor(self) -> str:
        """Who it is in the audit trail: names may be given twice, ids are not."""
        return f"{self.name} ({self.key_id})"


#: Keys in force by the hash of each, hexadecimal.
Keys = Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What a new key is to allow; fields as in `Key`.

    Attributes:
        allows_training: whether its calls may become training samples.
    """

    name: str
    role: Role | None = None
    may_divert: bool = True
    may_force: bool = False
    max_log: LogLevel = "full"
    allows_training: bool = True


def key_hash(token: str) -> str:
    """What a key is known by."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def create_key(database: Database, cipher: Cipher, wish: KeyWish, actor: str) -> tuple[str, KeyRow]:
    """Make a key; in force on all workers within seconds.

    Returns:
        The key, which can't be shown again, and its row.

    Raises:
        BadRequest: without a name, or with an endless one; an SLM may be asked for only by who may be diverted.
        DatabaseDown: nothing was changed.
    """
    name = wish.name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise BadRequest(f"a key needs a name of 1 to {MAX_NAME_CHARS} printable characters")
    if wish.may_force and not wish.may_divert:
        raise BadRequest("may_force needs may_divert: who asks for the SLM must be allowed to get it")
    token = PREFIX + secrets.token_urlsafe(32)
    row = KeyRow(
        key_id=f"k-{secrets.token_hex(5)}",
        name=name,
        key_hash=bytes.fromhex(key_hash(token)),
        origin=origin_of(cipher, token),
        role=None if wish.role is None else wish.role.name.lower(),
        may_divert=wish.may_divert,
        may_force=wish.may_force,
        max_log=wish.max_log,
        allows_training=wish.allows_training,
        created_at=datetime.now(UTC),
        created_by=actor,
        revoked_at=None,
        revoked_by=None,
    )
    with database.write() as session:
        rows.add_key(session, row)
        audit(
            session, actor, "key.created", row.key_id, name=name, role=row.role, may_divert=wish.may_divert,
            may_force=wish.may_force, max_log=wish.max_log, allows_training=wish.allows_training,
        )  # fmt: skip
    return token, row


def revoke_key(database: Database, key_id: str, actor: str) -> KeyRow:
    """End a key; it opens nothing any more on any worker within seconds.

    Raises:
        NoSuchThing: there is none of that id.
        DatabaseDown: nothing was changed.
    """
    try:
        with database.write() as session:
            row = rows.revoke_key(session, key_id, actor)
            audit(session, actor, "key.revoked", key_id, name=row.name)
            return row
    except NotFound as error:
        raise NoSuchThing(str(error)) from error


def origin_of(cipher: Cipher, token: str) -> bytes:
    """What calls made with a key are logged under, whichever header carried it."""
    return cipher.keyed_hash(f"Bearer {token}".encode(), b"origins")


def keys_of(found: list[KeyRow]) -> dict[str, Key]:
    """Rows as workers need them."""
    return {
        row.key_hash.hex(): Key(
            key_id=row.key_id,
            name=row.name,
            role=None if row.role is None else int(Role[row.role.upper()]),
            may_divert=row.may_divert,
            may_force=row.may_force,
            max_log=cast(LogLevel, row.max_log),
        )
        for row in found
    }
