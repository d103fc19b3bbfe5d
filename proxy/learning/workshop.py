"""What every learning function works with: the log, its key, where artifacts go, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.settings import Settings
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database


@dataclass(frozen=True, slots=True)
class Workshop:
    """The tools of a learner.

    Attributes:
        progress: told the name of each stage as it begins, and `stage: how far` as it goes on.
    """

    settings: Settings
    database: Database
    cipher: Cipher
    artifacts: ArtifactStore
    progress: Callable[[str], None]

    @classmethod
    def open(cls, settings: Settings, progress: Callable[[str], None]) -> Workshop:
        """Open the log of a data directory that a proxy has made, its schema up to date.

        Raises:
            KeyFileUnusable: the data directory has a log and no key to it.
            DatabaseDown: the database can't be reached.
        """
        cipher = Cipher.open(settings.data_dir)
        database = Database(settings.database)
        database.upgrade(cipher)
        return cls(settings, database, cipher, ArtifactStore(settings.artifacts_dir, cipher), progress)
