"""What should happen to an SLM next, by what the database knows. The admin API shows it, the watch does it."""

from __future__ import annotations

from proxy.promotion.moves import stage_of
from proxy.promotion.proof import proof_of, subject_today, whereabouts
from proxy.settings import Settings
from router.progress import Autopilot, Proposal, Standing, next_step
from router.promotion import Cause, Stage
from storage.cipher import Cipher
from storage.database import ReadSession
from storage.models import PromotionRow
from storage.repositories.certificates import list_certificates
from storage.repositories.moves import last_move
from storage.repositories.promotions import current_promotion
from storage.repositories.registry import get_model
from storage.repositories.watches import get_watch, is_doubted


def proposal_for(session: ReadSession, cipher: Cipher, settings: Settings, cluster_id: str) -> Proposal | None:
    """The next step on a task; None when there is none, and always with `UNDERSTUDY_AUTOPILOT=off`.

    Raises:
        NotFound: there is no such task.
        Undecipherable: the task was learned with another key.
    """
    if settings.autopilot is Autopilot.OFF:
        return None
    current = current_promotion(session, cluster_id)
    models = {row.model for row in list_certificates(session, cluster_id)}
    if current is not None:
        models = models | {current.model} if has_lost_proof(session, current) else {current.model}
    return next_step([_standing(session, cipher, settings, cluster_id, model, current) for model in sorted(models)])


def has_lost_proof(session: ReadSession, current: PromotionRow) -> bool:
    """Whether an SLM is back in the shadow because what was proved of it no longer holds."""
    last = last_move(session, current.cluster_id, current.model)
    return current.stage == Stage.SHADOW and last is not None and last.cause in (Cause.UNPROVED, Cause.TASK_CHANGED)


def _standing(
    session: ReadSession, cipher: Cipher, settings: Settings, cluster_id: str, model: str, current: PromotionRow | None
) -> Standing:
    current = current if current is not None and current.model == model else None
    slm, adapter = (current.slm, current.adapter) if current else whereabouts(settings, get_model(session, model))
    proof = proof_of(session, settings, subject_today(session, cipher, cluster_id, model, slm, adapter))
    last = last_move(session, cluster_id, model)
    certificate = proof.certificate
    watch = get_watch(session, current.promotion_id) if current else None
    return Standing(
        model=model,
        stage=stage_of(session, cluster_id, model),
        is_proved=certificate is not None and not proof.missing,
        has_news=last is None or (certificate is not None and certificate.issued_at > last.at),
        is_forced=current is not None and current.forced and current.stage != Stage.SHADOW,
        has_lost_proof=current is not None and has_lost_proof(session, current),
        is_doubted=current is not None and is_doubted(session, current),
        conversations=watch.conversations if watch else 0,
        failures=watch.failures if watch else 0,
        coverage=certificate.coverage if certificate else 0.0,
        figures=proof.figures(),
    )
