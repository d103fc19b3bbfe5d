"""Who is logged in at the console: a cookie that only this installation can have signed, and that expires.

Nothing is kept on the server, so every worker and every machine that shares the key file and the admin token knows
every session. A new admin token ends them all, a revoked key its own. Neither token nor key is in a cookie.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from proxy.auth import Caller, Gate, Role
from proxy.keys import Keys, key_hash
from storage.cipher import Cipher

LIFETIME_SECONDS = 12 * 3600
ADMIN = Caller("admin", Role.ADMIN)
_SIGNATURE = b"console session"
_FORM = b"console form"


class _Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What the cookie says."""

    key_id: str  # empty for the admin token
    ends_at: float
    nonce: str


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in.

    Attributes:
        caller: who, for roles and the audit trail.
        form_token: what a form of this session carries, so that no other site can send one.
    """

    caller: Caller
    form_token: str

    def sent(self, form_token: str) -> bool:
        """Whether a form is this session's own."""
        return hmac.compare_digest(form_token.encode(), self.form_token.encode())


class Sessions:
    """Begins sessions and knows them again."""

    def __init__(self, gate: Gate, cipher: Cipher, keys: Keys, now: Callable[[], float] = time.time) -> None:
        """
        Args:
            keys: those in force now.
        """
        self._gate, self._cipher, self._keys, self._now = gate, cipher, keys, now

    def begin(self, token: str) -> str:
        """A cookie's value, for who has the admin token, or a key with a role.

        Raises:
            Unauthorized: it is neither.
            Forbidden: the key is for calls only.
        """
        token = token.strip()
        self._gate.enter(f"Bearer {token}", Role.VIEWER, self._keys)
        key_id = "" if self._gate.is_admin(token) else self._keys[key_hash(token)].key_id
        ticket = _Ticket(key_id, self._now() + LIFETIME_SECONDS, secrets.token_urlsafe(16))
        said = base64.urlsafe_b64encode(msgspec.json.encode(ticket)).decode()
        return f"{said}.{self._signature(said)}"

    def read(self, cookie: str | None) -> Session | None:
        """Whose cookie it is; None for one that is made up, changed, of another token, revoked, or over its time."""
        said, _, signature = (cookie or "").partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(said).encode()):
            return None
        ticket = msgspec.json.decode(base64.urlsafe_b64decode(said), type=_Ticket)
        caller = self._caller(ticket.key_id)
        if caller is None or self._now() >= ticket.ends_at:
            return None
        return Session(caller, self._cipher.keyed_hash(said.encode(), _FORM).hex())

    def _caller(self, key_id: str) -> Caller | None:
        if not key_id:
            return ADMIN
        key = next((key for key in self._keys.values() if key.key_id == key_id), None)
        return None if key is None or key.role is None else Caller(key.actor, Role(key.role))

    def _signature(self, said: str) -> str:
        return self._cipher.keyed_hash(self._gate.secret + b"\0" + said.encode(), _SIGNATURE).hex()


class Throttle:
    """Slows down who tries tokens: a few wrong ones, then none for a while. Each worker counts for itself.

    Remembers the addresses that failed last, and no more of them than `addresses`.
    """

    def __init__(
        self,
        tries: int = 5,
        seconds: float = 60.0,
        addresses: int = 1024,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tries, self._seconds, self._addresses, self._now = tries, seconds, addresses, now
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """How long an address has to wait until its next try; 0 when it may."""
        failures = self._failures.get(address)
        if failures is None or len(failures) < self._tries:
            return 0.0
        return max(failures[0] + self._seconds - self._now(), 0.0)

    def note_failure(self, address: str) -> None:
        """A wrong token came from there."""
        self._failures.setdefault(address, deque(maxlen=self._tries)).append(self._now())
        self._failures.move_to_end(address)
        while len(self._failures) > self._addresses:
            self._failures.popitem(last=False)
