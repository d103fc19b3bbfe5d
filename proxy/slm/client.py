"""One attempt at an SLM: rewrite the request, enforce the contract, verify the answer, or give way to the LLM.

The SLM is always asked for a whole answer, also for a streaming client: only a whole answer can be verified, and a
small model is fast enough to hold it back. What the client gets has the shape that it asked for, and no more.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import orjson
import structlog

from proxy.logs import OncePerMinute
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.slm.attempts import Declined, Served
from proxy.slm.breaker import Breaker
from proxy.wire import chat, responses, translation
from proxy.wire.endpoint import Endpoint
from router.contract import Answer, Dialect, OutputContract, constrain, violation
from router.decision import Decision, Reason
from router.features import CallFeatures, ToolCall
from router.policy import SLM_TOOL_CALL_PREFIX
from router.promotion import Promotion
from storage.records import Attempt

log = structlog.get_logger()

# What the LLM knows and SLM servers refuse or misread.
_LLM_ONLY = (
    "store", "metadata", "service_tier", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "reasoning_effort", "verbosity", "stream", "stream_options",
)  # fmt: skip
_MESSAGE_FIELDS = ("role", "content", "refusal", "tool_calls", "function_call")
_CALLS_OWN_FAULT = frozenset({400, 413, 422})
_USAGE_FIELDS = ("prompt_tokens", "completion_tokens", "total_tokens")


class Refused(Exception):
    """The SLM's answer can't be served."""

    def __init__(self, reason: Reason, detail: str, status: int | None = None, answer: bytes = b"") -> None:
        super().__init__(detail)
        self.reason, self.status, self.answer = reason, status, answer

    @property
    def is_the_servers_fault(self) -> bool:
        """Whether it speaks against the server: not where it found fault with this one request."""
        return self.reason is Reason.SLM_TIMEOUT or (
            self.reason is Reason.SLM_ERROR and self.status not in _CALLS_OWN_FAULT
        )


class SlmClient:
    """Attempts at all SLM servers of `UNDERSTUDY_SLM_URL`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: Settings,
        metrics: Metrics,
        on_missing: Callable[[Promotion], None] = lambda promotion: None,
    ) -> None:
        """
        Args:
            on_missing: told when a server does not know a promoted model (it was restarted): load it again.
        """
        self._session = session
        self._settings = settings
        self._on_missing = on_missing
        self._log_now = OncePerMinute()
        self._breakers: dict[str, Breaker] = {}
        for name in settings.slm_url:
            metrics.know_slm(name)
            self._breakers[name] = Breaker(time.monotonic, lambda up, name=name: metrics.show_slm(name, up))  # type: ignore[misc]

    async def attempt(
        self, endpoint: Endpoint, body: dict[str, Any], features: CallFeatures, decision: Decision, deadline: float
    ) -> Served | Declined:
        """See `proxy.slm.attempts.SlmTransport`."""
        promotion, contract = decision.promotion, decision.contract
        assert promotion is not None
        assert contract is not None
        begun = time.perf_counter()

        def declined(reason: Reason, status: int | None = None, answer: bytes = b"") -> Declined:
            took = (time.perf_counter() - begun) * 1000
            return Declined(reason, Attempt(promotion.slm, promotion.model, reason.value, status, took, answer))

        breaker = self._breakers.get(promotion.slm)
        if breaker is None or not breaker.admits():
            return declined(Reason.SLM_UNAVAILABLE)
        try:
            completion = await self._complete(endpoint, body, promotion, contract, deadline)
            breaker.succeeded()
            _verify(completion, contract, _asked_confidence(promotion, self._settings))
            return _served(endpoint, body, features, completion, promotion)
        except translation.Untranslatable:
            breaker.abandoned()
            return declined(Reason.UNSUPPORTED_FEATURE)
        except Refused as refused:
            breaker.failed() if refused.is_the_servers_fault else breaker.succeeded()
            if refused.reason is Reason.SLM_UNAVAILABLE:
                self._on_missing(promotion)
            if self._log_now(refused.reason.value):
                log.warning("slm.declined", slm=promotion.slm, reason=refused.reason.value, detail=str(refused)[:300])
            return declined(refused.reason, refused.status, refused.answer)
        except asyncio.CancelledError:
            breaker.abandoned()
            raise
        except Exception:  # fails open: whatever an SLM's answer does to us, the LLM can answer
            breaker.abandoned()
            if self._log_now("unexpected"):
                log.exception("slm.declined", slm=promotion.slm, reason=Reason.SLM_ERROR.value)
            return declined(Reason.SLM_ERROR)

    async def _complete(
        self,
        endpoint: Endpoint,
        body: dict[str, Any],
        promotion: Promotion,
        contract: OutputContract,
        deadline: float,
    ) -> dict[str, Any]:
        """Ask within the contract, and once more in OpenAI's own words of a server that refuses vLLM's.

        `transformers serve` does so at once, with 422: not worth remembering, a server may be replaced by another.

        Raises:
            Refused: anything but a completion.
            Untranslatable: the call has no chat form.
        """
        try:
            return await self._ask(promotion, _chat_request(endpoint, body, promotion, contract), deadline)
        except Refused as refused:
            if refused.status != 422 or b"structured_outputs" not in refused.answer:
                raise
        request = _chat_request(endpoint, body, promotion, contract, Dialect.OPENAI)
        return await self._ask(promotion, request, deadline)

    async def _ask(self, promotion: Promotion, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Get a completion within the SLM's time.

        Raises:
            Refused: anything but a completion.
        """
        loop = asyncio.get_running_loop()
        until = min(loop.time() + self._settings.slm_timeout_seconds, deadline)
        headers = {"content-type": "application/json"}
        if self._settings.slm_api_key:
            headers["authorization"] = f"Bearer {self._settings.slm_api_key}"
        url = f"{self._settings.slm_url[promotion.slm]}/chat/completions"
        try:
            async with (
                asyncio.timeout_at(until),
                self._session.post(url, data=orjson.dumps(request), headers=headers, allow_redirects=False) as answer,
            ):
                data = await answer.read()
                status = answer.status
        except TimeoutError as error:
            raise Refused(Reason.SLM_TIMEOUT, "no whole answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Refused(Reason.SLM_ERROR, f"{type(error).__name__}: {error}") from error
        if status != 200:
            raise _error(status, data)
        try:
            completion = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Refused(Reason.SLM_ERROR, "the answer is no JSON", status, data) from error
        if not isinstance(completion, dict):
            raise Refused(Reason.SLM_ERROR, "the answer is no completion", status, data)
        return completion


def _error(status: int, data: bytes) -> Refused:
    """What an error answer means. vLLM has four shapes of them; its status and words tell more than its types."""
    text = data[:2000].decode("utf-8", "replace")
    if status == 404 and "does not exist" in text:
        return Refused(Reason.SLM_UNAVAILABLE, "the server does not know the model", status, data)
    if status == 400 and "Server is pinned to" in text:  # `transformers serve`, started with another model
        return Refused(Reason.SLM_UNAVAILABLE, text, status, data)
    if status == 400 and ("context length" in text or "max_model_len" in text or "input_tokens" in text):
        return Refused(Reason.CONTEXT_TOO_LONG, text, status, data)
    return Refused(Reason.SLM_ERROR, f"HTTP {status}: {text}", status, data)


def _chat_request(
    endpoint: Endpoint,
    body: dict[str, Any],
    promotion: Promotion,
    contract: OutputContract,
    dialect: Dialect = Dialect.VLLM,
) -> dict[str, Any]:
    """The client's request as the SLM gets it: everything that shapes the answer stays."""
    request = translation.to_chat(body) if endpoint is Endpoint.RESPONSES else dict(body)
    for name in _LLM_ONLY:
        request.pop(name, None)
    request["model"] = promotion.model
    request["logprobs"] = True
    if "max_completion_tokens" in request:
        request["max_tokens"] = request.pop("max_completion_tokens")
    constrain(contract, request, dialect)
    return request


def _asked_confidence(promotion: Promotion, settings: Settings) -> float | None:
    """How sure an answer must be: the stricter of the certificate's and the operator's word.

    None asks for nothing. 0 asks for a known confidence: whether others agree with the LLM was not certified.
    """
    bars = (promotion.min_confidence, settings.slm_min_confidence or None)
    return max((bar for bar in bars if bar is not None), default=None)


def _verify(completion: dict[str, Any], contract: OutputContract, min_confidence: float | None) -> None:
    """See that the answer is whole, keeps the contract, and that the model was sure of it.

    Args:
        min_confidence: mean token probability; None serves answers without one too.

    Raises:
        Refused: `OUTPUT_INVALID` or `LOW_CONFIDENCE`.
    """

    def refuse(reason: Reason, detail: str) -> Refused:
        return Refused(reason, detail, 200, orjson.dumps(completion))

    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise refuse(Reason.OUTPUT_INVALID, "no choice with a message")
    if choice.get("finish_reason") not in ("stop", "tool_calls", "function_call"):
        raise refuse(Reason.OUTPUT_INVALID, f"finish reason {choice.get('finish_reason')!r}")
    broken = violation(contract, _answer(message))
    if broken is not None:
        raise refuse(Reason.OUTPUT_INVALID, broken)
    if min_confidence is not None:
        confidence = confidence_of(completion)
        if confidence is None or confidence < min_confidence:
            raise refuse(Reason.LOW_CONFIDENCE, f"mean token probability {confidence}")


def _answer(message: Mapping[str, Any]) -> Answer:
    content = message.get("content")
    calls = message.get("tool_calls")
    found: list[ToolCall] = []
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        function = function if isinstance(function, dict) else {}
        found.append(ToolCall("", str(function.get("name", "")), str(function.get("arguments", ""))))
    return Answer(content if isinstance(content, str) else "", tuple(found))


def confidence_of(completion: Mapping[str, Any]) -> float | None:
    """Mean token probability of a completion's answer; None where it has no log-probabilities."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    return mean_probability(choice.get("logprobs")) if isinstance(choice, Mapping) else None


def mean_probability(logprobs: object) -> float | None:
    """Geometric mean of the tokens' probabilities, in [0, 1]; None where there are none."""
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    values = [token.get("logprob") for token in tokens if isinstance(token, Mapping)]
    known = [value for value in values if isinstance(value, int | float)]
    return math.exp(sum(known) / len(known)) if known else None


def _served(
    endpoint: Endpoint, body: dict[str, Any], features: CallFeatures, completion: dict[str, Any], promotion: Promotion
) -> Served:
    """The verified completion in the form that the client asked for."""
    named = isinstance(body.get("tool_choice"), dict)
    clean = _cleaned(completion, promotion.model, named)
    if endpoint is Endpoint.RESPONSES:
        response = translation.from_chat(clean, body)
        data = responses.render(response) if features.stream else orjson.dumps(response)
    elif features.stream:
        options = body.get("stream_options")
        include_usage = isinstance(options, dict) and options.get("include_usage") is True
        data = chat.render(clean, include_usage=include_usage)
    else:
        data = orjson.dumps(clean)
    content_type = b"text/event-stream; charset=utf-8" if features.stream else b"application/json"
    return Served(200, [], content_type, data, promotion.model, promotion.slm, confidence_of(completion))


def _cleaned(completion: dict[str, Any], model: str, named: bool) -> dict[str, Any]:
    """Only what OpenAI's completions have; tool calls carry our prefix, so that their loop is known as an SLM's.

    Args:
        named: the client itself said which tool to call. Only then does OpenAI end a tool call with `stop`; vLLM does
            so too when it was us who named it.
    """
    choice = completion["choices"][0]
    finish_reason = choice["finish_reason"]
    message = {name: value for name in _MESSAGE_FIELDS if (value := choice["message"].get(name)) is not None}
    message.setdefault("content", None)
    message.setdefault("refusal", None)
    if message.get("tool_calls"):
        message["tool_calls"] = [
            {"id": SLM_TOOL_CALL_PREFIX + secrets.token_hex(12), "type": "function", "function": call["function"]}
            for call in message["tool_calls"]
        ]
        finish_reason = finish_reason if named else "tool_calls"
    else:
        message.pop("tool_calls", None)
    usage = completion.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return {
        "id": str(completion.get("id") or f"chatcmpl-{secrets.token_hex(12)}"),
        "object": "chat.completion",
        "created": completion.get("created") or int(time.time()),
        "model": model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason},
        ],
        "usage": {name: usage.get(name) or 0 for name in _USAGE_FIELDS},
    }
