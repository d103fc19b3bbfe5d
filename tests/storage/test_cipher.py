import os

import pytest

from storage.cipher import DAY_BYTES, Cipher, Undecipherable


def test_each_day_has_a_key_of_its_own_and_reads_those_of_all_others() -> None:
    yesterday, today = Cipher(b"k" * 32, now=lambda: 20_000 * 86_400), Cipher(b"k" * 32, now=lambda: 20_001 * 86_400)
    sealed = yesterday.encrypt(b"said", b"to")
    assert today.decrypt(sealed, b"to") == b"said"
    assert sealed[:DAY_BYTES] != today.encrypt(b"said", b"to")[:DAY_BYTES]


def test_a_days_key_opens_nothing_of_another_day() -> None:
    cipher = Cipher(b"k" * 32)
    sealed = cipher.encrypt(b"said")
    with pytest.raises(Undecipherable):
        cipher.decrypt(b"\0\1" + sealed[DAY_BYTES:])


@pytest.mark.parametrize("size", [0, 1, 13, 30, 100])
def test_bytes_that_were_never_encrypted_are_refused_in_words(size: int) -> None:
    with pytest.raises(Undecipherable, match="damaged or belongs to another key file"):
        Cipher(b"k" * 32).decrypt(os.urandom(size))
