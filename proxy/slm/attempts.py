"""The seam between the relay and the SLM transport: one try at an SLM, and how it can end.

The relay (`relay/`) decides when to try and what happens next; the transport (`client.py`) knows how an SLM is asked,
how its answer is verified and rendered. Neither imports the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from proxy.wire.endpoint import Endpoint
    from router.decision import Decision, Reason
    from router.features import CallFeatures
    from storage.records import Attempt


@dataclass(frozen=True, slots=True)
class Served:
    """An SLM's answer, fit to be sent to the client: nothing can go wrong with it any more, except a stream's cut.

    Attributes:
        status: HTTP status, 200 as a rule.
        headers: what the client gets beside `content-type` and the relay's own headers; names in lower case.
        content_type: of the body.
        body: the whole answer, verified and in the form the client asked for (JSON, or a finished SSE stream); or a
            stream that is passed through while the SLM generates. The relay closes the stream (`aclose`) when the
            client leaves; it may raise `UpstreamCut` or `UpstreamTimeout`, which the client sees as an error event.
        model: what answered, as the client is told (`x-understudy-model`).
        upstream: the SLM server's name in `UNDERSTUDY_SLM_URL`.
        confidence: mean token probability; None where the server gave none.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    content_type: bytes
    body: bytes | AsyncGenerator[bytes, None]
    model: str
    upstream: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Declined:
    """The SLM did not answer well enough; the LLM is asked in the same request.

    Attributes:
        reason: `slm_unavailable`, `slm_timeout`, `slm_error`, `output_invalid`, `low_confidence`, `context_too_long`,
            …: the call's reason from now on.
        attempt: what was tried, with the wasted answer, for the log.
    """

    reason: Reason
    attempt: Attempt


class SlmTransport(Protocol):
    """One try at an SLM."""

    async def attempt(
        self, endpoint: Endpoint, body: dict[str, Any], features: CallFeatures, decision: Decision, deadline: float
    ) -> Served | Declined:
        """Ask the SLM of `decision.promotion`.

        Args:
            endpoint: `CHAT` or `RESPONSES`.
            body: the request, parsed; the transport's own to change.
            features: what was read from it.
            decision: with a promotion.
            deadline: `loop.time()` at which the whole call must have ended, the LLM's turn included.

        Raises:
            CancelledError: the client left; the SLM's generation has been cancelled. Anything else that goes wrong
                comes back as `Declined`.
        """
        ...
