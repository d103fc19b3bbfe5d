"""LiteLLM: rows of its spend log, and the payload that it gives to its logging callbacks (S3, GCS, Azure, files).

- spend log, from `/spend/logs` or the table `LiteLLM_SpendLogs` (JSON or CSV): `request_id`, `call_type`, `model`,
  `startTime`, `endTime`, `completionStartTime`, `prompt_tokens`, `completion_tokens`, `metadata`, `session_id`,
  `status`, `messages`, `response`, `proxy_server_request`. The last three are empty unless
  `store_prompts_in_spend_logs` is on. `schema.prisma` and `litellm-js/spend-logs/src/_types.ts` in https://github.com/BerriAI/litellm
- `StandardLoggingPayload`: `id`, `trace_id`, `call_type`, `stream`, `status`, times as seconds, `messages`, `response`,
  `model_parameters`, `error_str`, `error_information`. https://docs.litellm.ai/docs/proxy/logging_spec
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from proxy.imports.messages import as_message, as_messages, completion, failure, usage_of
from proxy.imports.past import PastCall, milliseconds, moment
from proxy.imports.rows import Malformed, Row, decoded, first, mapping, number, text

#: What a row calls its kind, asynchronous or not → where that call goes; others are no calls to a language model.
_PATHS = {
    "completion": "/v1/chat/completions",
    "text_completion": "/v1/completions",
    "responses": "/v1/responses",
    "embedding": "/v1/embeddings",
    "anthropic_messages": "/v1/messages",
}
_REDACTED = "redacted-by-litellm"


def read(rows: Iterable[Row]) -> Iterator[PastCall]:
    """Rows in, past calls out.

    Raises:
        Malformed: also when no row has its messages, because the setting that keeps them is off.
    """
    kept = bare = 0
    for row in rows:
        call = _call(row)
        kept += call is not None
        bare += call is None
        if call is not None:
            yield call
    if bare and not kept:
        raise Malformed("no row has its messages and response: LiteLLM keeps them with store_prompts_in_spend_logs")


def _call(row: Row) -> PastCall | None:
    kind = text(row.get("call_type"))
    identity = text(first(row, ("request_id", "id")))
    if kind is None or identity is None:
        raise Malformed('no "call_type", or neither "request_id" nor "id": not a row of LiteLLM')
    path = _PATHS.get(kind.removeprefix("a") if kind.removeprefix("a") in _PATHS else kind)
    request = _request(row, path)
    if path is None or request is None:
        return None
    status, answer = _answer(row, path)
    if answer is None:
        return None
    begin, end = moment(row.get("startTime")), moment(row.get("endTime"))
    first_token = moment(row.get("completionStartTime"))
    metadata = mapping(row.get("metadata"))
    return PastCall(
        request=request,
        answer=answer,
        path=path,
        status=status,
        at=begin,
        duration_ms=milliseconds(begin, end) or 0.0,
        # LiteLLM repeats the end where nothing was streamed.
        first_token_ms=milliseconds(begin, first_token) if first_token != end else None,
        identity=identity,
        agent=text(metadata.get("user_api_key_alias")),
        session=text(first(row, ("session_id", "trace_id"))),
    )


def _request(row: Row, path: str | None) -> dict[str, Any] | None:
    """The body that the client sent to LiteLLM, where that was kept; else put together from what was."""
    sent = mapping(row.get("proxy_server_request"))
    sent = mapping(sent["body"]) if "body" in sent else sent
    if any(sent.get(name) for name in ("messages", "input", "prompt")):
        return sent
    messages = decoded(row.get("messages"))
    if not messages or _REDACTED in str(messages)[:200]:
        return None
    request = {"model": first(row, ("model_group", "model"))} | mapping(row.get("model_parameters"))
    match path:
        case "/v1/responses" | "/v1/embeddings":
            return request | {"input": messages}
        case "/v1/completions":
            return request | {"prompt": messages}
    return request | {"messages": as_messages(messages)}


def _answer(row: Row, path: str) -> tuple[int, dict[str, Any] | None]:
    metadata = mapping(row.get("metadata"))
    error = mapping(row.get("error_information")) or mapping(metadata.get("error_information"))
    if "failure" in (row.get("status"), metadata.get("status")):
        code = number(error.get("error_code"))
        message = text(row.get("error_str")) or text(error.get("error_message"))
        return int(code) if code and 400 <= code < 600 else 500, failure(message, text(error.get("error_class")))
    response = decoded(row.get("response"))
    if not response or _REDACTED in str(response)[:200]:
        return 200, None
    if isinstance(response, dict) and "role" not in response:
        return 200, response
    if path != "/v1/chat/completions":
        raise Malformed(f'"response" is no object: {str(response)[:40]!r}')
    usage = usage_of(number(row.get("prompt_tokens")), number(row.get("completion_tokens")))
    return 200, completion([as_message(response)], model=text(row.get("model")), usage=usage)
