"""From the logged calls of one cluster to training samples and held-out calls.

    may it be learned from? → split by conversation and time → [of those that train] is it a good example?
        → masked (masking.py) → not said before (duplicates.py) → not too many of one origin

Only what trains is picked by its answer. Held-out calls stand for the traffic that an SLM will meet: those with an odd
answer, a broken contract or a name in them must not be missing from the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b

from router.contract import OutputContract, contract_for, violation
from router.learning.corpus import LoggedCall
from router.learning.curation.chat import answer_of, chat_of, tools_of
from router.learning.curation.division import divide
from router.learning.curation.drops import Drop, Dropped
from router.learning.curation.duplicates import repeated
from router.learning.curation.masking import mask
from router.learning.curation.reading import Reader
from router.learning.curation.samples import Candidate, Curated, HeldOut, Rules, Sample
from router.learning.curation.splits import Split

Report = Callable[[str, float], None]
#: What `UNDERSTUDY_LOG_BODIES=redacted` puts in the place of what it blacks out.
_BLACKED_OUT = ("[EMAIL]", "[SECRET]", "[IBAN]", "[NUMBER]", "[IP]", "[PHONE]")


def curate(
    candidates: Sequence[Candidate],
    contract: OutputContract,
    reader: Reader,
    rules: Rules | None = None,
    report: Report = lambda stage, share: None,
) -> Curated:
    """Make samples of a cluster's calls.

    Deterministic. Nearly all of the time is spent on finding personal data: some seconds per megabyte of new text.

    Args:
        candidates: all calls of the cluster, in any order.
        contract: the cluster's.
        reader: finds what is to be masked.
        report: told each stage's name and its share done, in [0, 1].
    """
    rules = rules or Rules()
    divided = divide(candidates, rules)
    drops = Counter(divided.drops)
    held_out: dict[Split, list[HeldOut]] = {side: [] for side in Split}
    samples: list[Sample] = []
    origins: list[str] = []
    kinds: list[frozenset[str]] = []
    for place, (candidate, call, conversation, side) in enumerate(divided.calls):
        report("masking", place / len(divided.calls))
        if side is not Split.TRAIN:
            held_out[side].append(HeldOut(call.call_id, conversation, call.arrived_at))
            continue
        try:
            sample, masked = _sample(candidate, call, conversation, contract, reader, rules)
        except Dropped as dropped:
            drops[dropped.reason] += 1
            continue
        samples.append(sample)
        origins.append(candidate.origin)
        kinds.append(masked)

    report("duplicates", 0.0)
    out = repeated([sample.chat for sample in samples], rules.near)
    out |= _capped(samples, origins, out, rules)
    drops.update(out.values())
    kept = [place for place in range(len(samples)) if place not in out]
    return Curated(
        train=tuple(samples[place] for place in kept),
        calibration=tuple(held_out[Split.CALIBRATION]),
        certification=tuple(held_out[Split.CERTIFICATION]),
        drops={reason: drops[reason] for reason in Drop if drops[reason]},
        masked=Counter(kind for place in kept for kind in sorted(kinds[place])),
    )


def _sample(
    candidate: Candidate,
    call: LoggedCall,
    conversation: str,
    contract: OutputContract,
    reader: Reader,
    rules: Rules,
) -> tuple[Sample, frozenset[str]]:
    """One call as a sample, and the kinds of what was masked in it.

    Raises:
        Dropped: it is no good example.
    """
    if candidate.feedback is not None and candidate.feedback < rules.min_feedback:
        raise Dropped(Drop.POOR_FEEDBACK)
    assert call.answer is not None
    own_contract = contract_for(contract, call.features)
    if violation(own_contract, call.answer) is not None:
        raise Dropped(Drop.BROKEN_CONTRACT)
    chat = chat_of(call.features, call.answer)
    if candidate.redacted and any(mark in repr(chat[-1]) for mark in _BLACKED_OUT):
        raise Dropped(Drop.REDACTED)
    masked = mask(chat, tools_of(call.features.body), reader)
    if masked.kinds and violation(own_contract, answer_of(masked.chat[-1])) is not None:
        raise Dropped(Drop.MASKED_BROKEN)
    parallel = call.features.body.get("parallel_tool_calls")
    sample = Sample(
        call_id=call.call_id,
        conversation=conversation,
        arrived_at=call.arrived_at,
        chat=masked.chat,
        tools=masked.tools,
        parallel_tool_calls=parallel if isinstance(parallel, bool) else None,
        weighed=candidate.weighed if masked.chat[-1] == chat[-1] else (),
    )
    return sample, frozenset(masked.kinds)


def _capped(samples: Sequence[Sample], origins: Sequence[str], out: dict[int, Drop], rules: Rules) -> dict[int, Drop]:
    """What is too much of one origin, or of all; which of an origin's samples stay is settled by their ids."""
    left = [place for place in range(len(samples)) if place not in out]
    counts = Counter(origins[place] for place in left)
    dropped: dict[int, Drop] = {}
    if len(counts) > 1:
        for origin, count in counts.items():
            others = len(left) - count
            allowed = max(rules.origin_floor, round(others * rules.origin_share / max(1 - rules.origin_share, 1e-9)))
            if count > allowed:
                own = sorted((place for place in left if origins[place] == origin), key=lambda p: _draw(samples[p]))
                dropped |= dict.fromkeys(own[allowed:], Drop.ORIGIN_CAP)
    left = [place for place in left if place not in dropped]
    return dropped | dict.fromkeys(left[: max(0, len(left) - rules.max_samples)], Drop.SAMPLE_CAP)


def _draw(sample: Sample) -> bytes:
    return blake2b(sample.call_id.encode(), digest_size=8).digest()
