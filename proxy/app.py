"""The ASGI app of one worker: the relay under /v1, everything else by FastAPI.

The relay is dispatched before any middleware: a catch-all route behind a framework's request object would cost more
than the routing decision itself, and middleware hides a client's disconnect.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.auth import Gate, admin_token
from proxy.console.entry import open_console
from proxy.endpoints import admin, health
from proxy.endpoints.errors import shape_errors
from proxy.errors import error_body
from proxy.metrics import Metrics
from proxy.money.copy_budget import CopyBudget
from proxy.relay.copies import Copies
from proxy.relay.recorder import Recorder
from proxy.relay.relay import Relay
from proxy.runs.queue import Runs
from proxy.serving import Serving
from proxy.settings import Settings
from proxy.slm.client import SlmClient
from proxy.slm.reload import Reloader
from proxy.state import State
from proxy.transport.headers import find
from proxy.transport.upstreams import Llm, open_session
from storage.artifacts import ArtifactStore
from storage.cipher import Cipher
from storage.database import Database
from storage.errors import DatabaseDown
from storage.spool import Spool, spool_usage


def create_app(settings: Settings) -> ASGIApp:
    """Build a worker's app. Its state is made when the server starts it, and ends with it.

    Raises:
        KeyFileUnusable: the data directory's key can't be used.
        DataDirUnusable: the admin token can't be kept.
    """
    cipher = Cipher.open(settings.data_dir)
    gate = Gate(admin_token(settings)[0])
    app = FastAPI(
        title="Understudy",
        summary="Admin API. The OpenAI surface under /v1 is the upstream's own.",
        docs_url="/admin/docs",
        redoc_url=None,
        openapi_url="/admin/openapi.json",
        lifespan=lambda app: _lifespan(app, settings, cipher, gate),
    )
    app.include_router(health.router)
    app.include_router(admin.router)
    open_console(app)
    shape_errors(app)
    return Front(app)


@asynccontextmanager
async def _lifespan(app: FastAPI, settings: Settings, cipher: Cipher, gate: Gate) -> AsyncIterator[None]:
    metrics = Metrics(lambda: spool_usage(settings.spool_dir))
    metrics.show_risk(settings.risk)
    spool = Spool(settings.spool_dir, cipher)
    database = Database(settings.database)
    artifacts = ArtifactStore(settings.artifacts_dir, cipher)
    serving = Serving(settings.data_dir / "serving.json", database, artifacts, metrics, settings.encoder)
    session = open_session(settings)
    llm = Llm(settings)
    slm = SlmClient(session, settings, metrics, Reloader(settings, database, artifacts))
    copies = Copies(settings, metrics, serving, slm, llm, gate, spool, CopyBudget(database, settings.copy_usd_per_day))
    state = State(
        settings=settings,
        metrics=metrics,
        cipher=cipher,
        spool=spool,
        recorder=Recorder(spool, metrics, cipher, settings.log_bodies),
        database=database,
        artifacts=artifacts,
        serving=serving,
        session=session,
        llm=llm,
        slm=slm,
        copies=copies,
        gate=gate,
        runs=Runs(settings),
    )
    app.state.understudy = state
    await asyncio.to_thread(_first_look, state)
    serving.start()
    try:
        yield
    finally:
        serving.stop()
        await copies.close()
        state.llm.close()
        await session.close()
        await asyncio.to_thread(spool.close)
        database.close()
        state.runs.close()


def _first_look(state: State) -> None:
    """Know what is in force before the first call; a dead database leaves the cached state in force."""
    try:
        state.database.upgrade(state.cipher)
        state.serving.refresh()
    except DatabaseDown:
        pass


class Front:
    """Sends calls to the relay and the rest to FastAPI."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._relay: Relay | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and is_relayed(scope["raw_path"]):
            if find(scope["headers"], b"upgrade").lower() == b"websocket":
                await _no_websockets(send)
                return
            if self._relay is None:
                self._relay = Relay(self._app.state.understudy)
            await self._relay(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def is_relayed(raw_path: bytes) -> bool:
    """Whether a path, as it stands in the request line, is the upstream's: what is literally below `/v1/`.

    Such a path is relayed byte for byte, with whatever is encoded in it. One that spells `/v1` in another way, or
    leaves it again (`/v1/../x`, `/v1/%2e%2e/x`), is not: the upstream's other paths are none of our clients' business.
    """
    if not raw_path.startswith(b"/v1/"):
        return False
    if b".." not in raw_path and b"%2" not in raw_path:
        return True
    return f"{posixpath.normpath(unquote(raw_path))}/".startswith("/v1/")


async def _no_websockets(send: Send) -> None:
    """Realtime sessions are refused in words."""
    body = error_body("websockets (realtime) are not relayed", "invalid_request_error", "not_implemented")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 501, "headers": headers})
    await send({"type": "http.response.body", "body": body})
