"""What can go wrong in storage.

StorageError
├── SpoolFull          the record could not be appended (disk full, file gone): the call was served, its log is lost
├── DatabaseDown       the database can't be reached, is locked or read-only; what was to be written stays in the spool
├── RowRefused         the database is there and will never take this row: a value that its type can't hold
├── KeyFileUnusable    the key file is missing while data exists, unreadable, or of the wrong size
├── ArtifactCorrupt    a file of an artifact does not have the checksum in its manifest, or is of another key
├── ArtifactMissing    no artifact of that id
└── NotFound           no such row
"""

from __future__ import annotations


class StorageError(Exception):
    """The root; `reason` is a constant fit for a log field."""

    reason = "storage_error"


class SpoolFull(StorageError):
    """The record could not be appended."""

    reason = "spool_full"


class DatabaseDown(StorageError):
    """The database did not take or give what it was asked for."""

    reason = "database_down"


class RowRefused(StorageError):
    """The database will never take this row."""

    reason = "row_refused"


class KeyFileUnusable(StorageError):
    """The encryption key can't be used."""

    reason = "key_file_unusable"


class ArtifactCorrupt(StorageError):
    """An artifact's content differs from its manifest."""

    reason = "artifact_corrupt"


class ArtifactMissing(StorageError):
    """No artifact of that id."""

    reason = "artifact_missing"


class NotFound(StorageError):
    """No such row."""

    reason = "not_found"
