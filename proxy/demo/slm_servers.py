"""Which real server serves the demo's small model: vLLM, or `transformers serve` where vLLM's wheel doesn't fit.

Both start as early as they can: vLLM with the base model, while the adapter is still in training; `transformers serve`
knows no adapters, so it waits for the adapter and gets it merged into its base.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from proxy.demo.servers import DemoFailed, free_port, transformers_serve, vllm

VLLM_READY = Path(".venv-vllm/.ready")  # written by `make setup` when it has seen vLLM's kernels load
MODEL = "triage"


class Choice(StrEnum):
    """What may be asked for; `AUTO` takes vLLM where it is installed."""

    AUTO = "auto"
    VLLM = "vllm"
    TRANSFORMERS = "transformers"


class SlmServer(Protocol):
    """The server of the demo's small model.

    Attributes:
        name: as it is called on the screen.
        notice: what the user should know about it.
        start_seconds: how long `serve` is expected to take on two cores.
        port: of 127.0.0.1.
    """

    name: str
    notice: str
    start_seconds: float
    port: int

    def base_is_trained(self, base: Path) -> None:
        """There is a base model now: a server that can begin with it, should."""

    def serve(self, base: Path, adapter: Path) -> dict[str, str]:
        """Wait until it can serve the task; returns the fields that its promotion needs: `model`, perhaps `adapter`.

        Raises:
            DemoFailed: it did not come up.
        """


class Vllm:
    """vLLM with the base model; the promotion makes it load the adapter."""

    name = "vLLM"
    notice = "The small model is served by vLLM's CPU build."
    start_seconds = 5.0  # most of it while the adapter is in training

    def __init__(self, work: Path, parts: contextlib.ExitStack) -> None:
        """
        Args:
            work: gets its log.
            parts: ends it.
        """
        self.port = free_port()
        self._log, self._parts = work / "vllm.log", parts
        self._await: Callable[[], None]

    def base_is_trained(self, base: Path) -> None:
        """See `SlmServer`."""
        self._await = self._parts.enter_context(vllm(base, self.port, self._log))

    def serve(self, base: Path, adapter: Path) -> dict[str, str]:
        """See `SlmServer`."""
        self._await()
        return {"model": MODEL, "adapter": str(adapter)}


class TransformersServe:
    """`transformers serve` with the adapter merged into its base; it calls a model by its path."""

    name = "transformers serve"
    start_seconds = 15.0

    def __init__(self, work: Path, parts: contextlib.ExitStack, why: str) -> None:
        """
        Args:
            work: gets its log and the merged model.
            parts: ends it.
            why: it is used.
        """
        self.port = free_port()
        self.notice = (
            f"The small model is served by `transformers serve`: {why}.\n"
            "It knows no adapters and no structured output: the adapter is merged into its\n"
            "base, and an answer's form is only checked afterwards; where it is wrong, the\n"
            "LLM answers in the same request."
        )
        self._work, self._parts = work, parts

    def base_is_trained(self, base: Path) -> None:
        """See `SlmServer`; there is nothing to do yet."""

    def serve(self, base: Path, adapter: Path) -> dict[str, str]:
        """See `SlmServer`."""
        from proxy.demo.tiny_model import merge_adapter

        merged = self._work / f"{MODEL}-merged"
        merge_adapter(base, adapter, merged)
        self._parts.enter_context(transformers_serve(merged, self.port, self._work / "transformers.log"))()
        return {"model": str(merged)}


def choose(choice: Choice, work: Path, parts: contextlib.ExitStack, vllm_ready: Path = VLLM_READY) -> SlmServer:
    """The server that was asked for, or that can be had.

    Args:
        work: the demo's own directory.
        parts: ends the server.
        vllm_ready: exists where vLLM's CPU build is installed.

    Raises:
        DemoFailed: vLLM was asked for and isn't there.
    """
    if choice is Choice.TRANSFORMERS:
        return TransformersServe(work, parts, "it was asked for")
    if vllm_ready.exists():
        return Vllm(work, parts)
    if choice is Choice.VLLM:
        raise DemoFailed(
            "vLLM's CPU build is not installed here, `make setup` says why; --slm-server transformers does without"
        )
    return TransformersServe(work, parts, "vLLM's CPU build is not installed here, `make setup` says why")
