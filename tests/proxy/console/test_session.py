"""Who is logged in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from proxy.auth import Caller, Gate, Role
from proxy.console.session import LIFETIME_SECONDS, Sessions, Throttle
from storage.cipher import Cipher

SOMEBODY = Caller("admin", Role.ADMIN)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def cipher(tmp_path: Path) -> Cipher:
    return Cipher.open(tmp_path)


def test_a_session_is_known_again_by_whoever_shares_key_and_token(cipher: Cipher) -> None:
    cookie = Sessions(Gate("token"), cipher).begin(SOMEBODY)
    session = Sessions(Gate("token"), cipher).read(cookie)
    assert session is not None
    assert session.caller == SOMEBODY


def test_the_token_is_not_in_the_cookie(cipher: Cipher) -> None:
    said, _, _ = Sessions(Gate("a-secret-token"), cipher).begin(SOMEBODY).partition(".")
    assert b"a-secret-token" not in base64.urlsafe_b64decode(said)


def test_a_session_ends(cipher: Cipher) -> None:
    clock = Clock()
    sessions = Sessions(Gate("token"), cipher, clock)
    cookie = sessions.begin(SOMEBODY)
    clock.seconds += LIFETIME_SECONDS - 1
    assert sessions.read(cookie)
    clock.seconds += 1
    assert sessions.read(cookie) is None


def test_another_token_or_key_ends_every_session(cipher: Cipher, tmp_path: Path) -> None:
    cookie = Sessions(Gate("token"), cipher).begin(SOMEBODY)
    assert Sessions(Gate("new token"), cipher).read(cookie) is None
    (tmp_path / "other").mkdir()
    assert Sessions(Gate("token"), Cipher.open(tmp_path / "other")).read(cookie) is None


def test_a_changed_or_made_up_cookie_is_nobodys(cipher: Cipher) -> None:
    sessions = Sessions(Gate("token"), cipher)
    cookie = sessions.begin(Caller("viewer", Role.VIEWER))
    said, _, signature = cookie.partition(".")
    better = base64.urlsafe_b64encode(base64.urlsafe_b64decode(said).replace(b",1,", b",3,")).decode()
    assert better != said
    for made_up in (
        None,
        "",
        ".",
        cookie[:-1],
        f"{better}.{signature}",
        f"{said}.",
        f".{signature}",
        "é.ü",
        "a" * 9999,
    ):
        assert sessions.read(made_up) is None


def test_a_form_is_of_one_session_only(cipher: Cipher) -> None:
    sessions = Sessions(Gate("token"), cipher)
    first, second = (sessions.read(sessions.begin(SOMEBODY)) for _ in range(2))
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
