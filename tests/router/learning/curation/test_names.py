"""A named-entity model as one more recogniser."""

from __future__ import annotations

import pytest

from router.learning.curation.findings import Finding
from router.learning.curation.names import NamedEntities
from router.learning.curation.reading import Reader
from tests.router.learning.curation import tiny_ner


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_ner.make(tmp_path_factory.mktemp("ner"))


def test_what_the_model_calls_a_person_is_masked(model: str) -> None:
    assert list(NamedEntities.load(model).find("Verda Okafor")) == [Finding(0, 12, "PERSON")]
    assert Reader([NamedEntities.load(model)]).find("Verda Okafor") == (("PERSON", "Verda Okafor"),)


def test_other_entities_stay_unless_they_are_asked_for(model: str) -> None:
    recogniser = NamedEntities.load(model)
    only_places = NamedEntities(recogniser.recogniser, {"LOCATION": "PLACE"})
    assert list(only_places.find("Verda Okafor")) == []


def test_a_model_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="no-such-model"):
        NamedEntities.load("./no-such-model")
