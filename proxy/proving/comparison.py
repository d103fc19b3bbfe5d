"""Answers compared as a task's contract asks: for held-out calls, for shadow and audit copies."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from proxy.errors import Conflict
from proxy.proving.text_judge import LlmJudge
from proxy.settings import Settings
from router.certificate import JudgeError
from router.contract import Answer, ContractKind, OutputContract, contract_for
from router.encoder import CachedEncoder, Encoder, TransformerEncoder
from router.features import CallFeatures
from router.learning.proof.agreement import Comparator, Outcome, Verdict, comparator_for
from router.learning.proof.judge import LEAST_PAIRS, UNMEASURED, measure_worst
from router.learning.proof.known_pairs import known_pairs
from router.learning.proof.standard import Standard
from router.learning.proof.text import EmbeddedText, JudgedText

#: From this cosine on, two sentences count as close: paraphrases mostly are, and so are some opposites (an embedding
#: can't tell "enable" from "disable"). How often it errs on a task is measured there.
LEAST_COSINE = 0.8
#: Answers that a comparator's error is measured on: up to six pairs each, so about a thousand requests of a judge.
MOST_MEASURED = 100
PAIRS_AT_ONCE = 8


def encoder_of(settings: Settings) -> Encoder | None:
    """What free text is compared by; nothing is loaded before two texts have to be. None where there is none."""
    return CachedEncoder(TransformerEncoder(settings.encoder)) if settings.encoder else None


def standard_of(settings: Settings) -> Standard:
    """What has to be proved, by the settings."""
    return Standard(settings.risk, round(1 - settings.confidence, 12))


class Comparison:
    """A task's comparator."""

    def __init__(self, contract: OutputContract, encoder: Encoder | None, judge: LlmJudge | None = None) -> None:
        """
        Args:
            contract: the task's.
            encoder: for free text.
            judge: instead of closeness.
        """
        self._contract = contract
        self._encoder = encoder
        self._text: Comparator
        if judge is not None:
            self._text = JudgedText(judge.name, judge.says)
        else:
            self._text = EmbeddedText(encoder, LEAST_COSINE) if encoder else _NoEncoder()
        self.of_task = comparator_for(contract, self._text)

    @property
    def errs(self) -> bool:
        """Whether its verdicts are opinions: those on free text."""
        return self._contract.kind is ContractKind.TEXT

    def error(self, answers: Sequence[Answer], delta: float) -> JudgeError:
        """Measure how often it errs on a task: `router.learning.proof.known_pairs`.

        Args:
            answers: the LLM's, one of each conversation; the last hundred that are texts are taken.
            delta: as in `measure_worst`.

        Raises:
            OSError: the encoder is not to be had.
        """
        texts = [answer.text for answer in answers if answer.text.strip() and not answer.tool_calls][-MOST_MEASURED:]
        if len(texts) < LEAST_PAIRS:
            return UNMEASURED
        vectors = self._encoder.encode(texts) if self._encoder else _word_vectors(texts)
        with ThreadPoolExecutor(PAIRS_AT_ONCE) as pool:
            return measure_worst(self._text, known_pairs(texts, vectors), delta, pool.map)

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
                f"cluster {cluster_id} answers in free text, which is compared by UNDERSTUDY_ENCODER or "
                "UNDERSTUDY_JUDGE_MODEL: set one"
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


def _word_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """(N, 512) of unit norm, near where words are shared: where no encoder says what is near in meaning."""
    vectors = np.full((len(texts), 512), 1e-6, dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.casefold().split():
            vectors[row, crc32(word.encode(errors="replace")) % 512] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


class _NoEncoder:
    """Compares no texts, unless they are equal."""

    name = "text: equal"

    def compare(self, reference: Answer, answer: Answer) -> Verdict:
        if reference.text.split() == answer.text.split():
            return Verdict(Outcome.AGREE, "texts equal")
        return Verdict(Outcome.INCOMPARABLE, "UNDERSTUDY_ENCODER is empty: no encoder to compare texts with")
