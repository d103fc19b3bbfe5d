"""Which answer belongs to which request: recorded ones by what was asked, others computed."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any

import orjson

from proxy.imports.messages import completion, usage_of
from proxy.replay.recordings import Recording, as_completion
from proxy.wire.translation import from_chat

Answerer = Callable[[dict[str, Any]], str | dict[str, Any] | None]

CHARS_PER_TOKEN = 4
#: How the answer is delivered, or who asks; not what is asked.
_NOT_ASKED = frozenset({"stream", "stream_options", "user", "metadata", "model"})


class Unmatched(StrEnum):
    """What becomes of a request that was never recorded."""

    ERROR = "error"  # 404, as for a model that doesn't exist
    NEAREST = "nearest"  # an answer recorded for a request with the same beginning, else for the same endpoint
    ECHO = "echo"  # the request's last words


def request_key(request: dict[str, Any]) -> str:
    """What makes two requests the same: all but how the answer is delivered, and the model's name."""
    return _hash({name: value for name, value in request.items() if name not in _NOT_ASKED})


class Answers:
    """Finds answers. Several answers recorded for one request take turns, in their order."""

    def __init__(self, recordings: Iterable[Recording], answerer: Answerer | None, unmatched: Unmatched) -> None:
        """
        Args:
            answerer: asked first, with the request; gives a text, a message, a completion or a response, or None when
                the request is not its business.
        """
        self.models: set[str] = set()
        self._answerer = answerer
        self._unmatched = unmatched
        self._exact: defaultdict[tuple[str, str], list[Recording]] = defaultdict(list)
        self._alike: defaultdict[tuple[str, str], list[Recording]] = defaultdict(list)
        for recording in recordings:
            self._exact[recording.endpoint, request_key(recording.request)].append(recording)
            if recording.status == 200:
                for likeness in _likenesses(recording.request):
                    self._alike[recording.endpoint, likeness].append(recording)
            if isinstance(model := recording.request.get("model"), str):
                self.models.add(model)
        self._turns: dict[tuple[str, str], Iterator[Recording]] = {}

    def find(self, endpoint: str, request: dict[str, Any]) -> Recording | None:
        """The answer to a request, or None: it is unknown, and unknown ones are errors."""
        computed = self._answerer(request) if self._answerer is not None else None
        if computed is not None:
            return _computed(endpoint, request, computed)
        key = endpoint, request_key(request)
        if key in self._exact:
            return next(self._turns.setdefault(key, itertools.cycle(self._exact[key])))
        if self._unmatched is Unmatched.NEAREST:
            for likeness in _likenesses(request):
                if alike := self._alike.get((endpoint, likeness)):
                    return alike[int(key[1], 16) % len(alike)]
        if self._unmatched is Unmatched.ECHO:
            return _computed(endpoint, request, last_words(request))
        return None


def last_words(request: dict[str, Any]) -> str:
    """The last text that a request says."""
    said = request.get("messages", request.get("input", request.get("prompt")))
    while isinstance(said, list | dict):
        said = said[-1] if isinstance(said, list) and said else None if isinstance(said, list) else _said(said)
    return said if isinstance(said, str) else ""


def _said(part: dict[str, Any]) -> Any:
    return next((part[name] for name in ("content", "text", "output", "arguments") if name in part), None)


def _computed(endpoint: str, request: dict[str, Any], answer: str | dict[str, Any]) -> Recording:
    """A computed answer, in its endpoint's form."""
    if isinstance(answer, str):
        answer = {"role": "assistant", "content": answer, "refusal": None}
    whole = as_completion(answer, request)
    if "choices" in whole and whole.get("id") in (None, "chatcmpl-recorded"):
        message = whole["choices"][0]["message"]
        sent = len(orjson.dumps(request.get("messages", request.get("input", request.get("prompt", "")))))
        made = len(message.get("content") or "") + len(orjson.dumps(message.get("tool_calls") or ""))
        identity = f"chatcmpl-{request_key(request)}"
        usage = usage_of(max(1, sent // CHARS_PER_TOKEN), max(1, made // CHARS_PER_TOKEN))
        whole = completion([message], model=request.get("model"), usage=usage, identity=identity)
    if "choices" in whole and endpoint == "responses":
        whole = from_chat(whole, request)
    elif "choices" in whole and endpoint == "completions":
        choices = [
            {"index": c["index"], "text": c["message"]["content"] or "", "logprobs": None, "finish_reason": "stop"}
            for c in whole["choices"]
        ]
        whole = whole | {"object": "text_completion", "choices": choices}
    return Recording(endpoint, request, whole)


def _likenesses(request: dict[str, Any]) -> list[str]:
    """From the most telling to none: tools and the first message; tools; nothing."""
    said = request.get("messages", request.get("input", request.get("prompt")))
    tools = request.get("tools")
    return [_hash([tools, said[0] if isinstance(said, list) and said else said]), _hash([tools]), ""]


def _hash(value: Any) -> str:
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
