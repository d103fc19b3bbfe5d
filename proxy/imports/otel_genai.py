"""OpenTelemetry: exported spans (OTLP/JSON: a request a line or one file) with `gen_ai.*` on them, old and new.

- now: attributes `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions`,
  `gen_ai.tool.definitions`, as JSON, on the span or on an event of it.
  https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md
- v1.28 to v1.36: one event a message, `gen_ai.{system,user,assistant,tool}.message` and `gen_ai.choice`, as span events
  or as log records of the same span.
  https://github.com/open-telemetry/semantic-conventions/blob/v1.36.0/docs/gen-ai/gen-ai-events.md
- before, and OpenLLMetry: attributes `gen_ai.prompt.0.role`, `gen_ai.prompt.0.content`, `gen_ai.completion.0.content`,
  `llm.request.functions.0.name`; or events `gen_ai.content.prompt` and `gen_ai.content.completion`.
  https://github.com/traceloop/openllmetry
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from proxy.imports.messages import as_message, as_messages, completion, failure, usage_of
from proxy.imports.otlp import Attributes, attributes_of, records_of, span_of, spans_of, value_of
from proxy.imports.past import PastCall, milliseconds, moment
from proxy.imports.rows import Malformed, Row, decoded, first, number, text

Event = tuple[str, Attributes]

_OPERATIONS = frozenset({"chat", "text_completion", "generate_content"})
_PARAMETERS = {
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.stop_sequences": "stop",
    "gen_ai.request.seed": "seed",
    "gen_ai.openai.request.seed": "seed",
    "gen_ai.request.choice.count": "n",
}
_MESSAGE_EVENT = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_SESSIONS = ("gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id")
_STATUS_ERROR = (2, "STATUS_CODE_ERROR")


def read(rows: Iterable[Row]) -> Iterator[PastCall]:
    """Rows in, past calls out; spans that are no calls to a model, or carry no messages, are passed over.

    A span whose messages are log records waits for them until the file's end.

    Raises:
        Malformed: also when there are such spans, and not one has its messages: capturing them is off by default.
    """
    waiting: list[Span] = []
    logged: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
    kept = bare = 0
    for row in rows:
        if not any(name in row for name in ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")):
            raise Malformed('neither "resourceSpans" nor "resourceLogs": not OTLP/JSON')
        for record in records_of(row):
            name = text(first(record, ("eventName", "event_name")))
            attributes = attributes_of(record.get("attributes"))
            name = name or text(attributes.get("event.name"))
            if name is not None and name.startswith("gen_ai."):
                body = value_of(record.get("body") or {})
                logged[span_of(record)].append((name, attributes | (body if isinstance(body, dict) else {})))
        for raw in spans_of(row):
            span = Span(raw)
            if not span.is_call:
                continue
            if (call := span.call([])) is not None:
                kept += 1
                yield call
            else:
                waiting.append(span)
    for span in waiting:
        if (call := span.call(logged[span.key])) is not None:
            kept += 1
            yield call
        else:
            bare += 1
    if bare and not kept:
        raise Malformed(
            "there are spans of calls, but none has its messages: the instrumentation must capture their content"
        )


class Span:
    """One span of OTLP/JSON."""

    def __init__(self, raw: Row) -> None:
        self.raw = raw
        self.key = span_of(raw)
        self.attributes = attributes_of(raw.get("attributes"))
        self.events = [
            (text(event.get("name")) or "", attributes_of(event.get("attributes")))
            for event in raw.get("events") or []
            if isinstance(event, dict)
        ]

    @property
    def is_call(self) -> bool:
        """Whether this is a call to a model: agents' and tools' spans carry some of the same attributes."""
        operation = first(self.attributes, ("gen_ai.operation.name", "gen_ai.request.type", "llm.request.type"))
        if operation is not None:
            return operation in _OPERATIONS or operation == "completion"
        return "gen_ai.request.model" in self.attributes and "gen_ai.tool.name" not in self.attributes

    def call(self, logged: list[Event]) -> PastCall | None:
        """The call, or None when the messages or the answer aren't there.

        Args:
            logged: events of this span that came as log records.
        """
        events = self.events + logged
        details = {name: value for _, event in events for name, value in event.items() if name.startswith("gen_ai.")}
        attributes = details | self.attributes
        given, made, reasons = _by_attributes(attributes)
        if not given:
            given, made, reasons = _by_events(events)
        if not given:
            given, made, reasons = _by_index(attributes)
        code = (self.raw.get("status") or {}).get("code")
        failed = code in _STATUS_ERROR
        if not given or (not made and not failed):
            return None
        begin = moment(first(self.raw, ("startTimeUnixNano", "start_time_unix_nano")))
        end = moment(first(self.raw, ("endTimeUnixNano", "end_time_unix_nano")))
        status_code = number(first(attributes, ("http.response.status_code", "error.type")))
        return PastCall(
            request=_request(attributes, given),
            answer=_answer(attributes, made, reasons, int(begin.timestamp()) if begin else 0)
            if made
            else failure(text((self.raw.get("status") or {}).get("message")), text(attributes.get("error.type"))),
            status=200 if made else int(status_code) if status_code and 400 <= status_code < 600 else 500,
            at=begin,
            duration_ms=milliseconds(begin, end) or 0.0,
            first_token_ms=_first_token_ms(attributes),
            identity=" ".join(self.key),
            agent=text(attributes.get("gen_ai.agent.name")),
            session=text(first(attributes, _SESSIONS)) or self.key[0],
        )


def _first_token_ms(attributes: Attributes) -> float | None:
    seconds = number(attributes.get("gen_ai.response.time_to_first_chunk"))
    return None if seconds is None else seconds * 1000


def _request(attributes: Attributes, messages: list[dict[str, Any]]) -> dict[str, Any]:
    request = {"model": attributes.get("gen_ai.request.model"), "messages": messages}
    for name, parameter in _PARAMETERS.items():
        if name in attributes:
            request[parameter] = attributes[name]
    if tools := _tools(attributes):
        request["tools"] = tools
    if attributes.get("gen_ai.output.type") == "json":
        request["response_format"] = {"type": "json_object"}
    return request


def _tools(attributes: Attributes) -> list[dict[str, Any]]:
    definitions = decoded(attributes.get("gen_ai.tool.definitions"))
    if isinstance(definitions, list):
        return [
            tool if isinstance(tool.get("function"), dict)
            else {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
            for tool in definitions
            if isinstance(tool, dict) and tool.get("type", "function") == "function"
        ]  # fmt: skip
    functions = _indexed(attributes, "llm.request.functions.") or _indexed(attributes, "gen_ai.request.functions.")
    for function in functions:
        if "parameters" in function:
            function["parameters"] = decoded(function["parameters"])
    return [{"type": "function", "function": function} for function in functions]


def _answer(attributes: Attributes, made: list[dict[str, Any]], reasons: list[str], created: int) -> dict[str, Any]:
    finished = decoded(attributes.get("gen_ai.response.finish_reasons"))
    reasons = reasons or ([str(reason) for reason in finished] if isinstance(finished, list) else [])
    usage = usage_of(
        number(first(attributes, ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"))),
        number(first(attributes, ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"))),
        number(first(attributes, ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"))),
        number(first(attributes, ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"))),
    )
    return completion(
        made,
        model=text(first(attributes, ("gen_ai.response.model", "gen_ai.request.model"))),
        usage=usage,
        # The convention says `tool_call` where OpenAI says `tool_calls`.
        finish_reasons=["tool_calls" if reason == "tool_call" else reason for reason in reasons],
        identity=text(attributes.get("gen_ai.response.id")),
        created=created,
    )


# Three ways to write the messages -------------------------------------------------------------------------------------

Said = tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]  # prompt, answers, finish reasons


def _by_attributes(attributes: Attributes) -> Said:
    """`gen_ai.input.messages` and the like."""
    given = _messages_of_parts(attributes.get("gen_ai.input.messages"))
    system = decoded(attributes.get("gen_ai.system_instructions"))
    if given and system:
        parts = system if isinstance(system, list) else [{"type": "text", "content": system}]
        given = [{"role": "system", "content": _texts(parts)}, *given]
    output = decoded(attributes.get("gen_ai.output.messages"))
    answers = [message for message in output if isinstance(message, dict)] if isinstance(output, list) else []
    reasons = [str(message["finish_reason"]) for message in answers if message.get("finish_reason")]
    return given, _messages_of_parts(answers), reasons


def _messages_of_parts(value: Any) -> list[dict[str, Any]]:
    """Messages of the convention as OpenAI's: a tool's response is a message of its own there."""
    messages: list[dict[str, Any]] = []
    value = decoded(value)
    for message in value if isinstance(value, list) else []:
        if not isinstance(message, dict) or not isinstance(message.get("parts"), list):
            messages.append(as_message({k: v for k, v in message.items() if k != "finish_reason"}, "user"))
            continue
        parts = [part for part in message["parts"] if isinstance(part, dict)]
        calls = [part for part in parts if part.get("type") == "tool_call"]
        results = [part for part in parts if part.get("type") == "tool_call_response"]
        for part in results:
            content = part.get("response", part.get("result"))
            content = content if isinstance(content, str) else orjson.dumps(content).decode()
            messages.append({"role": "tool", "tool_call_id": part.get("id") or "", "content": content})
        said = [part for part in parts if part.get("type") not in ("tool_call", "tool_call_response", "reasoning")]
        if said or calls or not results:
            content = None if calls and not said else _texts(said)
            turned: dict[str, Any] = {"role": message.get("role") or "user", "content": content}
            messages.append(as_message(turned | ({"tool_calls": calls} if calls else {})))
    return messages


def _texts(parts: list[Any]) -> str | list[dict[str, Any]]:
    """A message's content: its text; or a list of parts where there is more than text."""
    if all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        return "".join(str(part.get("content") or "") for part in parts)
    content: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case {"type": "text", "content": str(said)}:
                content.append({"type": "text", "text": said})
            case {"type": "uri", "modality": "image", "uri": str(uri)}:
                content.append({"type": "image_url", "image_url": {"url": uri}})
            case {"type": "blob", "modality": "image", "content": str(data)}:
                url = f"data:{part.get('mime_type') or 'image/png'};base64,{data}"
                content.append({"type": "image_url", "image_url": {"url": url}})
            case _:
                content.append({"type": "text", "text": orjson.dumps(part).decode()})
    return content


def _by_events(events: list[Event]) -> Said:
    """One event a message, and one a choice."""
    given: list[dict[str, Any]] = []
    choices: dict[int, tuple[dict[str, Any], str | None]] = {}
    for name, event in events:
        if name == "gen_ai.content.prompt":
            given += as_messages(decoded(event.get("gen_ai.prompt")))
        elif name == "gen_ai.content.completion":
            made = decoded(event.get("gen_ai.completion"))
            for message in made if isinstance(made, list) else [made]:
                choices[len(choices)] = as_message(message), None
        elif name == "gen_ai.choice":
            message = decoded(event.get("message", event.get("content")))
            message = {"content": message} if isinstance(message, str | list) else message
            if isinstance(message, dict):
                calls = decoded(message.get("tool_calls", event.get("tool_calls")))
                message = message | ({"tool_calls": calls} if calls else {})
                choices[int(number(event.get("index")) or 0)] = as_message(message), text(event.get("finish_reason"))
        elif matched := _MESSAGE_EVENT.fullmatch(name):
            said = {
                k: decoded(v) if k == "tool_calls" else v
                for k, v in event.items()
                if not k.startswith(("gen_ai.", "event."))
            }
            if said.get("role") is None:
                said["role"] = matched[1]
            if matched[1] == "tool" and "id" in said:
                said["tool_call_id"] = said.pop("id")
            given.append(as_message(said))  # fmt: skip
    ordered = [choices[index] for index in sorted(choices)]
    return given, [message for message, _ in ordered], [reason for _, reason in ordered if reason]


def _by_index(attributes: Attributes) -> Said:
    """`gen_ai.prompt.0.content` and the like."""
    prompts, answers = _indexed(attributes, "gen_ai.prompt."), _indexed(attributes, "gen_ai.completion.")
    reasons = [str(answer.pop("finish_reason")) for answer in answers if answer.get("finish_reason")]
    for message in prompts + answers:
        message["content"] = decoded(message.get("content"))
        if isinstance(message["content"], dict):
            message["content"] = orjson.dumps(message["content"]).decode()
    return [as_message(prompt, "user") for prompt in prompts], [as_message(answer) for answer in answers], reasons


def _indexed(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """`prefix0.name`, `prefix0.tool_calls.0.id`, … as the list that was flattened into them."""
    items: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    calls: defaultdict[int, defaultdict[int, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for name, value in attributes.items():
        index, _, field = name.removeprefix(prefix).partition(".")
        if not name.startswith(prefix) or not index.isdigit() or not field:
            continue
        if field.startswith("tool_calls."):
            _, place, part = field.split(".", 2)
            calls[int(index)][int(place)][part] = value
        else:
            items[int(index)][field] = value
    for position, found in calls.items():
        items[position]["tool_calls"] = [found[place] for place in sorted(found)]
    return [items[position] for position in sorted(items)]
