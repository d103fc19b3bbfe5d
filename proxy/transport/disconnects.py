"""A client that leaves cancels its call, whatever the call is waiting for just then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from types import TracebackType
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientWatch:
    """Watches the client while its call is served: `with ClientWatch(receive) as client: …`.

    ASGI tells that a client has left only to whoever waits in `receive()`. A task for that would cost 5 % of what a
    worker can do. So the coroutine is driven from here, as a task would: it is begun, and continued by the future that
    it waits for.

    Attributes:
        has_left: the client has closed its connection, and the current task was cancelled.
    """

    def __init__(self, receive: Receive) -> None:
        self.has_left = False
        self._receive = receive
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._waiting: Coroutine[Any, Any, Message] | None = None

    def __enter__(self) -> ClientWatch:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def forgive(self) -> None:
        """The cancellation has been dealt with; the task goes on."""
        self._task.uncancel()

    def _listen(self) -> None:
        self._waiting = self._receive()  # type: ignore[assignment]  # servers' `receive` are coroutine functions
        self._go_on(None)

    def _go_on(self, _: asyncio.Future[Any] | None) -> None:
        """Continue `receive()` to the next thing that it waits for, or to its message."""
        if self._waiting is None:
            return  # the call has ended in the same turn of the loop
        try:
            awaited: asyncio.Future[Any] | None = self._waiting.send(None)
        except StopIteration as done:
            self._waiting = None
            if done.value["type"] == "http.disconnect":
                self.has_left = True
                self._task.cancel()
            else:
                self._listen()
            return
        if awaited is None:  # a bare yield (`asyncio.sleep(0)`): once more in the next turn
            asyncio.get_running_loop().call_soon(self._go_on, None)
            return
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(self._go_on)
