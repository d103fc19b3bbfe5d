"""Promoting and demoting: one code path for the admin API and the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from proxy.errors import BadRequest, Conflict, NoSuchThing
from proxy.promotion.audit_share import audit_share, full_share, has_audits
from proxy.promotion.proof import Proof, proof_of, subject_today, whereabouts
from proxy.settings import Settings
from proxy.slm.kept_adapters import restore_adapter
from proxy.slm.vllm import VllmServer
from router.promotion import Cause, Promotion, Stage, needs_certificate, refusal
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database, ReadSession, WriteSession
from storage.errors import NotFound
from storage.models import PromotionRow, StageMoveRow
from storage.repositories import promotions as rows
from storage.repositories.clusters import check_cluster, get_cluster
from storage.repositories.moves import add_move, last_move, newest_move
from storage.repositories.registry import audit, get_model
from storage.repositories.state import lock_serving
from storage.repositories.watches import is_doubted

PROMOTABLE = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for.

    Attributes:
        share: of the calls that a canary serves, in (0, 1]; means nothing at the other stages.
        slm: server name; may be left out where there is one server only, or the model is registered.
        adapter: path as the SLM server sees it; may be left out for a registered model.
        force: go without a valid certificate; needs `reason`.
        audit_share: of the served calls that the LLM answers too, in [0, 1]; 0 forbids audits, and with them doubt.
            None: `UNDERSTUDY_AUDIT_SHARE`, and more on a thin certificate.
    """

    model: str
    stage: Stage
    share: float | None = None
    slm: str | None = None
    adapter: str | None = None
    force: bool = False
    reason: str | None = None
    audit_share: float | None = None


def promotion_of(row: PromotionRow) -> Promotion:
    """A row as the router needs it."""
    return Promotion(
        cluster_id=row.cluster_id,
        model=row.model,
        stage=Stage(row.stage),
        share=row.share,
        slm=row.slm,
        adapter=row.adapter,
        max_context_tokens=row.max_context_tokens,
        version=row.promotion_id,
        min_confidence=row.min_confidence,
        audit_share=row.audit_share,
        in_doubt=row.in_doubt,
    )


def in_force(session: ReadSession) -> dict[str, Promotion]:
    """The promotions in force, by cluster id. What a worker serves by follows within seconds."""
    return {row.cluster_id: promotion_of(row) for row in rows.current_promotions(session)}


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a wish comes to, once nothing stands against it."""

    share: float
    slm: str
    adapter: str | None
    proof: Proof


def promote_cluster(
    database: Database,
    cipher: Cipher,
    settings: Settings,
    cluster_id: str,
    wish: Wish,
    actor: str,
    cause: Cause = Cause.ASKED,
    after_move: int | None = None,
) -> Promotion:
    """Put an SLM in force for a cluster, its adapter restored if need be, loaded and checked.

    A retired SLM becomes a candidate again by this; the one that was in force until now is retired.

    Args:
        cause: why, unless it is forced.
        after_move: id of the newest move on the cluster that the wish rests on; None: it rests on none.

    Raises:
        NoSuchThing: no such cluster, or no such SLM server.
        BadRequest: a share out of range, `force` without a reason, a stage that can't be promoted to.
        Conflict: no valid certificate and no `force`; the SLM server can't be reached; the adapter can't be
            restored; or somebody made a move after `after_move`.
        Unprocessable: the server does not have the model.
        DatabaseDown: nothing was changed.
    """
    with database.read() as session:
        granted = _grant(session, cipher, settings, cluster_id, wish)
        known = get_model(session, wish.model)
    restore_adapter(settings, ArtifactStore(settings.artifacts_dir, cipher), known, granted.adapter)
    served = VllmServer(granted.slm, settings.slm_url[granted.slm], settings.slm_api_key).ensure_served(
        wish.model, granted.adapter
    )
    with database.write() as session:
        lock_serving(session)
        there = replace(wish, slm=granted.slm, adapter=granted.adapter)
        granted = _grant(session, cipher, settings, cluster_id, there)  # again: loading an adapter takes a while
        if after_move is not None and newest_move(session, cluster_id) != after_move:
            raise Conflict(f"somebody moved an SLM on {cluster_id} meanwhile; that stands")
        is_forced = wish.force and bool(granted.proof.missing)  # with proof, it stands and falls with that
        cause = Cause.FORCED if is_forced else cause
        step = _Step(session, cluster_id, wish.model, actor)
        before = rows.current_promotion(session, cluster_id)
        if before is not None and before.model != wish.model:
            replaced = _Step(session, cluster_id, before.model, actor)
            replaced.to(Stage.RETIRED, Cause.REPLACED, f"{wish.model} took its place")
        if step.stage is Stage.RETIRED:
            step.to(Stage.CANDIDATE, cause, wish.reason)
        step.to(wish.stage, cause, wish.reason, granted.proof.figures() | {"share": granted.share})
        task = get_cluster(session, cipher, cluster_id)
        full = full_share(task.calls, task.conversations)
        proved = granted.proof.certificate if needs_certificate(wish.stage) and not granted.proof.missing else None
        row = rows.promote(
            session,
            PromotionRow(
                cluster_id=cluster_id,
                model=wish.model,
                stage=wish.stage.value,
                share=granted.share,
                slm=granted.slm,
                adapter=granted.adapter,
                max_context_tokens=served.max_context_tokens,
                forced=is_forced,
                reason=wish.reason,
                actor=actor,
                created_at=datetime.now(UTC),
                certificate_id=None if granted.proof.missing else granted.proof.certificate_id,
                min_confidence=granted.proof.min_confidence,
                audit_share=audit_share(wish.audit_share, settings.audit_share, full, proved.n if proved else None),
                asked_audit_share=wish.audit_share,
            ),
        )
        row.in_doubt = needs_certificate(wish.stage) and has_audits(settings, row) and is_doubted(session, row)
        audit(
            session, actor, "promotion.made", cluster_id, model=wish.model, stage=wish.stage.value,
            share=granted.share, slm=granted.slm, forced=is_forced, reason=wish.reason,
            certificate=row.certificate_id,
        )  # fmt: skip
        return promotion_of(row)


def demote_cluster(
    database: Database,
    cluster_id: str,
    actor: str,
    cause: Cause = Cause.ASKED,
    reason: str | None = None,
    figures: dict[str, Any] | None = None,
    version: int | None = None,
) -> Promotion:
    """Give a cluster back to the LLM.

    Args:
        cause: a broken bound, drift or another task under the same id also void what was proved of the SLM before.
        reason: in words.
        figures: what was known, by name.
        version: of the promotion that is meant; whichever is in force when None.

    Raises:
        NoSuchThing: it has no promotion (of that version any more), or there is no such cluster.
        DatabaseDown: nothing was changed.
    """
    with database.write() as session:
        lock_serving(session)
        current = _current(session, cluster_id, version)
        if current is not None:
            _Step(session, cluster_id, current.model, actor).to(Stage.RETIRED, cause, reason, figures)
        try:
            try:
                row = rows.demote(session, cluster_id, actor)
            except NotFound:
                check_cluster(session, cluster_id)  # one that is no longer discovered may have a promotion all the same
                raise
        except NotFound as error:
            raise NoSuchThing(str(error)) from error
        audit(
            session, actor, "promotion.ended", cluster_id,
            model=row.model, stage=row.stage, cause=cause.value, reason=reason,
        )  # fmt: skip
        return promotion_of(row)


def return_to_shadow(
    database: Database,
    cluster_id: str,
    actor: str,
    cause: Cause,
    reason: str,
    figures: dict[str, Any],
    version: int | None = None,
) -> Promotion:
    """Let the LLM answer a cluster's calls again, and the SLM go on in its shadow. Asks nothing of the SLM's server.

    Args:
        cause, reason, figures, version: as for `demote_cluster`.

    Raises:
        NoSuchThing: it has no promotion, or not of that version any more.
        DatabaseDown: nothing was changed.
    """
    with database.write() as session:
        lock_serving(session)
        current = _current(session, cluster_id, version)
        if current is None:
            raise NoSuchThing(f"cluster {cluster_id} has no current promotion")
        _Step(session, cluster_id, current.model, actor).to(Stage.SHADOW, cause, reason, figures)
        kept = {name: getattr(current, name) for name in ("model", "slm", "adapter", "max_context_tokens", "forced")}
        shadow = PromotionRow(
            cluster_id=cluster_id,
            stage=Stage.SHADOW.value,
            share=0.0,
            reason=reason,
            actor=actor,
            created_at=datetime.now(UTC),
            **kept,
        )
        audit(session, actor, "promotion.returned_to_shadow", cluster_id, model=current.model, cause=cause.value,
              reason=reason)  # fmt: skip
        return promotion_of(rows.promote(session, shadow))


def void_proof(
    session: WriteSession, cluster_id: str, model: str, actor: str, cause: Cause, figures: dict[str, Any]
) -> None:
    """Have nothing count that was proved so far of an SLM that is not in force.

    Args:
        cause: one that voids certificates. It is a move's: who was retired becomes a candidate by it, others retire.
    """
    step = _Step(session, cluster_id, model, actor)
    wanted = Stage.CANDIDATE if step.stage is Stage.RETIRED else Stage.RETIRED
    step.to(wanted, cause, "what was proved of it no longer counts", figures)


def _current(session: WriteSession, cluster_id: str, version: int | None) -> PromotionRow | None:
    """The promotion in force, if any.

    Raises:
        NoSuchThing: it is another than the one that is meant, or none.
    """
    current = rows.current_promotion(session, cluster_id)
    if version is not None and (current is None or current.promotion_id != version):
        raise NoSuchThing(f"promotion {version} of cluster {cluster_id} is no longer in force")
    return current


class _Step:
    """An SLM on a cluster, about to move."""

    def __init__(self, session: WriteSession, cluster_id: str, model: str, actor: str) -> None:
        self._session, self._cluster_id, self._model, self._actor = session, cluster_id, model, actor
        self.stage = stage_of(session, cluster_id, model)

    def to(self, wanted: Stage, cause: Cause, reason: str | None = None, figures: dict[str, Any] | None = None) -> None:
        """Move, and write it down.

        Raises:
            Conflict: there is no such move.
        """
        refused = refusal(self.stage, wanted)
        if refused is not None:
            raise Conflict(f"{self._model!r} on {self._cluster_id}: {refused}")
        add_move(
            self._session,
            StageMoveRow(
                cluster_id=self._cluster_id,
                model=self._model,
                from_stage=self.stage.value,
                to_stage=wanted.value,
                at=datetime.now(UTC),
                actor=self._actor,
                cause=cause.value,
                reason=reason,
                figures=figures or {},
            ),
        )
        self.stage = wanted


def stage_of(session: ReadSession, cluster_id: str, model: str) -> Stage:
    """How far an SLM has come on a cluster; whoever never moved is a candidate."""
    current = rows.current_promotion(session, cluster_id)
    if current is not None and current.model == model:
        return Stage(current.stage)
    last = last_move(session, cluster_id, model)
    return Stage(last.to_stage) if last else Stage.CANDIDATE


def _grant(session: ReadSession, cipher: Cipher, settings: Settings, cluster_id: str, wish: Wish) -> _Grant:
    """See that nothing stands against a wish."""
    try:
        check_cluster(session, cluster_id)
    except NotFound as error:
        raise NoSuchThing(str(error)) from error
    share = _share(wish)
    known = get_model(session, wish.model)
    slm, adapter = whereabouts(settings, known, wish.slm, wish.adapter)
    subject = subject_today(session, cipher, cluster_id, wish.model, slm, adapter)
    proof = proof_of(session, settings, subject)
    if needs_certificate(wish.stage) and proof.missing and not wish.force:
        raise Conflict(_unproved(wish.model, settings, proof))
    return _Grant(share, checked_server(settings, slm), adapter, proof)


def _unproved(model: str, settings: Settings, proof: Proof) -> str:
    known = proof.certificate is not None
    figures = (
        "; ".join(f"{name}: {what}" for name, what in proof.missing.items()) if known else ", ".join(proof.missing)
    )
    return (
        f"no {'valid ' if known else ''}certificate says that {model!r} agrees with the LLM on this task within risk "
        f"{settings.risk} at confidence {settings.confidence}; missing figures: {figures}. "
        "`force` with a reason goes without"
    )


def _share(wish: Wish) -> float:
    """The share of the calls that it is about; sees that the wish can be granted at all."""
    if wish.stage not in PROMOTABLE:
        raise BadRequest(f"stage {wish.stage.value!r} can't be promoted to; use shadow, canary or live")
    if wish.share is not None and not 0 < wish.share <= 1:
        raise BadRequest(f"share {wish.share} is not above 0 and at most 1")
    share = {Stage.SHADOW: 0.0, Stage.LIVE: 1.0}.get(wish.stage, 0.1 if wish.share is None else wish.share)
    if wish.force and not (wish.reason or "").strip():
        raise BadRequest("force needs a reason: it is written into the audit trail")
    return share


def checked_server(settings: Settings, slm: str | None) -> str:
    """The SLM server that is meant.

    Raises:
        Conflict, BadRequest, NoSuchThing: there is none, several, or none of that name.
    """
    if slm is None:
        if not settings.slm_url:
            raise Conflict("no SLM server is configured: set UNDERSTUDY_SLM_URL=name=http://host:port/v1")
        raise BadRequest(f"which SLM server? give `slm`, one of {', '.join(settings.slm_url)}")
    if slm not in settings.slm_url:
        raise NoSuchThing(f"there is no SLM server {slm!r}; UNDERSTUDY_SLM_URL names {', '.join(settings.slm_url)}")
    return slm
