"""Router.decide(): which upstream should answer a call, in microseconds, without I/O.

    held by the caller?  →  a snapshot?  →  whose template is it?  →  may it be diverted at all?
        →  is an SLM promoted for the task, and for this call's share?  →  does it fit the SLM's context?
        →  is the payload like what the task has seen?  →  the SLM

Each step can only send the call to the LLM, and each failure does. A call's task is found even when nothing is promoted,
because the log and the metrics want to know.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from router.contract import contract_for
from router.decision import Decision, Reason
from router.encoder import CachedEncoder, Encoder
from router.features import CallFeatures
from router.payload import PayloadModel, PayloadVerdict
from router.policy import exceeds_context, never_diverted
from router.promotion import Promotion, Stage
from router.recognition import Recognition, payload_segments, recognise
from router.snapshot import Cluster, Snapshot

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOGS = 60.0


class Router:
    """Immutable; workers swap the whole object when a snapshot or a promotion changes."""

    def __init__(
        self, snapshot: Snapshot | None, promotions: Mapping[str, Promotion], encoder: Encoder | None = None
    ) -> None:
        """Take what is in force.

        Args:
            snapshot: None before anything was learned.
            promotions: by cluster id.
            encoder: the transformer that `snapshot.encoder` names, shared between routers; None where there is none:
                then unclear payloads are the LLM's.
        """
        self.snapshot = snapshot
        self.promotions = promotions
        self._encoder = encoder
        self._static = CachedEncoder(snapshot.static) if snapshot and snapshot.static else None
        self._log_again_at = 0.0
        # One task per skeleton is the rule; which skeletons have something promoted is known beforehand.
        self._split_tasks = (
            frozenset(task for task, ids in enumerate(snapshot.tasks) if len(ids) > 1) if snapshot else ()
        )

    def decide(
        self, features: CallFeatures, *, held: Reason | None = None, force: bool = False, session: str | None = None
    ) -> Decision:
        """Decide about one call. Never raises.

        Args:
            features: of the call.
            held: why the caller keeps the call at the LLM whatever the router finds (an override, a key's policy).
            force: an operator asks for the SLM (`x-understudy-route: slm`): stage, share and payload are not asked;
                what can never be diverted still isn't.
            session: the client's own name for the conversation; canary calls of one session go one way.

        Returns:
            The decision. When its `payload_text` is set it is not final: see `settle`.
        """
        if self.snapshot is None:
            return Decision(held or Reason.NO_SNAPSHOT)
        try:
            return self._decide(self.snapshot, features, held, force, session)
        except Exception:  # noqa: BLE001 - fails open: whatever is wrong here, the LLM can answer
            self._log_failure()
            return Decision(Reason.ROUTER_ERROR, snapshot_id=self.snapshot.snapshot_id)

    def settle(self, decision: Decision) -> Decision:
        """Ask the transformer about the payload of an unclear decision. Takes milliseconds, and seconds the first time:
        call it in a thread. Never raises.

        Returns:
            A final decision; one that was final already comes back as it is.
        """
        if decision.payload_text is None or self.snapshot is None:
            return decision
        try:
            return self._settle(self.snapshot, decision, decision.payload_text)
        except Exception:  # noqa: BLE001 - fails open, as `decide` does
            self._log_failure()
            return replace(decision, reason=Reason.ROUTER_ERROR, promotion=None, contract=None, payload_text=None)

    def _decide(
        self, snapshot: Snapshot, features: CallFeatures, held: Reason | None, force: bool, session: str | None
    ) -> Decision:
        recognition = recognise(snapshot.profiles, features)
        if recognition.task is None:
            return Decision(held or Reason.UNKNOWN_TASK, snapshot_id=snapshot.snapshot_id, score=recognition.score)
        model = snapshot.payloads.get(recognition.task)
        text: str | None = None
        verdict: PayloadVerdict | None = None
        cluster_id = snapshot.tasks[recognition.task][0]
        if recognition.task in self._split_tasks:
            if model is None:
                return self._undecided(snapshot, recognition, held or Reason.UNKNOWN_TASK)
            text = payload_segments(snapshot.profiles, recognition.variant, features)
            verdict = self._glance(model, text)
            cluster_id = verdict.cluster_id
            if not any(each in self.promotions for each in model.clusters):
                known = verdict.fits is not False
                reason = held or (Reason.NOT_PROMOTED if known else Reason.PAYLOAD_OUT_OF_DISTRIBUTION)
                return replace(self._undecided(snapshot, recognition, reason), cluster_id=cluster_id if known else None)
        to_llm = Decision(Reason.NOT_PROMOTED, None, None, cluster_id, snapshot.snapshot_id, recognition.score)
        reason = held or never_diverted(features)
        if reason is not None:
            return replace(to_llm, reason=reason)
        candidate = self.promotions.get(cluster_id)
        if candidate is None and (verdict is None or verdict.fits is not None):
            return to_llm
        if verdict is not None and verdict.fits is None:
            # Which task it is depends on the payload: the stage can only be asked about when that is settled.
            return replace(self._unclear(features, to_llm, force, session), payload_text=text)
        assert candidate is not None
        reason = _stage_reason(candidate, features, force, session)
        if reason is not None:
            return replace(to_llm, reason=reason)
        if exceeds_context(features, candidate.max_context_tokens):
            return replace(to_llm, reason=Reason.CONTEXT_TOO_LONG)
        to_slm = replace(
            to_llm,
            reason=Reason.HEADER_OVERRIDE if force else Reason.MATCHED,
            promotion=candidate,
            contract=contract_for(snapshot.clusters[cluster_id].contract, features),
        )
        if model is None or force:
            return to_slm
        if verdict is None:
            text = payload_segments(snapshot.profiles, recognition.variant, features)
            verdict = self._glance(model, text)
        if verdict.fits is None:
            return replace(to_slm, payload_text=text)
        return to_slm if verdict.fits else replace(to_llm, reason=Reason.PAYLOAD_OUT_OF_DISTRIBUTION)

    def _log_failure(self) -> None:
        """At most once a minute: a broken snapshot would fail every call."""
        now = time.monotonic()
        if now >= self._log_again_at:
            self._log_again_at = now + _SECONDS_BETWEEN_LOGS
            log.exception("decision.failed")
