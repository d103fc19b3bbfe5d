"""Whose key a call came with, by name: the label by which the metrics tell agents apart. Operators choose the names."""

from __future__ import annotations

from collections.abc import Iterable

from storage.database import Database
from storage.errors import DatabaseDown
from storage.repositories.keys import list_keys

#: Of calls that came with no key of the proxy's own.
NO_KEY = "none"


class KeyNames:
    """Names of the keys, those that were revoked included: their calls may still be under way."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names: dict[bytes, str] = {}

    def look_up(self, origins: Iterable[bytes]) -> None:
        """See whether there are new keys, where one of some calls' origins is not known as one's."""
        if all(not origin or origin in self._names for origin in origins):
            return
        try:
            with self._database.read() as session:
                self._names = {row.origin: row.name for row in list_keys(session)}
        except DatabaseDown:
            pass  # those that are known still are

    def of(self, origin: bytes) -> str:
        """The name of the key that a call's origin is a hash of; `NO_KEY` where it is none of ours."""
        return self._names.get(origin, NO_KEY)
