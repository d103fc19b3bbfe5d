"""`understudy serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from proxy.cli.terminal import console, open_data_dir
from proxy.settings import load_settings


def _named(host: str) -> str:
    """An empty host would listen on every address."""
    if not host.strip():
        raise typer.BadParameter("must be a name or an address; 0.0.0.0 is all of them")
    return host


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.", callback=_named)] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
    learner: Annotated[bool, typer.Option("--learner/--no-learner", help="Learn, too, in a process beside.")] = True,
) -> None:
    """Serve: relay calls, log them, divert promoted tasks. Example: understudy serve --port 8000 --workers 4"""
    from proxy.auth import admin_token
    from proxy.logs import configure_logs
    from proxy.supervisor import serve as run

    settings = load_settings()
    open_data_dir(settings)
    token, fresh = admin_token(settings)
    configure_logs()

    def announce(url: str) -> None:
        console.print(f"understudy serves {url}/v1 for {settings.upstream_url}", soft_wrap=True)
        if fresh:
            console.print(f"admin token (kept in {settings.data_dir / 'admin-token'}): {token}", soft_wrap=True)
            console.print("point your agents here, their own keys as before:")
            console.print(f'  Python     OpenAI(base_url="{url}/v1")')
            console.print(f'  Node       new OpenAI({{ baseURL: "{url}/v1" }})')
            console.print(f'  LangChain  ChatOpenAI(base_url="{url}/v1")')
            console.print(f"  curl       {url}/v1/chat/completions")
            console.print(f"tasks and savings: {url}/  metrics: {url}/metrics")
        sys.stdout.flush()

    raise typer.Exit(run(settings, host, port, workers, announce, learner=learner))
