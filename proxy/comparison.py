"""Answers compared as a task's contract asks: for held-out calls, for shadow and audit copies."""

from __future__ import annotations

from proxy.errors import Conflict
from proxy.settings import Settings
from router.contract import Answer, ContractKind, OutputContract, contract_for
from router.encoder import CachedEncoder, Encoder, TransformerEncoder
from router.features import CallFeatures
from router.learning.proof.agreement import Comparator, Outcome, Verdict, comparator_for
from router.learning.proof.standard import Standard
from router.learning.proof.text import EmbeddedText

#: From this cosine on, two sentences count as close: paraphrases mostly are, and so are some opposites (an embedding
#: can't tell "enable" from "disable"). Nobody measured the error on the task: the certificate says what it compared by.
LEAST_COSINE = 0.8


def encoder_of(settings: Settings) -> Encoder | None:
    """What free text is compared by; nothing is loaded before two texts have to be. None where there is none."""
    return CachedEncoder(TransformerEncoder(settings.encoder)) if settings.encoder else None


def standard_of(settings: Settings) -> Standard:
    """What has to be proved, by the settings."""
    return Standard(settings.risk, round(1 - settings.confidence, 12))


class Comparison:
    """A task's comparator."""

    def __init__(self, contract: OutputContract, encoder: Encoder | None) -> None:
        """
        Args:
            contract: the task's.
            encoder: for free text.
        """
        self._contract = contract
        self._text: Comparator = EmbeddedText(encoder, LEAST_COSINE) if encoder else _NoEncoder()
        self.of_task = comparator_for(contract, self._text)

    @property
    def is_possible(self) -> bool:
        """Whether there is anything to compare by: free text needs an encoder."""
        return self._contract.kind is not ContractKind.TEXT or not isinstance(self._text, _NoEncoder)

    def check_possible(self, cluster_id: str) -> None:
        """See that there is something to compare by.

        Raises:
            Conflict
        """
        if not self.is_possible:
            raise Conflict(
                f"cluster {cluster_id} answers in free text, which is compared by UNDERSTUDY_ENCODER: set it"
            )

    def compare(self, call: CallFeatures, reference: Answer | None, answer: Answer | None) -> Verdict:
        """Compare the SLM's answer with the LLM's; the call's own schemas count.

        Args:
            reference: the LLM's; None where it has no whole one.
            answer: the SLM's; None where it has no whole one.

        Raises:
            OSError: the encoder is not to be had.
        """
        if reference is None:
            return Verdict(Outcome.INCOMPARABLE, "the LLM gave no whole answer")
        if answer is None:
            return Verdict(Outcome.DISAGREE, "the SLM gave no whole answer")
        return comparator_for(contract_for(self._contract, call), self._text).compare(reference, answer)


class _NoEncoder:
    """Compares no texts, unless they are equal."""

    name = "text: equal"

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        if reference.text.split() == answer.text.split():
            return Verdict(Outcome.AGREE, "texts equal")
        return Verdict(Outcome.INCOMPARABLE, "UNDERSTUDY_ENCODER is empty: no encoder to compare texts with")
