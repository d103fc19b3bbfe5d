"""Numbers as people read them, and strangers' texts."""

from __future__ import annotations

import pytest

from proxy.console.figures import count, milliseconds, share, short, usd
from proxy.console.hostile import clip, one_line, visible


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "$0.00"), (1234.5, "$1,234.50"), (-3.1, "−$3.10"), (0.0042, "$0.0042"), (1e-7, "<$0.0001"),
        (-1e-7, "−<$0.0001"), (123456.0, "$123,456"), (None, "–"),
    ],
)  # fmt: skip
def test_money_is_signed_and_never_rounded_to_nothing(value: float | None, shown: str) -> None:
    assert usd(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.0\xa0%"), (1.0, "100.0\xa0%"), (0.0004, "<0.1\xa0%"), (0.123, "12.3\xa0%"), (None, "–")],
)
def test_a_share_is_not_rounded_to_nothing(value: float | None, shown: str) -> None:
    assert share(value) == shown


def test_counts_are_grouped_or_short() -> None:
    assert (count(12345), count(None), short(9999), short(12_345), short(4.5e6)) == (
        "12,345", "–", "9,999", "12.3k", "4.5M",
    )  # fmt: skip
    assert (milliseconds(0.44), milliseconds(230), milliseconds(1250)) == ("0.4\xa0ms", "230\xa0ms", "1.25\xa0s")


@pytest.mark.parametrize("deceptive", ["\u202e", "\u2066", "\u200f", "\x00", "\x1b", "\u2028", "\ufeff", "\ud800"])
def test_characters_that_deceive_are_spelled_out(deceptive: str) -> None:
    assert visible(f"a{deceptive}b") == f"a⟨{ord(deceptive):04X}⟩b"


def test_ordinary_text_of_any_language_stays_as_it_is() -> None:
    text = "שלום\tمرحبا\n你好 👩\u200d🚀"  # the joiner inside an emoji is no deceit
    assert visible(text) == text


def test_long_text_is_cut() -> None:
    assert clip("x" * 10**7, 5) == "xxxxx…"
    assert one_line("a\n\n b " * 10**6, 7) == "a b a b…"
