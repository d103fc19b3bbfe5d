"""Promoting and demoting: one code path for the admin API and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy.errors import BadRequest, Conflict, NoSuchThing
from proxy.settings import Settings
from proxy.vllm import VllmServer
from router.promotion import Promotion, Stage
from storage.database import Database, ReadSession
from storage.errors import NotFound
from storage.models import PromotionRow
from storage.repositories import promotions as rows
from storage.repositories.clusters import check_cluster
from storage.repositories.registry import audit, get_model

PROMOTABLE = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for.

    Attributes:
        share: of the calls that a canary serves, in (0, 1]; means nothing at the other stages.
        slm: server name; may be left out where there is one server only, or the model is registered.
        adapter: path as the SLM server sees it; may be left out for a registered model.
        force: go without a certificate; needs `reason`.
    """

    model: str
    stage: Stage
    share: float | None = None
    slm: str | None = None
    adapter: str | None = None
    force: bool = False
    reason: str | None = None


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
    )


def in_force(session: ReadSession) -> dict[str, Promotion]:
    """The promotions in force, by cluster id. What a worker serves by follows within seconds."""
    return {row.cluster_id: promotion_of(row) for row in rows.current_promotions(session)}


def missing_proof(settings: Settings) -> dict[str, Any]:
    """The figures that a promotion to `canary` or `live` lacks: there are no certificates yet."""
    return {
        "certificate": None,
        "missing": ["n", "failures", "disagreement_bound", "comparator", "data_hash"],
        "required": {"risk": settings.risk, "confidence": settings.confidence},
    }


def promote_cluster(database: Database, settings: Settings, cluster_id: str, wish: Wish, actor: str) -> Promotion:
    """Put an SLM in force for a cluster, its adapter loaded and checked.

    Raises:
        NoSuchThing: no such cluster, or no such SLM server.
        BadRequest: a share out of range, `force` without a reason, a stage that can't be promoted to.
        Conflict: no certificate and no `force`; or the SLM server can't be reached.
        Unprocessable: the server does not have the model.
        DatabaseDown: nothing was changed.
    """
    with database.read() as session:
        try:
            check_cluster(session, cluster_id)
        except NotFound as error:
            raise NoSuchThing(str(error)) from error
        share = _check(wish, settings)
        slm, adapter = _server_and_adapter(session, settings, wish)
    served = VllmServer(slm, settings.slm_url[slm], settings.slm_api_key).ensure_served(wish.model, adapter)
    with database.write() as session:
        row = rows.promote(
            session,
            PromotionRow(
                cluster_id=cluster_id,
                model=wish.model,
                stage=wish.stage.value,
                share=share,
                slm=slm,
                adapter=adapter,
                max_context_tokens=served.max_context_tokens,
                forced=wish.force,
                reason=wish.reason,
                actor=actor,
                created_at=datetime.now(UTC),
            ),
        )
        audit(
            session, actor, "promotion.made", cluster_id,
            model=wish.model, stage=wish.stage.value, share=share, slm=slm, forced=wish.force, reason=wish.reason,
        )  # fmt: skip
        return promotion_of(row)


def demote_cluster(database: Database, cluster_id: str, actor: str) -> Promotion:
    """Give a cluster back to the LLM.

    Raises:
        NoSuchThing: it has no promotion, or there is no such cluster.
        DatabaseDown: nothing was changed.
    """
    with database.write() as session:
        try:
            try:
                row = rows.demote(session, cluster_id, actor)
            except NotFound:
                check_cluster(session, cluster_id)  # one that is no longer discovered may have a promotion all the same
                raise
        except NotFound as error:
            raise NoSuchThing(str(error)) from error
        audit(session, actor, "promotion.ended", cluster_id, model=row.model, stage=row.stage)
        return promotion_of(row)


def _check(wish: Wish, settings: Settings) -> float:
    """See that the wish can be granted at all; returns the share."""
    if wish.stage not in PROMOTABLE:
        raise BadRequest(f"stage {wish.stage.value!r} can't be promoted to; use shadow, canary or live")
    if wish.share is not None and not 0 < wish.share <= 1:
        raise BadRequest(f"share {wish.share} is not above 0 and at most 1")
    share = {Stage.SHADOW: 0.0, Stage.LIVE: 1.0}.get(wish.stage, 0.1 if wish.share is None else wish.share)
    if wish.force and not (wish.reason or "").strip():
        raise BadRequest("force needs a reason: it is written into the audit trail")
    if wish.stage is not Stage.SHADOW and not wish.force:
        lacks = ", ".join(missing_proof(settings)["missing"])
        raise Conflict(
            f"no certificate says that {wish.model!r} agrees with the LLM on this task within risk {settings.risk} at "
            f"confidence {settings.confidence}; missing figures: {lacks}. `force` with a reason goes without"
        )
    return share


def _server_and_adapter(session: ReadSession, settings: Settings, wish: Wish) -> tuple[str, str | None]:
    known = get_model(session, wish.model)
    slm = wish.slm or (known.slm if known else None)
    if slm is None:
        if not settings.slm_url:
            raise Conflict("no SLM server is configured: set UNDERSTUDY_SLM_URL=name=http://host:port/v1")
        if len(settings.slm_url) > 1:
            raise BadRequest(f"which SLM server? give `slm`, one of {', '.join(settings.slm_url)}")
        slm = next(iter(settings.slm_url))
    if slm not in settings.slm_url:
        raise NoSuchThing(f"there is no SLM server {slm!r}; UNDERSTUDY_SLM_URL names {', '.join(settings.slm_url)}")
    return slm, wish.adapter or (known.adapter if known else None)
