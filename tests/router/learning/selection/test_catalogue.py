"""The catalogue: true to its form, the user's too, and what is wrong is said in one line that names the place."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from router.learning.selection.catalogue import CatalogueInvalid, load_catalogue, parse_catalogue

ENTRY = """
[[model]]
name = "us/tiny"
parameters = 1_000_000
context_tokens = 2048
licence = "apache-2.0"
languages = ["en"]
tools = true
json = true
lora = true
attention_layers = 4
kv_heads = 2
head_size = 32
tool_call_parser = "hermes"
source = "https://example.org/tiny"
read = 2026-11-21

[[model.benchmarks]]
name = "BFCL v3"
score_percent = 40
maker = true
source = "https://example.org/tiny"
read = 2026-11-21
"""


def test_what_comes_along_has_a_licence_and_a_source_for_everything() -> None:
    models = load_catalogue()
    assert len(models) > 10
    assert [model.parameters for model in models] == sorted(model.parameters for model in models)
    for model in models:
        assert model.licence
        assert model.source.startswith("https://")
        assert date(2026, 1, 1) < model.read
        for benchmark in model.benchmarks:
            assert benchmark.source.startswith("https://")
            assert date(2026, 1, 1) < benchmark.read


def test_what_comes_along_can_be_told_apart_by_every_need() -> None:
    models = load_catalogue()
    assert {model.tools for model in models} == {True, False}
    assert len({model.licence for model in models}) > 1
    assert len({model.context_tokens for model in models}) > 1


def test_a_model_that_calls_tools_is_served_with_its_parser() -> None:
    [model] = parse_catalogue(ENTRY, "own")
    assert model.serve_arguments == ["--enable-auto-tool-choice", "--tool-call-parser=hermes"]


def test_ones_own_models_are_added_and_take_the_place_of_their_namesakes(tmp_path: Path) -> None:
    built_in = load_catalogue()
    file = tmp_path / "own.toml"
    file.write_text(ENTRY + ENTRY.replace("us/tiny", built_in[0].name))
    models = load_catalogue(file)
    assert {model.name for model in models} == {model.name for model in built_in} | {"us/tiny"}
    assert len(models) == len(built_in) + 1
    assert next(model for model in models if model.name == built_in[0].name).parameters == 1_000_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('licence = "apache-2.0"\n', "", "model 'us/tiny': Object missing required field `licence`"),
        ("parameters = 1_000_000", 'parameters = "1M"', "model 'us/tiny': parameters: Expected `int`, got `str`"),
        ("parameters = 1_000_000", "parameters = 0", "model 'us/tiny': parameters: Expected `int` >= 1"),
        ("parameters = 1_000_000", f"parameters = {10**30}", "model 'us/tiny': parameters: "),
        ("tools = true", "tools = 1", "model 'us/tiny': tools: Expected `bool`, got `int`"),
        ("context_tokens", "context", "model 'us/tiny': Object "),
        ("json = true", "json = true\nstate_bytes = -1", "model 'us/tiny': state_bytes: Expected `int` >= 0"),
        ("json = true", "json = true\ncolour = 1", "model 'us/tiny': Object contains unknown field `colour`"),
        ("json = true", 'json = true\n"two\\nlines" = 1', "contains unknown field `two lines`"),
        ('["en"]', "[]", "model 'us/tiny': languages: Expected `array` of length >= 1"),
        ('["en"]', '["English"]', "model 'us/tiny': languages[0]: Expected `str` matching"),
        ('tool_call_parser = "hermes"\n', "", "model 'us/tiny': tool_call_parser: needed"),
        ("tools = true", "tools = false", "model 'us/tiny': tool_call_parser: given"),
        ("json = true", "json = true\nactive_parameters = 2_000_000", "model 'us/tiny': active_parameters: 2000000 of"),
        ("score_percent = 40", "score_percent = 140", "benchmarks[0].score_percent: Expected `float` <= 100"),
        ("score_percent = 40", "score_percent = nan", "benchmarks[0].score_percent: Expected `float`"),
        ('source = "https://example.org/tiny"\nread', 'source = "a blog"\nread', "source: Expected `str` matching"),
        ("read = 2026-11-21", 'read = "lately"', "read: "),
        ('name = "us/tiny"', 'name = "us\\ntiny"', "model 'us\\ntiny': name: Expected `str` matching"),
        ('name = "us/tiny"', 'name = "us/tiny\\n"', "model 'us/tiny\\n': name: Expected `str` matching"),
        ('name = "us/tiny"', "name = 1", "own: model 1: name: Expected `str`, got `int`"),
        ("[[model]]", "[model]", "own: model: must be written [[model]]"),
        ("[[model]]", "x = 1\n[[model]]", "own: 'x': only [[model]] may stand there"),
        ("[[model]]", "[[model", "own: not TOML: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_model_and_field(old: str, new: str, said: str) -> None:
    assert old in ENTRY
    with pytest.raises(CatalogueInvalid) as caught:
        parse_catalogue(ENTRY.replace(old, new, 1), "own")
    assert said in str(caught.value)
    assert str(caught.value).startswith("own: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(CatalogueInvalid, match="own: model 'us/tiny': name: given twice"):
        parse_catalogue(ENTRY * 2, "own")


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cant_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "own.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CatalogueInvalid, match=r"own\.toml: can't be read: "):
        load_catalogue(file)
