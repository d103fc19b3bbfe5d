"""A small vLLM on a real socket that misbehaves on command, in the shapes that vLLM 0.32 was seen to use.

What it answers is set by its attributes; `fault` names how it fails instead:

    dead            the port is closed
    reset           closes before the headers
    stall           never sends the headers
    stall-body      half of the body, then nothing
    cut             half of the body, then closes
    redirect        302 to elsewhere
    garbage         200 with HTML
    no-object       200 with a JSON list
    unauthorized    401, `error` is a string
    lost            404, `detail` instead of `error`
    unknown-model   404
    too-long        400, the prompt is longer than the context
    max-tokens      400, the prompt and max_tokens are
    bad-request     400, a validation error
    busy            503 without retry-after
    engine-dead     500
    pinned          400, as `transformers serve` that was started with another model
    no-extras       422 to vLLM's own fields, as `transformers serve`
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

BASE = "/models/base"
_ERRORS: dict[str, tuple[int, object]] = {
    "unauthorized": (401, {"error": "Unauthorized"}),
    "lost": (404, {"detail": "Not Found"}),
    "unknown-model": (
        404,
        {
            "error": {
                "message": "The model `triage` does not exist. Valid aliases: tiny.",
                "type": "NotFoundError",
                "param": "model",
                "code": 404,
            }
        },
    ),
    "too-long": (
        400,
        {
            "error": {
                "message": "This model's maximum context length is 1024 tokens. However, your prompt contains at least "
                "1025 input tokens. Please reduce the length of the input prompt.",
                "type": "BadRequestError",
                "param": "input_tokens",
                "code": 400,
            }
        },
    ),
    "max-tokens": (
        400,
        {
            "error": {
                "message": "max_tokens=5000 cannot be greater than max_model_len=1024. Please request fewer tokens.",
                "type": "BadRequestError",
                "param": "max_tokens",
                "code": 400,
            }
        },
    ),
    "pinned": (400, {"detail": "Server is pinned to '/models/other'; requested 'triage'."}),
    "bad-request": (
        400,
        {
            "error": {
                "message": "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages')}",
                "type": "Bad Request",
                "param": "body.messages",
                "code": 400,
            }
        },
    ),
    "busy": (
        503,
        {
            "error": {
                "message": "The engine is currently busy. Please try again later.",
                "type": "Service Unavailable",
                "param": None,
                "code": 503,
            }
        },
    ),
    "engine-dead": (
        500,
        {
            "error": {
                "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
                "type": "InternalServerError",
                "param": None,
                "code": 500,
            }
        },
    ),
}


class FakeVllm:
    """The server, in a thread of its own.

    Attributes:
        message: what it answers, without the role.
        finish_reason: how it says that the answer ended.
        probability: of every token that it claims to have generated.
        answerer: gives the content and its probability for a request, instead of `message` and `probability`.
        answer: the whole answer's body, instead of one made of the above.
        fault: see the module; empty: none.
        seen: the last chat request's body.
        cancelled: calls whose client left.
        base: path of its base model.
        adapters: loaded ones, name → path.
        loaded: the names of all that ever were, in order.
        can_load: whether adapters can be loaded at run time.
        listed: the names that it lists, where they aren't what it has.
        called: what it calls any model that it is asked for, with `{}` for the asked name; empty: it knows its own.
    """

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"content": "fine"}
        self.finish_reason = "stop"
        self.probability = 0.99
        self.answerer: Callable[[dict[str, Any]], tuple[str, float]] | None = None
        self.answer: object = None
        self.fault = ""
        self.seen: dict[str, Any] = {}
        self.cancelled = 0
        self.base = BASE
        self.adapters: dict[str, str] = {}
        self.loaded: list[str] = []
        self.can_load = True
        self.listed: list[str] | None = None
        self.called = ""
        self._port = 0
        self._start()

    def __enter__(self) -> FakeVllm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.die()

    @property
    def url(self) -> str:
        """Its base, ending in `/v1`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def die(self) -> None:
        """Close the port and every connection; adapters are forgotten, as by a process that ends."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
        self.adapters = {}

    def revive(self) -> None:
        """Serve again, on the same port."""
        self._start()

    def _start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    async def _run(self, ready: threading.Event) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        server = site._server
        assert isinstance(server, asyncio.Server)
        self._port = server.sockets[0].getsockname()[1]
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.seen = asked = orjson.loads(await request.read())
        try:
            return await self._answer(request, asked)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def _answer(self, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        fault = self.fault
        if fault == "stall":
            await asyncio.sleep(60)
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
        if fault == "redirect":
            return web.Response(status=302, headers={"location": "http://127.0.0.1:9/v1/chat/completions"})
        if fault == "garbage":
            return web.Response(body=b"<html>bad gateway</html>", content_type="text/html")
        if fault == "no-object":
            return web.json_response([])
        if fault in _ERRORS:
            status, error = _ERRORS[fault]
            return web.json_response(error, status=status)
        model = str(asked.get("model"))
        if fault == "no-extras" and "structured_outputs" in asked:
            detail = "Unexpected fields in the request: {'structured_outputs'}"
            return web.json_response({"detail": detail}, status=422)
        if self.called:
            model = self.called.format(model)
        elif model not in ("tiny", *self.adapters):
            return web.json_response(_ERRORS["unknown-model"][1], status=404)
        data = orjson.dumps(self._completion(model, asked) if self.answer is None else self.answer)
        if fault in ("cut", "stall-body"):
            answer = web.StreamResponse(headers={"content-type": "application/json"})
            answer.content_length = len(data)
            await answer.prepare(request)
            await answer.write(data[: len(data) // 2])
            await asyncio.sleep(60 if fault == "stall-body" else 0.05)
            assert request.transport is not None
            request.transport.abort()
            return answer
        return web.Response(body=data, content_type="application/json")

    def _completion(self, model: str, asked: dict[str, Any]) -> dict[str, Any]:
        said, probability = self.message, self.probability
        if self.answerer is not None:
            content, probability = self.answerer(asked)
            said = {"content": content}
        logprob = math.log(probability)
        message = {"role": "assistant", "content": None, "refusal": None, "annotations": None, "audio": None,
                   "function_call": None, "reasoning": None} | said  # fmt: skip
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": {"content": [{"token": "x", "logprob": logprob, "bytes": [120], "top_logprobs": []}]},
                    "finish_reason": self.finish_reason,
                    "stop_reason": None,
                    "token_ids": None,
                    "routed_experts": None,
                }
            ],
            "service_tier": None, "system_fingerprint": "vllm-0.32.0-00000000",
            "usage": {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": None},
            "prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None, "kv_transfer_params": None,
            "ec_transfer_params": None, "metrics": None,
        }  # fmt: skip

    async def _models(self, request: web.Request) -> web.Response:
        if self.fault in _ERRORS:
            status, error = _ERRORS[self.fault]
            return web.json_response(error, status=status)
        if self.listed is not None:
            return web.json_response({"object": "list", "data": [{"id": name} for name in self.listed]})
        common = {"object": "model", "created": 1, "owned_by": "vllm", "permission": []}
        rows = [{**common, "id": "tiny", "root": self.base, "parent": None, "max_model_len": 1024}]
        rows += [
            {**common, "id": name, "root": path, "parent": "tiny", "max_model_len": None}
            for name, path in self.adapters.items()
        ]
        return web.json_response({"object": "list", "data": rows})

    async def _load(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        name, path = body["lora_name"], body["lora_path"]
        if not self.can_load:
            return web.json_response({"detail": "Not Found"}, status=404)
        if path.endswith("missing"):
            message = f"Loading lora {name} failed: No adapter found for {path}"
            error = {"message": message, "type": "NotFoundError", "param": None, "code": 404}
            return web.json_response({"error": error}, status=404)
        if path.endswith("rank-64"):
            message = "LoRA rank 64 is greater than max_lora_rank 16."
            error = {"message": message, "type": "InternalServerError", "param": None, "code": 500}
            return web.json_response({"error": error}, status=500)
        self.adapters[name] = path
        self.loaded.append(name)
        return web.Response(body=f"Success: LoRA adapter '{name}' added successfully.".encode())  # plain text, unnamed

    async def _unload(self, request: web.Request) -> web.Response:
        name = orjson.loads(await request.read())["lora_name"]
        if self.adapters.pop(name, None) is None:
            error = {"message": f"The lora adapter '{name}' cannot be found.", "type": "NotFoundError", "code": 404}
            return web.json_response({"error": error}, status=404)
        return web.Response(body=f"Success: LoRA adapter '{name}' removed successfully.".encode())
