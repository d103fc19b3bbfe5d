"""The catalogue: open models that an SLM can be made from, as data."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

#: In `languages`: more than a hundred, says the maker.
MANY = "many"

_BUILT_IN = "catalogue.toml"
_PLACE = re.compile(r"(?P<said>.*) - at `\$\.?(?P<place>.*)`", re.DOTALL)
_MAX_SHOWN_CHARS = 100

Name = Annotated[str, Meta(pattern=r"^[\w./:+@-]{1,200}\Z")]
Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,300}\Z")]
Flag = Annotated[str, Meta(pattern=r"^--[^\x00-\x1f\x7f]{1,300}\Z")]
Url = Annotated[str, Meta(pattern=r"^https://[\x21-\x7e]{1,500}\Z")]
Licence = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+-]{0,99}\Z")]
Language = Annotated[str, Meta(pattern=rf"^([a-z]{{2,3}}|{MANY})\Z")]
Parameters = Annotated[int, Meta(ge=1, le=10**13)]
Count = Annotated[int, Meta(ge=1, le=10**5)]
Tokens = Annotated[int, Meta(ge=1, le=10**9)]
Bytes = Annotated[int, Meta(ge=0, le=10**12)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class CatalogueInvalid(ValueError):
    """A catalogue can't be read; the message is one line that names file, model and field."""


class Benchmark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A published result.

    Attributes:
        name: with its version; results of different versions don't compare.
        maker: whether the model's maker measured it.
        source, read: the page, and when it said so.
    """

    name: Line
    score_percent: Percent
    maker: bool
    source: Url
    read: date


class OpenModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A base model.

    Attributes:
        name: on the model hub.
        parameters: all that are kept in memory.
        active_parameters: those that a token passes through, where that is not all of them (mixtures of experts).
        context_tokens: prompt and answer together, without stretching.
        licence: as the hub writes it: `apache-2.0`, `mit`, `llama3.2`.
        languages: ISO 639 codes of those that the maker names; `many` stands for more than a hundred.
        tools: trained to call tools, in a form that vLLM can read.
        json: can be held to a JSON schema.
        lora: vLLM serves LoRA adapters on it.
        attention_layers: those that keep keys and values of every token; with `kv_heads` of `head_size` each.
        state_bytes: what the other layers keep for a call, however long it gets: recurrent states, sliding windows.
        tool_call_parser, vllm_flags: what `vllm serve` is started with.
        source, read: where these facts stand, and when they stood there.
    """

    name: Name
    parameters: Parameters
    active_parameters: Parameters | None = None
    context_tokens: Tokens
    licence: Licence
    languages: Annotated[tuple[Language, ...], Meta(min_length=1)]
    tools: bool
    json: bool
    lora: bool
    attention_layers: Count
    kv_heads: Count
    head_size: Count
    state_bytes: Bytes = 0
    tool_call_parser: Name | None = None
    vllm_flags: tuple[Flag, ...] = ()
    source: Url
    read: date
    benchmarks: tuple[Benchmark, ...] = ()

    @property
    def token_parameters(self) -> int:
        """What one token costs: two floating-point operations for each."""
        return self.active_parameters or self.parameters

    @property
    def serve_arguments(self) -> list[str]:
        """What stands behind `vllm serve NAME`."""
        parser = ["--enable-auto-tool-choice", f"--tool-call-parser={self.tool_call_parser}"] if self.tools else []
        return [*parser, *self.vllm_flags]


def load_catalogue(own: Path | None = None) -> tuple[OpenModel, ...]:
    """The catalogue that comes with the product, and the user's.

    Args:
        own: a file of the same form. A model that has the name of another takes its place.

    Raises:
        CatalogueInvalid: a file can't be read or an entry is malformed.
    """
    built_in = files(__package__).joinpath(_BUILT_IN)
    models = {model.name: model for model in parse_catalogue(built_in.read_text(encoding="utf-8"), _BUILT_IN)}
    if own is not None:
        try:
            text = own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise CatalogueInvalid(f"{own}: can't be read: {said}") from error
        models |= {model.name: model for model in parse_catalogue(text, str(own))}
    return tuple(models.values())


def parse_catalogue(text: str, where: str) -> tuple[OpenModel, ...]:
    """Read a catalogue: TOML, a `[[model]]` for each.

    Args:
        where: what errors call it.

    Raises:
        CatalogueInvalid: it is malformed.
    """
    try:
        whole = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CatalogueInvalid(f"{where}: not TOML: {error}") from error
    entries = whole.pop("model", [])
    if whole:
        raise CatalogueInvalid(f"{where}: {_shown(next(iter(whole)))}: only [[model]] may stand there")
    if not isinstance(entries, list):
        raise CatalogueInvalid(f"{where}: model: must be written [[model]]")
    models: dict[str, OpenModel] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        called = f"{where}: model {_shown(name) if isinstance(name, str) else number}"
        model = _read_model(entry, called)
        if model.name in models:
            raise CatalogueInvalid(f"{called}: name: given twice")
        models[model.name] = model
    return tuple(models.values())


def _read_model(entry: Any, called: str) -> OpenModel:
    try:
        model = msgspec.convert(entry, OpenModel)
    except msgspec.ValidationError as error:
        placed = _PLACE.fullmatch(str(error))
        said = f"{placed['place']}: {placed['said']}" if placed and placed["place"] else str(error)
        raise CatalogueInvalid(f"{called}: {' '.join(said.split())}") from error  # a key may hold line breaks
    wrong = _contradiction(model)
    if wrong:
        raise CatalogueInvalid(f"{called}: {wrong}")
    return model


def _contradiction(model: OpenModel) -> str | None:
    """What is wrong between fields, each of them right by itself."""
    if model.tools and model.tool_call_parser is None:
        return "tool_call_parser: needed where tools = true, or vLLM hands out tool calls as text"
    if model.tool_call_parser is not None and not model.tools:
        return "tool_call_parser: given, though tools = false"
    if model.token_parameters > model.parameters:
        return f"active_parameters: {model.active_parameters} of {model.parameters}"
    return None


def _shown(text: str) -> str:
    """In one line, not endless."""
    shown = repr(text)
    return shown if len(shown) <= _MAX_SHOWN_CHARS else f"{shown[:_MAX_SHOWN_CHARS]}…"
