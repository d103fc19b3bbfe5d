"""Held-out calls played to a served SLM: asked, and its answers taken or refused, by production's own code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan

from proxy.errors import Conflict
from proxy.metrics import Metrics
from proxy.money.pricing import SlmPrices
from proxy.proving.comparison import Comparison
from proxy.settings import Settings
from proxy.slm.attempts import Declined, Served
from proxy.slm.client import SlmClient
from proxy.transport.upstreams import open_session
from proxy.wire.answer import read_answer
from proxy.wire.endpoint import Endpoint
from proxy.wire.usage import Usage, read_usage
from router.contract import OutputContract, contract_for
from router.decision import Decision, Reason
from router.learning import corpus
from router.learning.corpus import LoggedCall
from router.learning.curation.division import Assigned
from router.learning.proof.agreement import Outcome, Verdict
from router.learning.proof.evidence import Evidence
from router.policy import exceeds_context, never_diverted
from router.promotion import Promotion

#: As many as keep a batching server busy.
CALLS_AT_ONCE = 8
#: A server that is restarted may be back.
SECOND_TRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Played:
    """What an SLM made of a held-out call.

    Attributes:
        confidence: not a number where the answer would not have been served.
        verdict: None there.
        usd: what the SLM's tokens cost.
    """

    conversation: str
    confidence: float
    verdict: Verdict | None
    usd: float = 0.0


def evidence_of(played: Sequence[Played]) -> Evidence:
    """Calls as the proof takes them; what was not served can neither agree nor disagree."""
    unserved = Verdict(Outcome.AGREE, "not served")
    return Evidence.of_verdicts(
        [each.confidence for each in played],
        [each.verdict or unserved for each in played],
        [each.conversation for each in played],
    )


class Rehearsal:
    """Plays calls of one task to one SLM."""

    def __init__(
        self,
        settings: Settings,
        promotion: Promotion,
        contract: OutputContract,
        comparison: Comparison,
        progress: Callable[[str], None],
    ) -> None:
        """
        Args:
            promotion: as it would be, at its server and with its adapter; no confidence is asked for yet.
            progress: told `replaying: how far`.
        """
        self._settings = settings.model_copy(update={"slm_min_confidence": 0.0})
        self._prices = SlmPrices(
            settings.slm_input_usd_per_million_tokens / 1e6, settings.slm_output_usd_per_million_tokens / 1e6
        )
        self._promotion = promotion
        self._contract = contract
        self._comparison = comparison
        self._progress = progress

    async def play(self, calls: Sequence[Assigned]) -> list[Played]:
        """Ask the SLM all of them, some at a time, and compare.

        Raises:
            Conflict: the SLM's server can't be reached, or stops answering.
            OSError: the encoder that texts are compared by is not to be had.
        """
        slots = asyncio.Semaphore(CALLS_AT_ONCE)
        done = 0

        async def one(each: Assigned, slm: SlmClient) -> Played:
            nonlocal done
            async with slots:
                played = await self._played(each, slm)
            done += 1
            self._progress(f"replaying: {done / len(calls):.0%}")
            return played

        async with open_session(self._settings) as session:
            slm = SlmClient(session, self._settings, Metrics())
            tasks = [asyncio.create_task(one(each, slm)) for each in calls]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def _played(self, each: Assigned, slm: SlmClient) -> Played:
        call, features = each.call, each.call.features
        if never_diverted(features) or exceeds_context(features, self._promotion.max_context_tokens):
            return Played(each.conversation, nan, None)
        outcome = await self._asked(call, slm)
        if isinstance(outcome, Declined):
            return Played(each.conversation, nan, None)
        assert isinstance(outcome.body, bytes)
        said = read_answer(features.endpoint, outcome.body, outcome.content_type.decode())
        answer = corpus.read_answer(features.endpoint, said) if said is not None else None
        compare = self._comparison.compare  # an encoder takes its time
        verdict = await asyncio.to_thread(compare, features, call.answer, answer)
        usd = self._prices.price((read_usage(said) if said else None) or Usage())
        confidence = nan if outcome.confidence is None else outcome.confidence
        return Played(each.conversation, confidence, verdict, usd)

    async def _asked(self, call: LoggedCall, slm: SlmClient) -> Served | Declined:
        """One call, and once more where nobody answered at all.

        Raises:
            Conflict: nobody did then either.
        """
        features = call.features
        decision = Decision(
            Reason.MATCHED, self._promotion, contract_for(self._contract, features), self._promotion.cluster_id
        )

        async def ask() -> Served | Declined:
            deadline = asyncio.get_running_loop().time() + self._settings.total_timeout_seconds
            return await slm.attempt(Endpoint(features.endpoint), dict(features.body), features, decision, deadline)

        outcome = await ask()
        if isinstance(outcome, Declined) and _is_nobody(outcome):
            await asyncio.sleep(SECOND_TRY_SECONDS)
            outcome = await ask()
        if isinstance(outcome, Declined) and _is_nobody(outcome):
            where = self._settings.slm_url[self._promotion.slm]
            raise Conflict(
                f"the SLM server {self._promotion.slm!r} at {where} stopped answering ({outcome.reason.value}); "
                "nothing was certified"
            )
        return outcome


def _is_nobody(outcome: Declined) -> bool:
    """Whether the server is away: an answer that is wrong or late is the model's own."""
    if outcome.reason is Reason.SLM_UNAVAILABLE:
        return True
    return outcome.reason is Reason.SLM_ERROR and (outcome.attempt.status or 599) >= 500
