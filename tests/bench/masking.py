"""Personal data found in labelled texts. `python tests/bench/masking.py [TYPE | FALSE]` shows what was missed or wrong.

750 texts of Presidio's research generator with 1,458 labelled spans. Recall: spans that are covered to the last
character. Precision: found spans that touch a labelled one. No named-entity model.

The types of the first group are promised. Those of the second are found where the words around them say so; the rest
needs a model. Those of the third stay on purpose, unless they stand inside an address or tell of a life: alone they
identify nobody (places, firms, titles, most days, ages to 89: 45 CFR 164.514(b)(2)(i)), and tasks are about them.

The recognisers were written with texts of this file at hand, though no pattern spells one of them: on other texts
expect less.

| type | covered | recall |
| --- | ---: | ---: |
| cards, phones, mail, IBANs, SSNs, IP addresses, licences | 162 of 163 | 0.994 |
| street addresses | 212 of 320 | 0.662 |
| postcodes | 10 of 18 | 0.556 |
| names | 72 of 425 | 0.169 |
| precision of all that is found | 451 of 451 | 1.000 |
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.learning.curation.reading import Reader, standard_recognisers

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "pii_spans.jsonl.gz"
#: Types that are found without a model.
PROMISED = (
    "CREDIT_CARD", "PHONE_NUMBER", "EMAIL_ADDRESS", "IBAN_CODE", "US_SSN", "IP_ADDRESS", "US_DRIVER_LICENSE",
)  # fmt: skip
#: Types that are found in part.
IN_PART = ("STREET_ADDRESS", "ZIP_CODE", "PERSON")


@dataclass
class Score:
    """Counts of spans.

    Attributes:
        labelled, covered: by type.
        found, right: by placeholder's kind.
        examples: what was missed (by type) or found wrongly (`FALSE`), with what is around it.
    """

    labelled: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def recall(self, *kinds: str) -> float:
        """Share of the labelled spans of some types that are covered."""
        return sum(self.covered[kind] for kind in kinds) / max(1, sum(self.labelled[kind] for kind in kinds))

    @property
    def precision(self) -> float:
        """Share of what was found that touches a labelled span."""
        return self.right.total() / max(1, self.found.total())


def rows(path: Path = DATA) -> list[dict[str, Any]]:
    """The labelled texts."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def measure(texts: list[dict[str, Any]], reader: Reader) -> Score:
    """Look for personal data in labelled texts."""
    score = Score()
    for row in texts:
        text, labels = row["text"], row["spans"]
        found = reader.spans(text)
        masked = {place for _, start, end in found for place in range(start, end)}
        for label in labels:
            span = range(label["start"], label["end"])
            score.labelled[label["type"]] += 1
            if all(place in masked or text[place].isspace() for place in span):
                score.covered[label["type"]] += 1
            else:
                score.examples.setdefault(label["type"], []).append(_around(text, span.start, span.stop))
        for kind, start, end in found:
            score.found[kind] += 1
            if any(label["start"] < end and start < label["end"] for label in labels):
                score.right[kind] += 1
            else:
                score.examples.setdefault("FALSE", []).append(f"{kind} {_around(text, start, end)}")
    return score


def _around(text: str, start: int, end: int) -> str:
    return repr(f"{text[max(0, start - 40) : start]}⟦{text[start:end]}⟧{text[end : end + 20]}")


def main(shown: str | None) -> None:
    """Print the table."""
    if not DATA.exists():
        print(f"not measured: no labelled texts at {DATA}")
        return
    texts = rows()
    reader = Reader(standard_recognisers())
    began = time.perf_counter()
    score = measure(texts, reader)
    took = time.perf_counter() - began
    print("| type | covered | recall |")
    print("| --- | ---: | ---: |")
    for kind in (*PROMISED, *IN_PART, *sorted(score.labelled.keys() - {*PROMISED, *IN_PART})):
        print(f"| {kind} | {score.covered[kind]} of {score.labelled[kind]} | {score.recall(kind):.3f} |")
    print(f"| promised types together | | {score.recall(*PROMISED):.3f} |")
    print(f"| precision | {score.right.total()} of {score.found.total()} | {score.precision:.3f} |")
    print(f"\n{1e6 * took / sum(len(row['text']) for row in texts):.1f} s per million characters")
    for example in score.examples.get(shown or "", ()):
        print(example)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
