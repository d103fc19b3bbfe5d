"""The rest of a provider's surface, as far as clients use it: models, embeddings, files, audio; anything else is echoed.

Everything is computed from the request, so that the same request has the same answer in every process.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from proxy.errors import error_body

DIMENSIONS = 1536
SPEECH = bytes(range(256)) * 64


def openai_headers() -> dict[str, str]:
    """What OpenAI sends with every answer."""
    return {
        "x-request-id": "req_replay",
        "openai-processing-ms": "1",
        "openai-version": "2020-10-01",
        "openai-organization": "replay",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-tokens": "1999900",
    }


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A body in JSON with OpenAI's headers."""
    content = orjson.dumps(value)
    return web.Response(
        body=content, status=status, headers={**openai_headers(), **(headers or {})}, content_type="application/json"
    )


def error(status: int, message: str, code: str | None = None) -> web.Response:
    """An error in OpenAI's shape; with `retry-after` where OpenAI sends it."""
    kinds = {401: "invalid_request_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    headers = openai_headers() | ({"retry-after": "1"} if status in (429, 503) else {})
    body = error_body(message, kind, code)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


class Provider:
    """Everything but answers. Uploaded files live as long as it does."""

    def __init__(self, models: Callable[[], set[str]]) -> None:
        self._models = models
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes; the echo last, because it takes everything."""
        router.add_get("/v1/models", self._list_models)
        router.add_get("/v1/models/{id}", self._get_model)
        router.add_post("/v1/embeddings", self._embed)
        router.add_post("/v1/files", self._upload)
        router.add_get("/v1/files", self._list_files)
        router.add_get("/v1/files/{id}", self._get_file)
        router.add_delete("/v1/files/{id}", self._delete_file)
        router.add_get("/v1/files/{id}/content", self._download)
        router.add_post("/v1/audio/speech", self._speak)
        router.add_post("/v1/audio/transcriptions", self._transcribe)
        router.add_route("*", "/v1/{rest:.*}", self._echo)

    async def _list_models(self, request: web.Request) -> web.Response:
        return json_answer({"object": "list", "data": [_model(name) for name in sorted(self._models())]})

    async def _get_model(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name not in self._models():
            return error(404, f"The model `{name}` does not exist or you do not have access to it.", "model_not_found")
        return json_answer(_model(name))

    async def _embed(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        size = int(body.get("dimensions") or DIMENSIONS)
        packed = body.get("encoding_format") == "base64"
        rows = [
            {"object": "embedding", "index": index, "embedding": _pack(vector) if packed else vector}
            for index, vector in enumerate(embedding(text, size) for text in texts)
        ]
        tokens = sum(max(1, len(str(text)) // 4) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_answer({"object": "list", "data": rows, "model": body.get("model"), "usage": usage})

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form.get("file")
        if not isinstance(upload, web.FileField):
            return error(400, "'file' is a required property")
        content = upload.file.read()
        name = f"file-{hashlib.blake2b(content, digest_size=8).hexdigest()}"
        row = {
            "id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": upload.filename,
            "purpose": form.get("purpose"), "status": "processed",
        }  # fmt: skip
        self._files[name] = row, content
        return json_answer(row)

    async def _list_files(self, request: web.Request) -> web.Response:
        return json_answer({"object": "list", "data": [row for row, _ in self._files.values()], "has_more": False})

    async def _get_file(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["id"])
        return json_answer(found[0]) if found else _no_file(request)

    async def _delete_file(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        gone = self._files.pop(name, None)
        return json_answer({"id": name, "object": "file", "deleted": True}) if gone else _no_file(request)

    async def _download(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["id"])
        if found is None:
            return _no_file(request)
        return web.Response(body=found[1], headers=openai_headers(), content_type="application/octet-stream")

    async def _speak(self, request: web.Request) -> web.Response:
        return web.Response(body=SPEECH, headers=openai_headers(), content_type="audio/mpeg")

    async def _transcribe(self, request: web.Request) -> web.Response:
        upload = (await request.post()).get("file")
        heard = upload.file.read() if isinstance(upload, web.FileField) else b""
        return json_answer({"text": f"{len(heard)} bytes of sound"})

    async def _echo(self, request: web.Request) -> web.Response:
        """Whatever comes next: the body as it came."""
        return web.Response(body=await request.read(), headers=openai_headers() | {"x-echo-method": request.method})


def embedding(text: Any, size: int) -> list[float]:
    """A vector of unit length that depends on nothing but the text."""
    seed = hashlib.shake_128(str(text).encode()).digest(2 * size)
    values = [number / 32768 - 1 for number in struct.unpack(f"<{size}H", seed)]
    norm = sum(value * value for value in values) ** 0.5
    return [value / norm for value in values]


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "replay"}


def _no_file(request: web.Request) -> web.Response:
    return error(404, f"No such File object: {request.match_info['id']}")
