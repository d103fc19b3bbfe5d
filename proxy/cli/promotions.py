"""`understudy promote` and `demote`: through a running proxy's admin API with `--url`, else on the database.

Either way it is the same code, `proxy/promotion/moves.py`, and in force on every worker within seconds.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from proxy.cli.terminal import console, open_log
from proxy.errors import UnderstudyError
from proxy.settings import Settings, load_settings

Url = Annotated[str | None, typer.Option(help="A running proxy (http://host:port); without it, the database.")]


class PromotionStage(StrEnum):
    """Stages that can be promoted to."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"


class Refused(UnderstudyError):
    """The proxy's admin API did not do it; the message is its own."""


def promote(
    cluster: Annotated[str, typer.Argument(help="Cluster id, as `understudy report` shows it.")],
    model: Annotated[str, typer.Option(help="Model or adapter name at the SLM server.")],
    stage: Annotated[PromotionStage, typer.Option(help="How far.")],
    share: Annotated[float | None, typer.Option(help="Of the calls that a canary serves.")] = None,
    slm: Annotated[str | None, typer.Option(help="Server name in UNDERSTUDY_SLM_URL.")] = None,
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter's path at the server.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Without a valid certificate; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Written into the audit trail.")] = None,
    url: Url = None,
) -> None:
    """Promote an SLM for a task. Example: understudy promote c-12ab --model triage --stage live --force --reason pilot"""  # noqa: E501 - one line in --help
    from proxy.promotion.moves import Wish, promote_cluster
    from router.promotion import Stage

    settings = load_settings()
    wish = Wish(model, Stage(stage.value), share, slm, adapter, force, reason)
    if url is None:
        made = asdict(promote_cluster(*open_log(settings), settings, cluster, wish, "cli"))
    else:
        made = _ask(settings, url, "POST", f"/clusters/{cluster}/promotions", asdict(wish))
    console.print(f"{cluster}: {made['model']} on {made['slm']} is {stage.value}")


def demote(cluster: Annotated[str, typer.Argument(help="Cluster id.")], url: Url = None) -> None:
    """Give a task back to the LLM. Example: understudy demote c-12ab"""
    from proxy.promotion.moves import demote_cluster

    settings = load_settings()
    if url is None:
        ended = asdict(demote_cluster(open_log(settings)[0], cluster, "cli"))
    else:
        ended = _ask(settings, url, "DELETE", f"/clusters/{cluster}/promotions/current")
    console.print(f"{cluster}: {ended['model']} is retired, the LLM answers")


def _ask(settings: Settings, url: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One admin call.

    Raises:
        Refused: with the proxy's own words.
    """
    import httpx

    from proxy.auth import TOKEN_FILE, admin_token

    if not settings.admin_token and not (settings.data_dir / TOKEN_FILE).exists():
        raise Refused(
            f"no admin token is here: set UNDERSTUDY_ADMIN_TOKEN, or UNDERSTUDY_DATA_DIR to the proxy's (now "
            f"{settings.data_dir})"
        )
    where = f"{url.rstrip('/')}/admin/v1{path}"
    headers = {"authorization": f"Bearer {admin_token(settings)[0]}"}
    try:
        answer = httpx.request(method, where, json=body, headers=headers, timeout=90)
        shown = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Refused(f"{where}: no answer from a proxy's admin API: {error}") from error
    if answer.is_error:
        raise Refused(shown["error"]["message"])
    done: dict[str, Any] = shown
    return done
