"""An SLM that keeps failing: told from one whose server is restarted.

It is failing when, with a confidence of 99.9 %, more than half of its attempts fail, of its newest fifty as of the
newest fifty that are five minutes old, and when none of the last five was served. So it takes ten failures in a row
at least, and an outage of five minutes under traffic; a server that is back is left alone. Meanwhile the LLM answers,
and the breaker keeps clients from waiting: there is no hurry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from router.decision import Reason
from router.learning.proof.bounds import lower_bound

#: Why the LLM had to answer, where that was the SLM's or its server's fault. To be unsure is no fault.
FAULTS = (Reason.SLM_UNAVAILABLE, Reason.SLM_TIMEOUT, Reason.SLM_ERROR, Reason.OUTPUT_INVALID)
WINDOW_ATTEMPTS = 50
LASTS = timedelta(minutes=5)
_DELTA = 1e-3
_LAST = 5


def is_failing(newest: Sequence[bool], older: Sequence[bool]) -> bool:
    """Whether it keeps failing.

    Args:
        newest: whether each of the newest attempts failed, newest first.
        older: the same, as it was five minutes ago.
    """
    return all(newest[:_LAST]) and all(_mostly(window) for window in (newest, older))


def _mostly(failed: Sequence[bool]) -> bool:
    return bool(lower_bound(sum(failed), len(failed), _DELTA) > 0.5) if failed else False
