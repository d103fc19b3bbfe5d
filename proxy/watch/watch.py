"""What keeps promotions honest, beside serving: the learner calls `look` every second.

    copies judged (judging.py)  →  the audit of each promotion (watched.py)  →  an alarm ends it
                                →  doubt  →  the LLM answers, and the SLM in its shadow, until that is outweighed
                                →  evidence from the shadow (shadow_proof.py)  →  a certificate, once it suffices
    certificates that no longer hold   →  back to the shadow
    an SLM that keeps failing (slm_health.py), payloads that drift (payload_drift.py)  →  the end
    a new snapshot: tasks that are gone, split or merged  →  nothing is proved of them any more
    steps that the evidence allows (promotion/autopilot.py)  →  taken, where the settings say so

Everything that is known of a promotion is in its row of `watches`, written in one transaction with the verdicts that it
is made of: each copy counts once, also over restarts, and also beside another learner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from proxy.errors import NoSuchThing, UnderstudyError
from proxy.logs import OncePerMinute
from proxy.promotion.audit_share import audit_share, full_share, has_audits
from proxy.promotion.autopilot import proposal_for
from proxy.promotion.moves import Wish, demote_cluster, promote_cluster, return_to_shadow, void_proof
from proxy.promotion.proof import proof_of, subject_today
from proxy.settings import Settings
from proxy.watch.judging import Judge, Judged
from proxy.watch.payload_drift import PayloadDrift
from proxy.watch.shadow_proof import certify_shadow
from proxy.watch.slm_health import FAULTS, LASTS, WINDOW_ATTEMPTS, is_failing
from proxy.watch.watched import Watched, granted_on, watched
from router.certificate import Subject
from router.errors import SnapshotInvalid
from router.learning.proof.drift import Drift
from router.progress import Autopilot
from router.promotion import Cause, Stage, needs_certificate
from router.snapshot import Snapshot
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database, ReadSession
from storage.errors import DatabaseDown, NotFound, StorageError
from storage.models import PromotionRow
from storage.repositories import state as states
from storage.repositories.calls import recent_attempts
from storage.repositories.certificates import (
    newest_certificates,
)
from storage.repositories.clusters import cluster_ids, get_cluster, snapshots_since
from storage.repositories.copies import copies_to_judge, note_verdict
from storage.repositories.moves import newest_move
from storage.repositories.promotions import current_promotions, set_audit
from storage.repositories.watches import put_watch

_T = TypeVar("_T")
log = structlog.get_logger()

ACTOR = "watch"
AUTOPILOT = "autopilot"
#: Copies judged in one look: one more look is a second away.
COPIES_AT_ONCE = 100
#: Between two looks at what seldom changes.
KEEP_SECONDS = 2.0
#: A step that failed (the SLM's server is away) is tried again.
RETRY_SECONDS = 60.0


class Watch:
    """Watches every promotion in force; one of them, in the learner's process."""

    def __init__(self, settings: Settings, database: Database, cipher: Cipher) -> None:
        self._settings = settings
        self._database = database
        self._cipher = cipher
        self._artifacts = ArtifactStore(settings.artifacts_dir, cipher)
        self._judge = Judge(settings, cipher, database)
        self._drift = PayloadDrift(cipher, self._artifacts)
        self._keep_at = 0.0
        self._step_at: dict[str, float] = {}
        self._log_now = OncePerMinute()

    def look(self) -> None:
        """One round; costs a query where nothing is new. A dead database is waited out."""
        try:
            while self._judge_copies() == COPIES_AT_ONCE:
                pass
            if time.monotonic() >= self._keep_at:
                self._keep_at = time.monotonic() + KEEP_SECONDS
                self._keep()
        except DatabaseDown as error:
            if self._log_now("database"):
                log.warning("watch.waits", error=str(error))

    def _judge_copies(self) -> int:
        """Judge what has come in, and add it to what is known; says how many copies there were."""
        with self._database.read() as session:
            judged = self._judge.judge(session, copies_to_judge(session, COPIES_AT_ONCE))
        if not judged:
            return 0
        with self._database.write() as session:
            states.lock_serving(session)
            waiting = {row.copy_id for row in copies_to_judge(session, len(judged), [it.copy_id for it in judged])}
            current = {row.promotion_id: row for row in current_promotions(session)}
            known: dict[int, Watched] = {}
            for copy in judged:
                if copy.copy_id not in waiting:
                    continue  # deleted meanwhile, or another learner's
                note_verdict(session, copy.copy_id, copy.verdict.outcome.value, copy.verdict.reason, datetime.now(UTC))
                promotion = current.get(copy.promotion_id)
                if promotion is None:
                    continue
                if copy.promotion_id not in known:
                    known[copy.promotion_id] = watched(session, self._settings, promotion)
                known[copy.promotion_id].take(copy)
            for one in known.values():
                certify_shadow(session, self._settings, self._cipher, self._judge, one)
                put_watch(session, one.row())
        for one in known.values():
            self._on_alarm(one)
            self._on_new_teacher(one.promotion, judged)
            if one.audit.is_in_doubt != one.promotion.in_doubt:
                self._guarded(one.promotion.cluster_id, self._keep_audit, one)
        return len(judged)

    def _subject(self, session: ReadSession, promotion: PromotionRow) -> Subject:
        return subject_today(
            session, self._cipher, promotion.cluster_id, promotion.model, promotion.slm, promotion.adapter
        )

    # What ends a promotion

    def _on_alarm(self, one: Watched) -> None:
        """End a promotion whose audit speaks against it. Who proves nothing yet, in the shadow, promises nothing."""
        alarm, promotion = one.audit.alarm, one.promotion
        if alarm is None or (promotion.stage == Stage.SHADOW and promotion.certificate_id is None):
            return
        low, high = one.audit.interval(round(1 - self._settings.confidence, 12))
        figures = {
            "alarm": alarm.value, "n": one.audit.n, "failures": one.audit.failures, "low": low, "high": high,
            "alpha": self._settings.risk, "certificate_id": promotion.certificate_id,
        }  # fmt: skip
        reason = f"{one.audit.failures} of {one.audit.n} audited conversations disagree with the LLM"
        self._end(promotion, Cause.BOUND_BROKEN, reason, figures)

    def _on_new_teacher(self, promotion: PromotionRow, judged: Sequence[Judged]) -> None:
        """An LLM that calls itself something else in an audit is not the one that was agreed with."""
        seen = {copy.teacher for copy in judged if copy.promotion_id == promotion.promotion_id and copy.teacher}
        with self._database.read() as session:
            certificate = granted_on(session, promotion)
        known = certificate.subject.teacher.split(" + ") if certificate and certificate.subject.teacher else []
        if known and (new := sorted(seen.difference(known))):
            figures = {"teacher": f"certified for {' + '.join(known)!r}, it is now {' + '.join(new)!r}"}
            self._to_shadow(promotion, Cause.UNPROVED, "the LLM changed under the same name", figures)

    def _keep(self) -> None:
        """What seldom changes, and what time alone brings."""
        with self._database.read() as session:
            active, followed = states.active_snapshot_id(session), states.watched_snapshot_id(session)
            promotions = current_promotions(session)
            session.expunge_all()
        if active is not None and active != followed:
            self._follow_tasks(active, followed)
        if promotions:
            self._drift.use(active)
        for promotion in promotions:
            self._guarded(promotion.cluster_id, self._keep_one, promotion)
        if self._settings.autopilot is Autopilot.ON:
            self._step_on()

    def _keep_one(self, promotion: PromotionRow) -> None:
        with self._database.read() as session:
            one = watched(session, self._settings, promotion)
            missing = self._missing_proof(session, promotion)
            failing = self._is_failing(session, promotion)
            drift = self._drift.look(session, promotion, one.drift)
        self._on_alarm(one)
        if drift is not None:
            self._keep_drift(promotion, drift)
        if missing:
            reason = "what was certified no longer holds: " + ", ".join(missing)
            self._to_shadow(promotion, Cause.UNPROVED, reason, {"missing": missing})
        elif failing:
            self._end(promotion, Cause.SLM_FAILING, "its SLM has failed most of its calls for minutes", failing)
        else:
            self._keep_audit(one)

    def _keep_audit(self, one: Watched) -> None:
        """Have as many of its calls audited as what is known of it asks for now, and the LLM answer while in doubt."""
        promotion = one.promotion
        if not needs_certificate(Stage(promotion.stage)):
            return
        with self._database.read() as session:
            certificate = granted_on(session, promotion)
            try:
                task = get_cluster(session, self._cipher, promotion.cluster_id)
            except NotFound:
                return  # no longer discovered: no call is taken for it any more
        asked, full = promotion.asked_audit_share, full_share(task.calls, task.conversations)
        known = certificate.n + one.audit.n if certificate else None
        in_doubt = one.audit.is_in_doubt and has_audits(self._settings, promotion)
        share = audit_share(asked, self._settings.audit_share, full, known, in_doubt)
        if (share, in_doubt) == (promotion.audit_share, promotion.in_doubt):
            return
        try:
            with self._database.write() as session:
                states.lock_serving(session)
                set_audit(session, promotion.promotion_id, share, in_doubt)
        except NotFound:
            return  # it has ended meanwhile
        event = "audit.in_doubt" if in_doubt else "audit.as_before" if share == asked else "audit.in_full"
        log.info(event, cluster=promotion.cluster_id, model=promotion.model, share=share, n=one.audit.n,
                 doubt=round(one.audit.doubt, 2))  # fmt: skip

    def _missing_proof(self, session: ReadSession, promotion: PromotionRow) -> dict[str, str]:
        """What a promotion that serves on a certificate lacks today.

        Not that the skeleton's words are others. Of 120 real tasks that were learned again with 20 % more calls, 64 had
        the very same; whether it is still the same task, the lineage says, and `_follow_tasks` acts on that.
        """
        if promotion.forced or not needs_certificate(Stage(promotion.stage)):
            return {}
        missing = proof_of(session, self._settings, self._subject(session, promotion)).missing
        return {name: short for name, short in missing.items() if name != "skeleton"}

    def _is_failing(self, session: ReadSession, promotion: PromotionRow) -> dict[str, Any]:
        """Figures of an SLM that keeps failing; none otherwise, and none in doubt: then it is not asked to serve."""
        if not needs_certificate(Stage(promotion.stage)) or promotion.in_doubt:
            return {}
        now = datetime.now(UTC)
        newest, older = (
            recent_attempts(session, promotion.cluster_id, FAULTS, promotion.created_at, until, WINDOW_ATTEMPTS)
            for until in (now, now - LASTS)
        )
        return {"attempts": len(newest), "failed": sum(newest)} if is_failing(newest, older) else {}

    def _keep_drift(self, promotion: PromotionRow, drift: dict[str, Any]) -> None:
        with self._database.write() as session:
            states.lock_serving(session)
            one = watched(session, self._settings, promotion)
            one.drift = drift
            put_watch(session, one.row())
        state = Drift.from_json(drift["drift"]) if drift["drift"] is not None else None
        if state is not None and state.alarm is not None:
            reason = f"{state.far} of {state.n} conversations are less like what was learned than nearly all were"
            figures = {"alarm": state.alarm.value, "n": state.n, "far": state.far, "limit": state.limit}
            self._end(promotion, Cause.DRIFT, reason, figures)

    def _follow_tasks(self, active: str, followed: str | None) -> None:
        """Tasks that are no longer discovered, were split or merged, lose what was proved of them."""
        with self._database.read() as session:
            there = cluster_ids(session)
            newer = snapshots_since(session, followed) if followed is not None else []
            proved = {(row.cluster_id, row.model) for row in newest_certificates(session)}
            promotions = current_promotions(session)
            session.expunge_all()
        changed = {cluster_id for snapshot_id in newer for cluster_id in self._changed(snapshot_id)}
        for promotion in promotions:
            if promotion.cluster_id not in there:
                self._end(promotion, Cause.TASK_CHANGED, "the task is no longer discovered", {"snapshot": active})
            elif promotion.cluster_id in changed:
                reason = "the task was split, or merged with another"
                self._to_shadow(promotion, Cause.TASK_CHANGED, reason, {"snapshot": active})
        in_force = {(promotion.cluster_id, promotion.model) for promotion in promotions}
        with self._database.write() as session:
            for cluster_id, model in sorted(proved - in_force):
                if cluster_id in changed:
                    void_proof(session, cluster_id, model, ACTOR, Cause.TASK_CHANGED, {"snapshot": active})
            states.set_watched_snapshot(session, active)

    def _changed(self, snapshot_id: str) -> set[str]:
        """Tasks that did not just go on in a snapshot, and are no new ones."""
        try:
            lineage = Snapshot.load(self._artifacts.open(snapshot_id).files).lineage
        except (StorageError, SnapshotInvalid) as error:
            log.warning("snapshot.not_loaded", snapshot=snapshot_id, error=str(error))
            return set()
        return {change.cluster_id for change in lineage if change.cluster_id is not None and change.before}

    def _end(self, promotion: PromotionRow, cause: Cause, reason: str, figures: dict[str, Any]) -> None:
        """Demote; whoever did so in the meantime was right too."""
        try:
            demote_cluster(self._database, promotion.cluster_id, ACTOR, cause, reason, figures, promotion.promotion_id)
        except NoSuchThing:
            return
        log.warning("promotion.ended", cluster=promotion.cluster_id, model=promotion.model, cause=cause.value,
                    reason=reason)  # fmt: skip

    def _to_shadow(self, promotion: PromotionRow, cause: Cause, reason: str, figures: dict[str, Any]) -> None:
        try:
            return_to_shadow(
                self._database, promotion.cluster_id, ACTOR, cause, reason, figures, promotion.promotion_id
            )
        except NoSuchThing:
            return
        log.warning("promotion.returned_to_shadow", cluster=promotion.cluster_id, model=promotion.model,
                    cause=cause.value, reason=reason)  # fmt: skip

    # What is done

    def _step_on(self) -> None:
        """Do what the evidence allows, one step on each task at a time."""
        with self._database.read() as session:
            tasks = {row.cluster_id for row in newest_certificates(session)} & cluster_ids(session)
        for cluster_id in sorted(tasks):
            if time.monotonic() >= self._step_at.get(cluster_id, 0.0):
                self._guarded(cluster_id, self._step, cluster_id)

    def _step(self, cluster_id: str) -> None:
        with self._database.read() as session:
            seen = newest_move(session, cluster_id)  # first: what comes later makes the proposal void
            proposal = proposal_for(session, self._cipher, self._settings, cluster_id)
            current = next((row for row in current_promotions(session) if row.cluster_id == cluster_id), None)
        if proposal is None:
            return
        goes_on = current is not None and current.model == proposal.model
        slm, adapter = (current.slm, current.adapter) if current and goes_on else (None, None)
        self._step_at[cluster_id] = time.monotonic() + RETRY_SECONDS
        wish = Wish(proposal.model, proposal.stage, proposal.share, slm, adapter, reason=proposal.reason)
        promote_cluster(self._database, self._cipher, self._settings, cluster_id, wish, AUTOPILOT, Cause.EVIDENCE, seen)
        del self._step_at[cluster_id]
        log.info("promotion.made", cluster=cluster_id, model=proposal.model, stage=proposal.stage.value,
                 reason=proposal.reason)  # fmt: skip

    def _guarded(self, cluster_id: str, do: Callable[[_T], None], what: _T) -> None:
        """What goes wrong with one task stops none of the others."""
        try:
            do(what)
        except DatabaseDown:
            raise
        except (UnderstudyError, StorageError) as error:
            if self._log_now(cluster_id):
                log.warning("watch.failed", cluster=cluster_id, error=str(error))
        except Exception:
            if self._log_now(cluster_id):
                log.exception("watch.failed", cluster=cluster_id)
