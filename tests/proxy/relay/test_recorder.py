"""How much of a call is kept."""

import pytest

from proxy.relay.recorder import lower_level


@pytest.mark.parametrize(
    ("configured", "asked", "kept"),
    [
        ("full", [], "full"),
        ("full", [b"full"], "full"),
        ("full", [b" Redacted"], "redacted"),
        ("full", [b"metadata"], "metadata"),
        ("full", [b"off"], "off"),
        ("metadata", [b"full"], "metadata"),
        ("off", [b"full"], "off"),
        ("full", [b"flase"], "metadata"),
        ("full", [b"false"], "metadata"),
        ("full", [b""], "metadata"),
        ("full", [b"off, full"], "metadata"),
        ("off", [b"flase"], "off"),
        ("full", [b"off", b"full"], "off"),
        ("full", [b"full", b"none"], "metadata"),
    ],
)
def test_a_client_lowers_what_is_kept_also_by_a_word_that_means_nothing(
    configured: str, asked: list[bytes], kept: str
) -> None:
    assert lower_level(configured, [(b"accept", b"*/*"), *((b"x-understudy-log", value) for value in asked)]) == kept
