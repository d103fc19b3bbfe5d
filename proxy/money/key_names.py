"""Whose key a call came with, by name: the label by which the metrics tell agents apart. Operators choose the names."""

from __future__ import annotations

import time

from storage.database import Database
from storage.errors import DatabaseDown
from storage.repositories.keys import list_keys

#: Of calls that came with no key of the proxy's own.
NO_KEY = "none"
#: Between two looks for keys that are new.
_LOOK_SECONDS = 5.0


class KeyNames:
    """Names of the keys, those that were revoked included: their calls may still be under way."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names: dict[bytes, str] = {}
        self._look_at = 0.0

    def of(self, origin: bytes) -> str:
        """The name of the key that a call's origin is a hash of; `NO_KEY` where it is none of ours."""
        if origin and origin not in self._names and time.monotonic() >= self._look_at:
            self._look()
        return self._names.get(origin, NO_KEY)

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_SECONDS
        try:
            with self._database.read() as session:
                self._names = {row.origin: row.name for row in list_keys(session)}
        except DatabaseDown:
            pass  # those that are known still are
