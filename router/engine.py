"""Router.decide(): which upstream should answer a call, in microseconds, without I/O.

    a snapshot?  →  whose template is it?  →  does the caller hold it back?  →  may it be diverted at all?
        →  is an SLM promoted for the task, for this call's share, and not in doubt?  →  does it fit the SLM's context?
        →  is the payload like what the task has seen?  →  the SLM

Each step can only send the call to the LLM, and each failure does. A call's task is found even when nothing is
promoted, because the log and the metrics want to know.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b

from router.contract import contract_for
from router.decision import Decision, Reason
from router.encoder import CachedEncoder, Encoder
from router.features import CallFeatures
from router.payload import PayloadVerdict
from router.policy import exceeds_context, in_tool_loop_of_an_slm, never_diverted
from router.promotion import Promotion, Stage
from router.recognition import payload_segments, recognise
from router.snapshot import Snapshot

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOGS = 60.0
_CACHED_GLANCES = 4096


class Router:
    """Immutable; workers swap the whole object when a snapshot or a promotion changes."""

    def __init__(
        self, snapshot: Snapshot | None, promotions: Mapping[str, Promotion], encoder: Encoder | None = None
    ) -> None:
        """Take what is in force.

        Args:
            snapshot: None before anything was learned.
            promotions: by cluster id.
            encoder: the transformer, loaded, shared between routers. Where there is none, or not the one that the
                snapshot was learned with, unclear payloads are the LLM's.
        """
        self.snapshot = snapshot
        self.promotions = promotions
        usable = encoder is not None and snapshot is not None and encoder.name == snapshot.encoder
        self._encoder = CachedEncoder(encoder) if encoder is not None and usable else None
        self._cached_glance = lru_cache(_CACHED_GLANCES)(self._glance)
        self._log_again_at = 0.0

    def decide(
        self, features: CallFeatures, *, held: Reason | None = None, force: bool = False, session: str | None = None
    ) -> Decision:
        """Decide about one call. Never raises.

        Args:
            features: of the call.
            held: why the caller keeps the call at the LLM whatever the router finds (an override, a key's policy).
            force: an operator asks for the SLM (`x-understudy-route: slm`): stage, share, doubt and payload are not
                asked; what can never be diverted still isn't.
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

    def rehearse(self, features: CallFeatures) -> Decision:
        """Decide as if the task's SLM served it, whatever its stage and share, and in doubt too. Never raises.

        Not even a tool loop that the LLM began is held: there the SLM would have begun it. As with `decide`, not final
        where it has a `payload_text`.
        """
        if self.snapshot is None:
            return Decision(Reason.NO_SNAPSHOT)
        try:
            return self._decide(self.snapshot, features, None, force=False, session=None, rehearsed=True)
        except Exception:  # noqa: BLE001 - fails open, as `decide` does
            self._log_failure()
            return Decision(Reason.ROUTER_ERROR, snapshot_id=self.snapshot.snapshot_id)

    def settle(self, decision: Decision) -> Decision:
        """Ask the transformer about the payload of an unclear decision. Never raises.

        Takes milliseconds: call it in a thread.

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
        self,
        snapshot: Snapshot,
        features: CallFeatures,
        held: Reason | None,
        force: bool,
        session: str | None,
        rehearsed: bool = False,
    ) -> Decision:
        recognition = recognise(snapshot.profiles, features)
        task, score, snapshot_id = recognition.task, recognition.score, snapshot.snapshot_id
        if task is None:
            return Decision(held or Reason.UNKNOWN_TASK, snapshot_id=snapshot_id, score=score)
        cluster_id = snapshot.tasks[task][0]
        has_level = task in snapshot.payloads
        look: _Look | None = None
        if recognition.thin or len(snapshot.tasks[task]) > 1:  # the template alone does not say which task this is
            if not has_level:
                return Decision(held or Reason.UNKNOWN_TASK, snapshot_id=snapshot_id, score=score)
            look = self._look(snapshot, task, recognition.variant, features)
            cluster_id = look.verdict.cluster_id
            if look.verdict.fits is False:
                reason = held or Reason.PAYLOAD_OUT_OF_DISTRIBUTION
                return Decision(reason, snapshot_id=snapshot_id, score=score)
        promotion = self.promotions.get(cluster_id)
        never = never_diverted(features)
        if rehearsed and never is Reason.TOOL_LOOP_HELD:
            never = None
        reason_to_stay = held or never or self._not_served(promotion, features, force or rehearsed, session)
        if reason_to_stay is not None or promotion is None:
            return Decision(reason_to_stay or Reason.NOT_PROMOTED, None, None, cluster_id, snapshot_id, score)
        payload_text: str | None = None
        if has_level and not force:
            look = look or self._look(snapshot, task, recognition.variant, features)
            if look.verdict.fits is False:
                reason = Reason.PAYLOAD_OUT_OF_DISTRIBUTION
                return Decision(reason, None, None, cluster_id, snapshot_id, score)
            payload_text = look.text if look.verdict.fits is None else None
        contract = contract_for(snapshot.clusters[cluster_id].contract, features)
        reason = Reason.HEADER_OVERRIDE if force else Reason.MATCHED
        return Decision(reason, promotion, contract, cluster_id, snapshot_id, score, payload_text)

    def _not_served(
        self, promotion: Promotion | None, features: CallFeatures, force: bool, session: str | None
    ) -> Reason | None:
        """Why the task's SLM doesn't get this call, whatever its payload; None when it may."""
        if promotion is None:
            return Reason.NOT_PROMOTED
        if not force:
            if promotion.stage is Stage.SHADOW:
                return Reason.SHADOW_ONLY
            if promotion.stage not in (Stage.CANARY, Stage.LIVE):
                return Reason.NOT_PROMOTED
            if promotion.share < 1 and _place(promotion.cluster_id, features, session) >= promotion.share:
                return Reason.CANARY_HELD_BACK
            if promotion.in_doubt and not in_tool_loop_of_an_slm(features):
                return Reason.IN_DOUBT
        if exceeds_context(features, promotion.max_context_tokens):
            return Reason.CONTEXT_TOO_LONG
        return None

    def _look(self, snapshot: Snapshot, task: int, variant: int, features: CallFeatures) -> _Look:
        """What the static encoder says about the payload; agents repeat themselves, in retries and in histories."""
        text = payload_segments(snapshot.profiles, variant, features)
        return _Look(text, self._cached_glance(task, text))

    def _glance(self, task: int, text: str) -> PayloadVerdict:
        assert self.snapshot is not None
        model = self.snapshot.payloads[task]
        if not text.strip():
            return model.without_payload()
        assert self.snapshot.static is not None, "a snapshot with payload levels has a static encoder"
        return model.glance(self.snapshot.static.encode([text]))

    def _settle(self, snapshot: Snapshot, decision: Decision, text: str) -> Decision:
        assert decision.cluster_id is not None
        task = snapshot.task_of[decision.cluster_id]
        to_llm = replace(
            decision,
            reason=Reason.PAYLOAD_OUT_OF_DISTRIBUTION,
            promotion=None,
            contract=None,
            payload_text=None,
        )
        if self._encoder is None:
            return to_llm
        verdict = snapshot.payloads[task].examine(self._encoder.encode([text]))
        if verdict.cluster_id != decision.cluster_id:
            return replace(to_llm, cluster_id=verdict.cluster_id)
        return replace(decision, payload_text=None) if verdict.fits else to_llm

    def _log_failure(self) -> None:
        """At most once a minute: a broken snapshot would fail every call."""
        now = time.monotonic()
        if now >= self._log_again_at:
            self._log_again_at = now + _SECONDS_BETWEEN_LOGS
            log.exception("decision.failed")


@dataclass(frozen=True, slots=True)
class _Look:
    """A payload and what the static encoder says about it."""

    text: str
    verdict: PayloadVerdict


def _place(cluster_id: str, features: CallFeatures, session: str | None) -> float:
    """Where a call's conversation lies in [0, 1), fixed per task: a growing share keeps whom it already serves.

    The conversation is named by the client's session, else by the messages before the first answer, which agents send
    again with every turn.
    """
    digest = blake2b(cluster_id.encode(), digest_size=8)
    if session:
        digest.update(b"s" + session.encode("utf-8", "surrogatepass"))
    else:
        for place, message in enumerate(features.messages):
            if place and message.role == "assistant":
                break
            digest.update(b"m" + message.text.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()) / 2**64
