"""How many of the calls that an SLM serves are put to the LLM too: a share as a rule, about all where it matters."""

from __future__ import annotations

from proxy.settings import Settings
from storage.models import PromotionRow

#: Certified and audited conversations together, from which on an audit may sample.
FULL_AUDIT_CONVERSATIONS = 300


def full_share(calls: int, conversations: int) -> float:
    """The share at which a task is audited in full: one call of each conversation on average, in (0, 1].

    One call of a conversation counts, the first that is audited. If all were, only first turns would count: an SLM
    that got worse in later ones would never be noticed, however often they cast doubt.

    Args:
        calls, conversations: that the task was learned from; 0 where nothing is known.
    """
    return min(1.0, conversations / calls) if calls and conversations else 1.0


def audit_share(
    asked: float | None, setting: float, full: float, known: int | None, in_doubt: bool = False
) -> float | None:
    """The share of a promotion's calls that SLM and LLM both answer now.

    What was asked for is never lowered, and a share of 0 forbids audits. Else the audit is full while there is doubt,
    and, where no share was asked for, while too little is known to sample: see `router.learning.proof.audit`.

    Args:
        asked: for this promotion; None: nothing in particular.
        setting: `UNDERSTUDY_AUDIT_SHARE`.
        full: what `full_share` says of the task.
        known: conversations that it was certified on, and audited since; None: it serves without a certificate, or
            nobody.
        in_doubt: whether what it did of late speaks against it.

    Returns:
        `full`, or `asked` where that does; None: the setting.
    """
    usual = setting if asked is None else asked
    is_young = asked is None and known is not None and known < FULL_AUDIT_CONVERSATIONS
    return full if 0 < usual < full and (is_young or in_doubt) else asked


def has_audits(settings: Settings, promotion: PromotionRow) -> bool:
    """Whether a promotion is audited at all; nobody is doubted for what is not looked at."""
    asked = promotion.asked_audit_share
    return (settings.audit_share if asked is None else asked) > 0
