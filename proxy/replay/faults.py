"""How a simulated LLM misbehaves, as real ones do."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong with an answer; asked for by a call's header, or of the whole server.

    Attributes:
        ERROR_429, ERROR_500, ERROR_503: an error in OpenAI's shape, with retry-after where OpenAI sends one.
        RESET: closes before the answer's headers.
        STALL: keeps the headers back.
        STALL_BODY: sends half of the body, then nothing, then closes.
        CUT: sends half of the body, then closes.
        ERROR_EVENT: an error event inside status 200.
        GARBAGE: a body that is no JSON.
    """

    ERROR_429 = "error-429"
    ERROR_500 = "error-500"
    ERROR_503 = "error-503"
    RESET = "reset"
    STALL = "stall"
    STALL_BODY = "stall-body"
    CUT = "cut"
    ERROR_EVENT = "error-event"
    GARBAGE = "garbage"
