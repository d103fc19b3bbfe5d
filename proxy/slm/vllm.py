"""vLLM's control plane: which models a server has, and loading adapters. httpx; never on a call's path.

Shapes as measured on vLLM 0.32: loading answers in plain text, errors come in four forms, and an adapter trained for
another base loads without complaint and answers rubbish, so its configuration is checked first.

Other servers will do where the model needs no adapter. `transformers serve` (5.23) lists the hub's cache, without the
directory that it was started with, or answers 500 where there is no cache; so an unlisted model is asked for one token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from proxy.errors import Conflict, Unprocessable
from proxy.slm.adapters import adapter_base, check_shapes

CONNECT_SECONDS = 3.0
#: For a question that a server answers out of its head, and for one that has it load a model first.
QUESTION_SECONDS = 8.0
LOADING_SECONDS = 60.0
_NO_LIST = frozenset({404, 405, 500, 501})


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as its server lists it.

    Attributes:
        root: path or name that it was loaded from.
        parent: base model of an adapter.
        max_context_tokens: prompt and answer; an adapter has its base's.
    """

    name: str
    root: str | None
    parent: str | None
    max_context_tokens: int | None


class _Unlisted(Conflict):
    """The server is up and can't say what it has."""


class VllmServer:
    """One OpenAI-compatible SLM server; adapters can be loaded where it is vLLM."""

    def __init__(
        self, name: str, url: str, api_key: str | None = None, question_seconds: float = QUESTION_SECONDS
    ) -> None:
        """
        Args:
            name: in `UNDERSTUDY_SLM_URL`.
            url: its base, ending in `/v1`.
            question_seconds: what it gets to say which models it has.
        """
        self._question_seconds = question_seconds
        self.name = name
        self._url = url
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def models(self) -> list[ServedModel]:
        """What the server has.

        Raises:
            Conflict: it can't be reached, refuses to say, or is no such server.
        """
        answer = self._request("GET", "/models", self._question_seconds)
        if answer.status_code != 200:
            refusal = _Unlisted if answer.status_code in _NO_LIST else Conflict
            raise refusal(f"{self._url}/models answers {answer.status_code}: {_message(answer)}")
        try:
            rows: list[dict[str, Any]] = answer.json()["data"]
            contexts = {row["id"]: row.get("max_model_len") for row in rows}
            return [
                ServedModel(
                    row["id"],
                    row.get("root"),
                    row.get("parent"),
                    row.get("max_model_len") or contexts.get(row.get("parent")),
                )
                for row in rows
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Conflict(f"{self._url}/models is not an OpenAI-compatible list of models") from error

    def base_models(self) -> list[ServedModel]:
        """Those that it says are no adapters, and where they were loaded from; each once, whatever names it has.

        Raises:
            Conflict: it can't be reached, refuses to say, or is no such server.
        """
        found = {model.root: model for model in self.models() if model.parent is None and model.root}
        return list(found.values())

    def ensure_served(self, model: str, adapter: str | None) -> ServedModel:
        """See that the server has a model, loading its adapter if need be.

        Raises:
            Conflict: the server can't be reached or fails, or has another adapter under this name: loading over it
                would change what other tasks are served by.
            Unprocessable: it doesn't have the model and can't get it; the message says what it has.
        """
        try:
            served = {found.name: found for found in self.models()}
        except _Unlisted:
            served = {}
        if model in served:
            found = served[model]
            if adapter is not None and found.root is not None and found.root != adapter:
                raise Conflict(
                    f"the SLM server {self.name!r} already serves {found.root} as {model!r}; "
                    f"promote {adapter} under another name"
                )
            return found
        if adapter is None:
            return self._probed(model, sorted(served))
        _check_base(adapter, list(served.values()))
        answer = self._request(
            "POST", "/load_lora_adapter", LOADING_SECONDS, json={"lora_name": model, "lora_path": adapter}
        )
        if answer.status_code == 404 and "lora" not in answer.text.lower():
            raise Unprocessable(
                f"the SLM server {self.name!r} can't load adapters at run time; start vLLM with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, or merge the adapter into its base and promote that"
            )
        if answer.status_code != 200:
            raise Unprocessable(f"the SLM server {self.name!r} refused the adapter {adapter}: {_message(answer)}")
        served = {found.name: found for found in self.models()}
        if model not in served:
            raise Unprocessable(f"the SLM server {self.name!r} loaded {adapter} and does not list {model!r}")
        return served[model]

    def unload(self, model: str) -> None:
        """Have it forget an adapter; one that it doesn't have is no error.

        Raises:
            Conflict: the server can't be reached, or refuses.
        """
        answer = self._request("POST", "/unload_lora_adapter", LOADING_SECONDS, json={"lora_name": model})
        if answer.status_code not in (200, 404):
            raise Conflict(f"the SLM server {self.name!r} keeps the adapter {model!r}: {_message(answer)}")

    def _probed(self, model: str, listed: list[str]) -> ServedModel:
        """See whether the server answers as a model that it does not list.

        A 200 is not enough: some servers answer as their only model, whatever they are asked for. `transformers serve`
        is known by the revision that it puts behind the name; others are believed only where they list nothing.

        Raises:
            Conflict: the server fails, so nobody can say.
            Unprocessable: it refuses, or answers as another model.
        """
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        answer = self._request("POST", "/chat/completions", LOADING_SECONDS, json=asked)
        if answer.status_code == 200:
            name = _model_of(answer)
            if name.startswith(f"{model}@") or (name == model and not listed):
                return ServedModel(model, model, None, _context_tokens(model))
            said = f"answers as {name!r}"
        else:
            said = f"says {answer.status_code}: {_message(answer)}"
        refusal = Conflict if answer.status_code >= 500 else Unprocessable
        raise refusal(
            f"the SLM server {self.name!r} does not have the model {model!r}; it has: "
            f"{', '.join(listed) or 'nothing that it lists'}. Asked for one token of {model!r} it {said}"
        )

    def _request(self, method: str, path: str, seconds: float, json: object = None) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        try:
            return httpx.request(method, self._url + path, json=json, headers=self._headers, timeout=timeout)
        except httpx.ReadTimeout as error:
            raise Conflict(f"the SLM server {self.name!r} at {self._url} did not answer in {seconds:g} s") from error
        except httpx.HTTPError as error:
            raise Conflict(f"the SLM server {self.name!r} at {self._url} can't be reached: {error}") from error


def _check_base(adapter: str, served: list[ServedModel]) -> None:
    """Refuse an adapter of another base, as far as its files can be read here.

    Raises:
        Unprocessable
    """
    path = Path(adapter)
    if not path.is_dir():
        return  # the server may see a file system that we don't; it will say so
    base = adapter_base(path)
    roots = [found.root for found in served if found.parent is None and found.root]
    if base and roots and Path(base).name not in {Path(root).name for root in roots}:
        raise Unprocessable(f"the adapter {adapter} is for the base model {base}, the server has {', '.join(roots)}")
    for root in roots:
        if not base or Path(root).name == Path(base).name:
            check_shapes(path, Path(root))


def _model_of(answer: httpx.Response) -> str:
    """The model that a completion names; empty where the answer is no completion."""
    try:
        body = answer.json()
        return str(body["model"]) if body["choices"] else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _context_tokens(model: str) -> int | None:
    """The context of a model's directory, as far as it can be read here.

    It matters: `transformers serve` takes a prompt that is longer, and answers rubbish.
    """
    path = Path(model)
    if not path.is_absolute():
        return None
    try:
        tokens = json.loads((path / "config.json").read_text())["max_position_embeddings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tokens if isinstance(tokens, int) else None


def _message(answer: httpx.Response) -> str:
    """The error's own words, whichever of vLLM's shapes it has."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:300] or f"HTTP {answer.status_code}"
    error = body.get("error", body.get("detail", body.get("message"))) if isinstance(body, dict) else body
    return str(error.get("message") if isinstance(error, dict) else error)[:300]
