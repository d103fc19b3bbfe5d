"""Names that no words introduce, by any of Presidio's recognisers that has a model behind it. Optional: none is needed.

Reader([*standard_recognisers(), NamedEntities.load("dslim/bert-base-NER")])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from presidio_analyzer import EntityRecognizer
from presidio_analyzer.predefined_recognizers import HuggingFaceNerRecognizer

from router.learning.curation.findings import Finding

#: Presidio's entity → placeholder. Organisations and places alone identify nobody.
KINDS = MappingProxyType({"PERSON": "PERSON"})


class NamedEntities:
    """A named-entity model as a recogniser.

    Args:
        recogniser: Presidio's.
        kinds: which of its entities are masked, and under which name.
        min_score: in [0, 1].
    """

    def __init__(self, recogniser: EntityRecognizer, kinds: Mapping[str, str] = KINDS, min_score: float = 0.5) -> None:
        self.recogniser = recogniser
        self._kinds = kinds
        self._min_score = min_score

    @classmethod
    def load(cls, model: str) -> NamedEntities:
        """A token-classification model of transformers, by name or path, on a GPU where there is one.

        Raises:
            OSError: there is no such model.
        """
        return cls(HuggingFaceNerRecognizer(model_name=model))

    def find(self, text: str) -> Iterator[Finding]:
        """Look through a text."""
        for found in self.recogniser.analyze(text, list(self._kinds), None):  # type: ignore[arg-type]  # as its own pipelines do
            if found.score >= self._min_score and (kind := self._kinds.get(found.entity_type)):
                yield Finding(found.start, found.end, kind)
