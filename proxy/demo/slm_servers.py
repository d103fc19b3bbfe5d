"""Which real server serves the demo's small model: vLLM, or `transformers serve` where vLLM's wheel doesn't fit.

Both start as early as they can: vLLM with the base model, before the adapters are trained; `transformers serve` knows
no adapters, so it waits for one and gets it merged into its base. That is one task.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from proxy.demo.servers import BASE, DemoFailed, free_port, transformers_serve, vllm

VLLM_READY = Path(".venv-vllm/.ready")  # written by `make setup` when it has seen vLLM's kernels load


class Choice(StrEnum):
    """What may be asked for; `AUTO` takes vLLM where it is installed."""

    AUTO = "auto"
    VLLM = "vllm"
    TRANSFORMERS = "transformers"


class SlmServer(Protocol):
    """The server of the demo's small models.

    Attributes:
        name: as it is called on the screen.
        notice: what the user should know about it.
        takes_adapters: while it runs, one for each task; else it serves one task, and has to be started with it.
        port: of 127.0.0.1.
    """

    name: str
    notice: str
    takes_adapters: bool
    port: int

    def start(self, base: Path) -> None:
        """There is a base model now: a server that can begin with it, does."""

    def serve(self, base: Path, adapter: Path | None = None) -> str:
        """Wait until it serves.

        Args:
            adapter: for a server that takes none by itself.

        Returns:
            What it calls the model.

        Raises:
            DemoFailed: it did not come up.
        """


class Vllm:
    """vLLM with the base model; evaluation and promotion make it load the adapters."""

    name = "vLLM"
    notice = "The small models are served by vLLM's CPU build: one base, an adapter for each task."
    takes_adapters = True

    def __init__(self, work: Path, parts: contextlib.ExitStack) -> None:
        """
        Args:
            work: gets its log.
            parts: ends it.
        """
        self.port = free_port()
        self._log, self._parts = work / "vllm.log", parts
        self._await: Callable[[], None]

    def start(self, base: Path) -> None:
        """See `SlmServer`."""
        self._await = self._parts.enter_context(vllm(base, self.port, self._log))

    def serve(self, base: Path, adapter: Path | None = None) -> str:
        """See `SlmServer`."""
        self._await()
        return BASE


class TransformersServe:
    """`transformers serve` with the adapter merged into its base; it calls a model by its path."""

    name = "transformers serve"
    takes_adapters = False

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
            "It takes no adapters and keeps to no form: one task is trained instead of\n"
            "three, its adapter merged into the base; an answer whose form is wrong is the\n"
            "LLM's to give, in the same request."
        )
        self._work, self._parts = work, parts

    def start(self, base: Path) -> None:
        """See `SlmServer`; there is nothing to do yet."""

    def serve(self, base: Path, adapter: Path | None = None) -> str:
        """See `SlmServer`."""
        from proxy.demo.tiny_model import merge_adapter

        assert adapter is not None
        merged = self._work / "merged"
        merge_adapter(base, adapter, merged)
        self._parts.enter_context(transformers_serve(merged, self.port, self._work / "transformers.log"))()
        return str(merged)


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
