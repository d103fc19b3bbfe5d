"""The console's place in the app."""

from __future__ import annotations

from fastapi import FastAPI

from proxy.console import assets, calls, keys, login, operations, promotion, runs, savings, task, tasks
from proxy.console.session import Throttle


def open_console(app: FastAPI) -> None:
    """Put every page in its place."""
    app.state.login_throttle = Throttle()
    for room in (assets, login, savings, tasks, promotion, task, calls, runs, operations, keys):
        app.include_router(room.router)
