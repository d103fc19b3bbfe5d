"""Which part of OpenAI's surface a request is for."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """The parts of the surface. Bounded, because it is a metric label and a column of the log."""

    CHAT = "chat"
    RESPONSES = "responses"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    MODELS = "models"
    FILES = "files"
    UPLOADS = "uploads"
    BATCHES = "batches"
    AUDIO = "audio"
    IMAGES = "images"
    MODERATIONS = "moderations"
    FINE_TUNING = "fine_tuning"
    VECTOR_STORES = "vector_stores"
    ASSISTANTS = "assistants"
    REALTIME = "realtime"
    OTHER = "other"


#: First path segment after /v1 → endpoint, where everything below it counts as one.
_BY_SEGMENT = {
    "completions": Endpoint.COMPLETIONS,
    "embeddings": Endpoint.EMBEDDINGS,
    "models": Endpoint.MODELS,
    "files": Endpoint.FILES,
    "uploads": Endpoint.UPLOADS,
    "batches": Endpoint.BATCHES,
    "audio": Endpoint.AUDIO,
    "images": Endpoint.IMAGES,
    "moderations": Endpoint.MODERATIONS,
    "fine_tuning": Endpoint.FINE_TUNING,
    "vector_stores": Endpoint.VECTOR_STORES,
    "assistants": Endpoint.ASSISTANTS,
    "threads": Endpoint.ASSISTANTS,
    "realtime": Endpoint.REALTIME,
}


def classify(method: str, path: str) -> Endpoint:
    """Name the endpoint.

    `CHAT` and `RESPONSES` mean the two calls that create an answer and nothing else: reading, listing or deleting
    stored answers, and paths below them, are `OTHER`.

    Args:
        method: in capitals.
        path: as in the request line, without the query; begins with `/v1/`.
    """
    if method == "POST":
        if path == "/v1/chat/completions":
            return Endpoint.CHAT
        if path == "/v1/responses":
            return Endpoint.RESPONSES
    return _BY_SEGMENT.get(path.removeprefix("/v1/").partition("/")[0], Endpoint.OTHER)
