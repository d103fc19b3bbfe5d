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
    is_first = not (settings.data_dir / "metrics").exists()  # which only this command makes
    open_data_dir(settings)
    token, is_fresh = admin_token(settings)
    configure_logs()

    def announce(url: str) -> None:
        console.print(f"understudy serves {url}/v1 for {settings.upstream_url}", soft_wrap=True)
        near = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        if is_first:
            _welcome(near)
        console.print(f"console {near}/  metrics {near}/metrics", soft_wrap=True)
        if is_fresh:
            console.print(f"admin token, shown this once: {token}", soft_wrap=True, markup=False)
            console.print(f"it is kept in {settings.data_dir / 'admin-token'}", soft_wrap=True, markup=False)
        sys.stdout.flush()

    raise typer.Exit(run(settings, host, port, workers, announce, learner=learner))


def _welcome(url: str) -> None:
    """What to do next, on the first start of an installation."""
    for line in (
        "",
        "Point an agent here; it sends its own key for the LLM, as before:",
        f'  Python     OpenAI(base_url="{url}/v1")',
        f'  Node       new OpenAI({{ baseURL: "{url}/v1" }})',
        f'  LangChain  ChatOpenAI(base_url="{url}/v1")',
        f"  curl       curl {url}/v1/chat/completions \\",
        '               -H "Authorization: Bearer $OPENAI_API_KEY" \\',
        "               -H 'Content-Type: application/json' \\",
        """               -d '{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}'""",
        "Then `understudy learn` finds the recurring tasks, and `understudy report` says",
        "what of them is replaceable. A log that is there already is a start, too:",
        "  understudy import calls.json --format litellm",
        "",
    ):
        console.print(line, soft_wrap=True, markup=False)
