"""Encryption at rest: one key file, a subkey for each use (HKDF-SHA-256), AES-256-GCM, keyed hashes.

The same key must be given to every machine that shares a database. Whoever has the key file and the data can read the
log; whoever has the data alone can't.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from storage.errors import KeyFileUnusable, StorageError

KEY_FILE = "encryption.key"
KEY_BYTES = 32
DAY_BYTES = 2  # days since 1970, until 2149
SECONDS_PER_DAY = 86_400
NONCE_BYTES = 12
TAG_BYTES = 16
HASH_BYTES = 16


class Undecipherable(StorageError):
    """The bytes are damaged, or were encrypted with another key."""

    reason = "undecipherable"


class Cipher:
    """Everything that is done with the key. Safe to share between threads."""

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            key: 32 bytes.
            now: seconds since the epoch.
        """
        self._key = key
        self._now = now
        self._day_ciphers: dict[bytes, AESGCM] = {}
        self._hash_keys: dict[bytes, bytes] = {}

    @classmethod
    def open(cls, data_dir: Path) -> Cipher:
        """Read the key file of a data directory, making both on the first start.

        Processes that start at the same time end with the same key: the first link(2) wins.

        Raises:
            KeyFileUnusable: the key file is missing although encrypted data lies beside it, can't be read or made, or
                isn't 32 bytes long.
        """
        path = data_dir / KEY_FILE
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = _read(path)
            if key is None:
                traces = _encrypted_data(data_dir)
                key = _read(path)  # another process may have made it, and then data, in the meantime
                if key is None and traces:
                    raise KeyFileUnusable(
                        f"{path} is missing, but {traces} was encrypted with it: put the key back, "
                        "or move the old data away to start anew"
                    )
            key = key or _create(path)
        except OSError as error:
            raise KeyFileUnusable(f"{path} can't be used: {error.strerror or error}") from error
        if len(key) != KEY_BYTES:
            raise KeyFileUnusable(f"{path} holds {len(key)} bytes, expected {KEY_BYTES}: it is damaged or no key file")
        return cls(key)

    def encrypt(self, data: bytes, context: bytes = b"") -> bytes:
        """Encrypt for the database.

        Every day has a key of its own: 2³² random nonces under one key are as many as it bears (NIST SP 800-38D §8.3),
        which is 49,000 values a second all day.

        Args:
            context: what the data belongs to; the same must be given to `decrypt`.

        Returns:
            The day (2 bytes), a random nonce (12 bytes), the ciphertext, the tag (16 bytes).
        """
        day = int(self._now() // SECONDS_PER_DAY).to_bytes(DAY_BYTES, "big")
        nonce = os.urandom(NONCE_BYTES)
        return day + nonce + self._day_cipher(day).encrypt(nonce, data, context)

    def decrypt(self, data: bytes, context: bytes = b"") -> bytes:
        """Undo `encrypt`.

        Raises:
            Undecipherable: damaged, or another key or context.
        """
        day, nonce = data[:DAY_BYTES], data[DAY_BYTES : DAY_BYTES + NONCE_BYTES]
        try:
            return self._day_cipher(day).decrypt(nonce, data[DAY_BYTES + NONCE_BYTES :], context)
        except (InvalidTag, ValueError) as error:
            raise Undecipherable("an encrypted value is damaged or belongs to another key file") from error

    def _day_cipher(self, day: bytes) -> AESGCM:
        found = self._day_ciphers.get(day)
        if found is None:
            found = self._day_ciphers[day] = AESGCM(self._subkey(b"rows:" + day))
        return found

    def keyed_hash(self, data: bytes, purpose: bytes) -> bytes:
        """Hash so that nobody without the key can test a guess, and no two purposes give the same hash.

        Returns:
            16 bytes.
        """
        key = self._hash_keys.get(purpose)
        if key is None:
            key = self._hash_keys[purpose] = self._subkey(b"hash:" + purpose)
        return hashlib.blake2b(data, digest_size=HASH_BYTES, key=key).digest()

    def segment_cipher(self, salt: bytes) -> AESGCM:
        """A key of its own for each spool segment, so that frames can be numbered instead of drawing random nonces:
        2³² random nonces under one key are too many (NIST SP 800-38D §8.3), and a busy proxy gets there in weeks."""
        return AESGCM(self._subkey(b"spool:" + salt))

    @property
    def fingerprint(self) -> bytes:
        """Tells keys apart without giving them away; 16 bytes."""
        return self.keyed_hash(b"", b"fingerprint")

    def _subkey(self, purpose: bytes) -> bytes:
        return HKDFExpand(SHA256(), KEY_BYTES, b"understudy/1/" + purpose).derive(self._key)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _create(path: Path) -> bytes:
    """Write a new key and link it into place; when another process was faster, theirs is returned."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return path.read_bytes()
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return path.read_bytes()


def _encrypted_data(data_dir: Path) -> str | None:
    """Name one thing in the data directory that only the key could have made."""
    for pattern in ("*.db", "spool/*.seg", "spool/quarantine/*.seg", "artifacts/*/*"):
        for path in data_dir.glob(pattern):
            if path.stat().st_size:
                return str(path.relative_to(data_dir))
    return None
