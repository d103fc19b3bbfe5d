"""Who is logged in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from proxy.auth import Caller, Gate, Role
from proxy.console.session import LIFETIME_SECONDS, Sessions, Throttle
from proxy.errors import Forbidden, Unauthorized
from proxy.keys import Key, Keys, key_hash
from storage.cipher import Cipher

TOKEN = "a-secret-token"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def cipher(tmp_path: Path) -> Cipher:
    return Cipher.open(tmp_path)


def sessions(cipher: Cipher, token: str = TOKEN, keys: Keys | None = None, now: Clock | None = None) -> Sessions:
    return Sessions(Gate(token), cipher, keys or {}, now or Clock())


def test_a_session_is_known_again_by_whoever_shares_key_file_and_token(cipher: Cipher) -> None:
    session = sessions(cipher).read(sessions(cipher).begin(TOKEN))
    assert session is not None
    assert session.caller == Caller("admin", Role.ADMIN)


@pytest.mark.parametrize("token", ["", "wrong", f"{TOKEN} {TOKEN}", "us-key-nobodys"])
def test_nobody_else_gets_one(cipher: Cipher, token: str) -> None:
    with pytest.raises(Unauthorized):
        sessions(cipher).begin(token)


def test_a_key_opens_with_its_role_until_it_is_revoked(cipher: Cipher) -> None:
    token = "us-key-1"
    keys = {key_hash(token): Key("k-1", "Ada", int(Role.OPERATOR))}
    cookie = sessions(cipher, keys=keys).begin(token)
    session = sessions(cipher, keys=keys).read(cookie)
    assert session is not None
    assert session.caller == Caller("Ada (k-1)", Role.OPERATOR)
    assert sessions(cipher).read(cookie) is None


def test_a_key_for_calls_opens_nothing(cipher: Cipher) -> None:
    keys = {key_hash("us-key-1"): Key("k-1", "agent")}
    with pytest.raises(Forbidden):
        sessions(cipher, keys=keys).begin("us-key-1")


def test_the_token_is_not_in_the_cookie(cipher: Cipher) -> None:
    said, _, _ = sessions(cipher).begin(TOKEN).partition(".")
    assert TOKEN.encode() not in base64.urlsafe_b64decode(said)


def test_a_session_ends(cipher: Cipher) -> None:
    clock = Clock()
    known = sessions(cipher, now=clock)
    cookie = known.begin(TOKEN)
    clock.seconds += LIFETIME_SECONDS - 1
    assert known.read(cookie)
    clock.seconds += 1
    assert known.read(cookie) is None


def test_another_token_or_key_file_ends_every_session(cipher: Cipher, tmp_path: Path) -> None:
    cookie = sessions(cipher).begin(TOKEN)
    assert sessions(cipher, "new token").read(cookie) is None
    (tmp_path / "other").mkdir()
    assert sessions(Cipher.open(tmp_path / "other")).read(cookie) is None


def test_a_changed_or_made_up_cookie_is_nobodys(cipher: Cipher) -> None:
    keys = {key_hash("us-key-1"): Key("k-1", "viewer", int(Role.VIEWER))}
    known = sessions(cipher, keys=keys)
    cookie = known.begin("us-key-1")
    said, _, signature = cookie.partition(".")
    better = base64.urlsafe_b64encode(base64.urlsafe_b64decode(said).replace(b"k-1", b"")).decode()
    assert better != said
    made_up = ("", ".", cookie[:-1], f"{better}.{signature}", f"{said}.", f".{signature}", "é.ü", "a" * 9999)
    for each in (None, *made_up):
        assert known.read(each) is None


def test_a_form_is_of_one_session_only(cipher: Cipher) -> None:
    known = sessions(cipher)
    first, second = (known.read(known.begin(TOKEN)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.sent(first.form_token)
    assert not first.sent(second.form_token)
    assert not first.sent("")


def test_wrong_tokens_make_an_address_wait() -> None:
    clock = Clock()
    throttle = Throttle(tries=3, seconds=60, now=clock)
    for _ in range(3):
        assert throttle.wait_seconds("a") == 0
        throttle.note_failure("a")
    assert throttle.wait_seconds("a") == 60
    assert throttle.wait_seconds("b") == 0
    clock.seconds += 60
    assert throttle.wait_seconds("a") == 0


def test_only_so_many_addresses_are_remembered() -> None:
    throttle = Throttle(tries=1, addresses=10)
    for number in range(1000):
        throttle.note_failure(str(number))
    assert len(throttle._failures) == 10
    assert throttle.wait_seconds("999")
    assert not throttle.wait_seconds("0")
