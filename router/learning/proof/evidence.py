"""Compared calls as arrays, and the unit that counts in them: the conversation.

Calls of one conversation are not independent: they share the user, the documents, the mistake. A bound that counts them
as if they were is too good (three times the promised failures in `tests/router/learning/proof/test_certification.py`).
So at most one call per conversation counts, chosen without a look at how it went: exact bounds stay exact, where a
cluster-robust bound has to fear the longest conversation there can be and needs longest ÷ mean times as many. What is
bounded is then the disagreement of a call of a random conversation; the plain rate over all calls stands beside it in
the certificate, and can veto it but never carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router.learning.proof.agreement import Outcome, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """N calls that an SLM answered beside the LLM, oldest first.

    Attributes:
        confidences: (N,) how sure the SLM was, on any scale that grows with sureness; NaN where that isn't known or the
            answer broke its contract: such a call is never served.
        failed: (N,) which answers disagree, or could not be compared: what can't be shown counts against.
        incomparable: (N,) the latter.
        conversations: (N,) which calls belong together, integers or strings.
    """

    confidences: NDArray[np.float64]
    failed: NDArray[np.bool_]
    incomparable: NDArray[np.bool_]
    conversations: NDArray[np.generic]

    @classmethod
    def of(
        cls,
        confidences: ArrayLike,
        failed: ArrayLike,
        conversations: ArrayLike | None = None,
        incomparable: ArrayLike | None = None,
    ) -> Evidence:
        """Take arrays of one length; without `conversations` every call is one of its own.

        Raises:
            ValueError: lengths differ.
        """
        sure, lost = np.asarray(confidences, dtype=np.float64), np.asarray(failed, dtype=bool)
        together = np.arange(len(sure)) if conversations is None else np.asarray(conversations)
        unknown = np.zeros(len(sure), bool) if incomparable is None else np.asarray(incomparable, dtype=bool)
        if not sure.shape == lost.shape == together.shape == unknown.shape or sure.ndim != 1:
            raise ValueError(f"evidence of shapes {sure.shape}, {lost.shape}, {unknown.shape}, {together.shape}")
        return cls(sure, lost | unknown, unknown, together)

    @classmethod
    def of_verdicts(
        cls, confidences: ArrayLike, verdicts: Sequence[Verdict], conversations: ArrayLike | None = None
    ) -> Evidence:
        """Take what comparators said."""
        incomparable = [verdict.outcome is Outcome.INCOMPARABLE for verdict in verdicts]
        failed = [verdict.outcome is Outcome.DISAGREE for verdict in verdicts]
        return cls.of(confidences, failed, conversations, incomparable)

    def __len__(self) -> int:
        return len(self.failed)

    @property
    def digest(self) -> str:
        """Names exactly this evidence: 16 hex digits."""
        digest = blake2b(digest_size=8)
        for column in (self.confidences, self.failed, self.incomparable, self.conversations.astype(str)):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def one_per_conversation(self) -> Evidence:
        """A random call of each conversation; which one is settled by the digest, so that nobody can draw again."""
        names, members = np.unique(self.conversations, return_inverse=True)
        if len(names) == len(self):
            return self
        draw = np.random.default_rng(int(self.digest, 16)).random(len(self))
        order = np.lexsort((draw, members))
        first = np.flatnonzero(np.diff(members[order], prepend=-1))
        return self.take(np.sort(order[first]))

    def first_per_conversation(self) -> Evidence:
        """The first call of each conversation: the same ones, however the evidence grows."""
        return self.take(np.sort(np.unique(self.conversations, return_index=True)[1]))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Evidence:
        """Some of the calls, by index or by mask."""
        return Evidence(self.confidences[rows], self.failed[rows], self.incomparable[rows], self.conversations[rows])

    def served(self, threshold: float | None) -> Evidence:
        """The calls that would be served: as sure as the threshold at least, or all with a confidence for None."""
        return self.take(self.confidences >= (-np.inf if threshold is None else threshold))

    def tally(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What each of T thresholds would serve: (T,) how many calls, (T,) how many of them failed."""
        known = self.take(~np.isnan(self.confidences))
        order = np.argsort(-known.confidences)
        sums = np.concatenate(([0], np.cumsum(known.failed[order])))
        n = np.searchsorted(-known.confidences[order], -thresholds, side="right")
        return n, sums[n]
