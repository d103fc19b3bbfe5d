"""Calls that may never be diverted, whatever task they belong to: pure rules over one request.

The rule of the place: an SLM may answer only what it can answer *in the same shape and with the same consequences*. A
feature that isn't known to be harmless counts as unsupported; the price of that is one LLM call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.decision import Reason
from router.features import CallFeatures, Message

#: Tool-call ids of an SLM's answer begin so. The client sends them back with the results, so a running loop says by
#: itself who began it and no server needs to remember. Switching models inside a loop breaks agents.
SLM_TOOL_CALL_PREFIX = "call_us_"

#: Fields that an SLM server understands or that change nothing in the answer's shape.
_HARMLESS_IN_BOTH = frozenset({
    "model", "stream", "stream_options", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls",
    "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier", "store",
    "background", "top_logprobs", "reasoning_effort", "verbosity", "seed", "top_k", "min_p", "repetition_penalty",
})  # fmt: skip
_HARMLESS = {
    "chat": _HARMLESS_IN_BOTH | {
        "messages", "max_tokens", "max_completion_tokens", "stop", "frequency_penalty", "presence_penalty",
        "response_format", "n", "logprobs", "modalities", "logit_bias",
    },
    "responses": _HARMLESS_IN_BOTH | {
        "input", "instructions", "max_output_tokens", "text", "reasoning", "include", "truncation", "max_tool_calls",
        "previous_response_id", "conversation",
    },
}  # fmt: skip
#: Values of unknown fields that ask for nothing; `{}` may switch on (`web_search_options`).
_NOTHING: tuple[object, ...] = (None, False, "", [])

_STATEFUL_FIELDS = ("previous_response_id", "conversation", "background")
_CONTENT_ITEMS = frozenset({"message", "function_call", "function_call_output"})
_PLAIN_REASONING_INCLUDES = frozenset({"reasoning.encrypted_content"})
_FORMATS = frozenset({None, "text", "json_object", "json_schema"})
_TOOL_CHOICES = frozenset({None, "auto", "none", "required"})


def never_diverted(features: CallFeatures) -> Reason | None:
    """Why only the LLM can answer this call, or None.

    Returns:
        `STATEFUL_CALL`: the provider keeps something that the call reads or leaves behind.
        `TOOL_LOOP_HELD`: a tool loop that the LLM began.
        `UNSUPPORTED_FEATURE`: the answer would have a shape or content that an SLM's doesn't.
    """
    body = features.body
    if _is_stateful(features.endpoint, body):
        return Reason.STATEFUL_CALL
    if _has_unsupported_feature(features, body):
        return Reason.UNSUPPORTED_FEATURE
    if _in_tool_loop_of_the_llm(features.messages):
        return Reason.TOOL_LOOP_HELD
    return None


def _is_stateful(endpoint: str, body: Mapping[str, Any]) -> bool:
    """State at the provider: read (a previous response, stored items, files) or left behind (a stored response).

    The Responses API stores every answer unless told otherwise, and any later call may name its id: so only
    `store: false` is self-contained there. Chat completions store nothing unless told to.
    """
    for name in _STATEFUL_FIELDS:
        if body.get(name):
            return True
    if endpoint == "chat":
        return bool(body.get("store")) or any(map(_refers_to_files, body.get("messages") or ()))
    if body.get("store") is not False:
        return True
    items = body.get("input")
    return isinstance(items, list) and any(map(_is_stateful_item, items))


def _is_stateful_item(item: Mapping[str, Any]) -> bool:
    """An item that stands for something at the provider: a reference, reasoning only it can decrypt, a file."""
    kind = item.get("type", "message")
    return kind == "item_reference" or (kind == "reasoning" and "encrypted_content" in item) or _refers_to_files(item)


def _refers_to_files(item: Mapping[str, Any]) -> bool:
    content = item.get("content")
    if item.get("audio"):  # chat: an earlier spoken answer, by id
        return True
    if not isinstance(content, list):
        return False
    for part in content:
        if isinstance(part, Mapping):
            inner = part.get("file")
            if part.get("file_id") or (isinstance(inner, Mapping) and inner.get("file_id")):
                return True
    return False


def _has_unsupported_feature(features: CallFeatures, body: Mapping[str, Any]) -> bool:
    harmless = _HARMLESS[features.endpoint]
    for name, value in body.items():
        if name not in harmless and value not in _NOTHING:
            return True  # `functions`, `prediction`, `audio`, `web_search_options`, and whatever comes next
    for message in features.messages:
        if message.has_media:
            return True
    if not _only_functions(features.endpoint, body.get("tools")):
        return True
    if features.endpoint == "chat":
        return _chat_asks_for_more(body)
    return _responses_asks_for_more(body)


def _only_functions(endpoint: str, tools: object) -> bool:
    if tools is None:
        return True
    if not isinstance(tools, list):
        return False
    for tool in tools:
        if not isinstance(tool, Mapping) or tool.get("type", "function") != "function":
            return False
        if endpoint == "chat" and not isinstance(tool.get("function"), Mapping):
            return False
    return True


def _chat_asks_for_more(body: Mapping[str, Any]) -> bool:
    modalities = body.get("modalities")
    wanted = body.get("response_format")
    return bool(
        body.get("n") not in (None, 1)
        or body.get("logprobs")
        or body.get("top_logprobs")
        or body.get("logit_bias")  # token ids of the LLM's own vocabulary
        or modalities not in (None, ["text"])
        or (wanted is not None and _kind(wanted) not in _FORMATS)
        or not _known_choice(body.get("tool_choice"))
    )


def _responses_asks_for_more(body: Mapping[str, Any]) -> bool:
    items = body.get("input")
    if isinstance(items, list) and any(item.get("type", "message") not in _CONTENT_ITEMS for item in items):
        return True
    reasoning = body.get("reasoning")
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, Mapping) else None
    include = body.get("include") or ()
    return bool(
        body.get("top_logprobs")
        or not _PLAIN_REASONING_INCLUDES.issuperset(include)
        or (isinstance(reasoning, Mapping) and (reasoning.get("summary") or reasoning.get("generate_summary")))
        or (wanted is not None and _kind(wanted) not in _FORMATS)
        or not _known_choice(body.get("tool_choice"))
    )


def _kind(value: object) -> object:
    return value.get("type") if isinstance(value, Mapping) else value


def _known_choice(choice: object) -> bool:
    if isinstance(choice, Mapping):
        return choice.get("type") == "function"
    return choice is None or (isinstance(choice, str) and choice in _TOOL_CHOICES)


def _in_tool_loop_of_the_llm(messages: tuple[Message, ...]) -> bool:
    """Whether the messages after the user's last hold results of tool calls that an SLM did not issue."""
    return not all(_tool_calls_since_the_user(messages))


def in_tool_loop_of_an_slm(features: CallFeatures) -> bool:
    """Whether a call goes on with what an SLM began: it issued the tool calls since the user's last message."""
    calls = list(_tool_calls_since_the_user(features.messages))
    return bool(calls) and all(calls)


def _tool_calls_since_the_user(messages: tuple[Message, ...]) -> Iterator[bool]:
    """Of every tool call and result after the user's last message, newest first: whether an SLM issued it."""
    for message in reversed(messages):
        if message.role == "user":
            return
        if message.role in ("tool", "function"):
            yield (message.tool_call_id or "").startswith(SLM_TOOL_CALL_PREFIX)
        for call in message.tool_calls:
            yield call.call_id.startswith(SLM_TOOL_CALL_PREFIX)


#: Kept free for an answer when the client sets no bound: this many tokens, or a quarter of a small context.
_ANSWER_TOKENS = 512


def estimated_prompt_tokens(features: CallFeatures) -> int:
    """An upper estimate of what messages and tools take in an SLM's context.

    Three characters a token lie below every tokeniser's average on English and code (3.6-4.5). Scripts other than
    Latin cost about a token a character or more in small vocabularies; they are counted by their UTF-8 bytes / 2.
    """
    tokens = 8 * len(features.messages)
    for message in features.messages:
        tokens += _text_tokens(message.text)
        for call in message.tool_calls:
            tokens += 16 + _text_tokens(call.arguments)
    if features.body.get("tools"):
        tokens += len(str(features.body["tools"])) // 3
    return tokens


def _text_tokens(text: str) -> int:
    if text.isascii():  # a flag of the string, not a scan
        return len(text) // 3 + 1
    return max(len(text) // 3, len(text.encode("utf-8", "surrogatepass")) // 2) + 1


def exceeds_context(features: CallFeatures, max_context_tokens: int | None) -> bool:
    """Whether the call may not fit into an SLM's context; None means that its server states no limit."""
    if max_context_tokens is None:
        return False
    if features.prompt_chars > 16 * max_context_tokens:  # no tokeniser packs more; saves counting huge histories
        return True
    asked = [features.body.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    answer = max(
        (value for value in asked if isinstance(value, int)), default=min(_ANSWER_TOKENS, max_context_tokens // 4)
    )
    return estimated_prompt_tokens(features) + answer > max_context_tokens
