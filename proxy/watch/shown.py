"""How often SLM and LLM disagree, as the metrics show it: of every promotion in force, wherever its learner is."""

from __future__ import annotations

from dataclasses import replace

from proxy.proving.comparison import standard_of
from proxy.settings import Settings
from proxy.watch.watched import granted_on
from storage.database import ReadSession
from storage.repositories.promotions import current_promotions
from storage.repositories.watches import get_watch


def disagreements(session: ReadSession, settings: Settings) -> dict[str, tuple[float, float]]:
    """Of each promoted task, what was certified and what was compared since, taken together.

    Returns:
        Cluster id → the share of conversations that disagree, and its upper confidence bound, both in [0, 1].
    """
    standard = standard_of(settings)
    found: dict[str, tuple[float, float]] = {}
    for promotion in current_promotions(session):
        watch, certificate = get_watch(session, promotion.promotion_id), granted_on(session, promotion)
        n, failures = (certificate.n, certificate.failures) if certificate else (0, 0)
        if watch is not None:
            n, failures = n + watch.audit["n"], failures + watch.audit["failures"]
        if n:
            known = replace(standard, judge=certificate.judge if certificate else None)
            found[promotion.cluster_id] = failures / n, float(known.bound(failures, n))
    return found
