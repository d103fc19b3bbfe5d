"""The rule: who wants more gets no more models, who has more memory loses none; and every exclusion has its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract import ContractKind, OutputContract
from router.learning.selection.catalogue import OpenModel, load_catalogue
from router.learning.selection.memory import GIB, Precision, memory_of
from router.learning.selection.needs import Hardware, Needs, needs_of
from router.learning.selection.record import record
from router.learning.selection.rule import Selection, select

CATALOGUE = load_catalogue()
QWEN = next(model for model in CATALOGUE if model.name == "Qwen/Qwen3-0.6B")
LANGUAGES = ["en", "de", "zh", "ja", "hi", "ru", "xx"]
SCRIPTS = ["latin", "han", "kana", "devanagari", "cyrillic", "other"]
LICENCES = ["apache-2.0", "mit", "llama3.2", "gemma"]

needs_of_any_kind = st.builds(
    Needs,
    context_tokens=st.integers(1, 300_000),
    tools=st.booleans(),
    json=st.booleans(),
    languages=st.frozensets(st.sampled_from(LANGUAGES), max_size=2),
    scripts=st.frozensets(st.sampled_from(SCRIPTS), max_size=2),
    licences=st.none() | st.frozensets(st.sampled_from(LICENCES)),
)
hardware_of_any_kind = st.builds(
    Hardware,
    gpu_bytes=st.integers(0, 200 * GIB),
    adapters=st.integers(0, 100),
    calls=st.integers(1, 64),
    precision=st.sampled_from(Precision),
)
models_of_any_kind = st.lists(
    st.builds(
        msgspec.structs.replace,
        st.sampled_from(CATALOGUE),
        json=st.booleans(),
        lora=st.booleans(),
        languages=st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=3).map(tuple),
        name=st.uuids().map(str),
    ),
    max_size=8,
).map(lambda models: [*models, *CATALOGUE])


def admitted(selection: Selection) -> set[str]:
    return {fit.model.name for fit in selection.fitting}


@given(models_of_any_kind, needs_of_any_kind, hardware_of_any_kind, st.integers(0, 100 * GIB))
def test_more_memory_never_excludes(models: list[OpenModel], needs: Needs, hardware: Hardware, more_bytes: int) -> None:
    larger = replace(hardware, gpu_bytes=hardware.gpu_bytes + more_bytes)
    assert admitted(select(models, needs, hardware)) <= admitted(select(models, needs, larger))


@given(models_of_any_kind, needs_of_any_kind, needs_of_any_kind, hardware_of_any_kind)
def test_a_stricter_need_never_admits_more(
    models: list[OpenModel], needs: Needs, other: Needs, hardware: Hardware
) -> None:
    allowed = [licences for licences in (needs.licences, other.licences) if licences is not None]
    both = Needs(
        context_tokens=max(needs.context_tokens, other.context_tokens),
        tools=needs.tools or other.tools,
        json=needs.json or other.json,
        languages=needs.languages | other.languages,
        scripts=needs.scripts | other.scripts,
        licences=frozenset.intersection(*allowed) if allowed else None,
    )
    assert admitted(select(models, both, hardware)) <= admitted(select(models, needs, hardware))


@given(models_of_any_kind, needs_of_any_kind, hardware_of_any_kind, st.integers(0, 50), st.integers(0, 50))
def test_more_load_never_admits_more(
    models: list[OpenModel], needs: Needs, hardware: Hardware, adapters: int, calls: int
) -> None:
    loaded = replace(hardware, adapters=hardware.adapters + adapters, calls=hardware.calls + calls)
    assert admitted(select(models, needs, loaded)) <= admitted(select(models, needs, hardware))


@given(models_of_any_kind, needs_of_any_kind, hardware_of_any_kind)
def test_every_model_is_admitted_in_the_order_of_cost_or_left_out_with_reasons(
    models: list[OpenModel], needs: Needs, hardware: Hardware
) -> None:
    selection = select(models, needs, hardware)
    assert len(selection.fitting) + len(selection.excluded) == len(models)
    costs = [fit.model.token_parameters for fit in selection.fitting]
    assert costs == sorted(costs)
    assert all(left.reasons for left in selection.excluded)
    assert selection.fitting == select(reversed(models), needs, hardware).fitting
    lines = record(selection)
    assert all(line.isprintable() for line in lines)
    assert all(any(model.name in line for line in lines) for model in models)


@given(st.sampled_from(CATALOGUE), st.integers(1, 100_000))
def test_fewer_bits_take_less_memory(model: OpenModel, context_tokens: int) -> None:
    totals = [memory_of(model, precision, context_tokens, 8, 1).total for precision in Precision]
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) == len(totals)


def test_a_state_is_kept_for_each_call_however_long_it_is() -> None:
    stateful = msgspec.structs.replace(QWEN, state_bytes=1000)
    for context_tokens in (1, 32_768):
        caches = [memory_of(model, Precision.BF16, context_tokens, 8, 0).cache for model in (QWEN, stateful)]
        assert caches[1] - caches[0] == 8 * 1000
        assert caches[0] == 2 * 28 * 8 * 128 * 2 * context_tokens * 8  # keys and values by the config of Qwen3-0.6B


ROOMY = Hardware(80 * GIB)
PLAIN = msgspec.structs.replace(QWEN, tools=False, json=False, lora=False, languages=("en", "de"))


@pytest.mark.parametrize(
    ("needs", "hardware", "reason"),
    [
        ({"context_tokens": 40_000}, ROOMY, "calls of 40,000 tokens don't fit its context of 32,768"),
        ({"tools": True}, ROOMY, "it is not trained to call tools"),
        ({"json": True}, ROOMY, "it can't be held to a JSON schema"),
        ({"languages": frozenset({"de", "zh"})}, ROOMY, "it is not made for zh"),
        ({"scripts": frozenset({"latin", "han"})}, ROOMY, "it is made for no language in han script"),
        ({"licences": frozenset({"mit"})}, ROOMY, "its licence, apache-2.0, is not among mit"),
        ({}, replace(ROOMY, adapters=1), "vLLM serves no LoRA adapters on it"),
        (
            {"context_tokens": 8192},
            Hardware(8 * GIB, adapters=0),
            "it takes 9.1 GiB by rule (weights in bf16 1.1, cache of 8 calls of 8,192 tokens 7.0, adapters (0) 0.0, "
            "runtime 1.0); 7.2 of 8.0 GiB can be used",
        ),
    ],
)
def test_an_exclusion_says_why(needs: dict[str, Any], hardware: Hardware, reason: str) -> None:
    hardware = hardware if "LoRA" in reason else replace(hardware, adapters=0)
    selection = select([PLAIN], Needs(**({"context_tokens": 1000} | needs)), hardware)
    assert [left.reasons for left in selection.excluded] == [(reason,)]
    assert record(selection)[2:] == ["none of 1 models fits", f"left out: Qwen/Qwen3-0.6B: {reason}"]


def test_many_languages_are_enough_for_any() -> None:
    needs = Needs(1000, languages=frozenset({"is"}), scripts=frozenset({"georgian"}))
    assert admitted(select([QWEN], needs, ROOMY)) == {QWEN.name}


def test_a_mixture_costs_what_a_token_passes_through_and_takes_all_its_weights() -> None:
    mixture = msgspec.structs.replace(QWEN, name="mixture", parameters=8 * 10**9, active_parameters=10**8)
    assert [fit.model.name for fit in select([QWEN, mixture], Needs(1000), ROOMY).fitting] == ["mixture", QWEN.name]
    assert select([mixture], Needs(1000), Hardware(16 * GIB)).excluded


def test_a_tasks_needs_come_from_its_contract_and_the_length_of_its_calls() -> None:
    tool = OutputContract(ContractKind.TOOL_CALL, tools={"send": {}})
    assert needs_of(tool, 1001) == Needs(1252, tools=True)
    json = OutputContract(ContractKind.JSON, schema={})
    assert needs_of(json, 8, licences=frozenset({"mit"})) == Needs(10, json=True, licences=frozenset({"mit"}))
    text = OutputContract(ContractKind.TEXT, tools={"send": {}}, languages=("latin",))
    assert needs_of(text, 8) == Needs(10, tools=True, scripts=frozenset({"latin"}))


def test_the_record_says_what_is_tried_first_and_why() -> None:
    needs = Needs(4000, tools=True, json=True, languages=frozenset({"en"}), licences=frozenset({"apache-2.0"}))
    lines = record(select(CATALOGUE, needs, Hardware(24 * GIB, adapters=4)))
    assert lines[0] == (
        "the task needs 4,000 tokens of context for prompt and answer; tool calls; JSON by a schema; the languages en; "
        "one of the licences apache-2.0"
    )
    assert lines[1] == "the hardware: a GPU with 24.0 GiB, weights in bf16, 4 adapters, 8 calls at once"
    assert lines[2].startswith("first to try, the cheapest of ")
    assert "left out: HuggingFaceTB/SmolLM2-135M-Instruct: it is not trained to call tools" in lines
