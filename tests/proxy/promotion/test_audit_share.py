"""What share of a promotion's calls is audited: one rule, as a table."""

from __future__ import annotations

import pytest

from proxy.promotion.audit_share import audit_share, full_share


@pytest.mark.parametrize(
    ("asked", "setting", "full", "known", "in_doubt", "share"),
    [
        (None, 0.02, 1.0, 500, False, None),  # a share as a rule
        (None, 0.02, 1.0, None, False, None),
        (None, 0.02, 1.0, 59, False, 1.0),  # in full while little is known
        (None, 0.02, 0.2, 299, False, 0.2),
        (None, 0.02, 1.0, 300, False, None),
        (None, 0.02, 1.0, 500, True, 1.0),  # and in doubt
        (None, 0.02, 0.2, None, True, 0.2),
        (None, 0.02, 1.0, 59, True, 1.0),
        (0.1, 0.02, 1.0, 500, False, 0.1),  # what was asked for, never less
        (0.1, 0.02, 1.0, 59, False, 0.1),
        (0.1, 0.02, 0.2, 500, True, 0.2),
        (0.3, 0.02, 0.2, 500, True, 0.3),
        (None, 0.3, 0.2, 59, True, None),
        (1.0, 0.02, 1.0, 500, False, 1.0),
        (0.1, 0.0, 1.0, 500, True, 1.0),
        (0.0, 0.02, 1.0, 59, True, 0.0),  # none is none
        (None, 0.0, 1.0, 59, True, None),
    ],
)
def test_what_was_asked_for_what_is_known_and_what_is_doubted_make_the_share(
    asked: float | None, setting: float, full: float, known: int | None, in_doubt: bool, share: float | None
) -> None:
    assert audit_share(asked, setting, full, known, in_doubt) == share


@pytest.mark.parametrize(
    ("calls", "conversations", "share"), [(0, 0, 1.0), (90, 90, 1.0), (90, 18, 0.2), (90, 95, 1.0)]
)
def test_a_full_audit_takes_one_call_of_each_conversation(calls: int, conversations: int, share: float) -> None:
    assert full_share(calls, conversations) == share
