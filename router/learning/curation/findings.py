"""What a recogniser finds in a text, and the seam through which further recognisers come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """Text that identifies somebody or opens a door.

    Attributes:
        start, end: in characters; `end` is one after the last.
        kind: what its placeholder is called: `EMAIL`, `PERSON`, …
    """

    start: int
    end: int
    kind: str


class Recogniser(Protocol):
    """Finds one or more kinds of personal data or secrets."""

    def find(self, text: str) -> Iterable[Finding]:
        """Look through a text; findings may overlap and come in any order."""
        ...


def settle(findings: Iterable[Finding]) -> list[Finding]:
    """Of findings that overlap, keep a secret, else the longest, else the first given; in the order of the text."""
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda each: (each.kind != "SECRET", each.start - each.end)):
        if all(finding.end <= other.start or other.end <= finding.start for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda each: each.start)
