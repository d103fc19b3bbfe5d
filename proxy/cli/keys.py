"""`understudy keys create`, `list` and `revoke`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from proxy.cli.terminal import Json, console, open_log
from proxy.settings import load_settings


class AdminRole(StrEnum):
    """What a key may do in the admin API."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class MaxLog(StrEnum):
    """How much of a key's calls is kept at most."""

    FULL = "full"
    REDACTED = "redacted"
    METADATA = "metadata"
    OFF = "off"


def create(
    name: Annotated[str, typer.Argument(help="For people, and for the audit trail.")],
    role: Annotated[AdminRole | None, typer.Option(help="In the admin API; without it, for calls only.")] = None,
    divert: Annotated[bool, typer.Option("--divert/--no-divert", help="May an SLM answer its calls?")] = True,
    force: Annotated[bool, typer.Option("--force", help="It may send x-understudy-route: slm.")] = False,
    log: Annotated[MaxLog, typer.Option(help="How much of its calls is kept at most.")] = MaxLog.FULL,
    training: Annotated[bool, typer.Option("--training/--no-training", help="May its calls be trained on?")] = True,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once. Example: understudy keys create billing-bot --no-divert --log metadata"""
    from proxy.auth import Role
    from proxy.endpoints.schemas import KeyShown
    from proxy.keys import KeyWish, create_key

    database, cipher = open_log(load_settings())
    wanted = None if role is None else Role[role.name]
    token, row = create_key(database, cipher, KeyWish(name, wanted, divert, force, log.value, training), "cli")
    if as_json:
        shown = KeyShown.model_validate(row).model_dump(mode="json")
        sys.stdout.write(json.dumps(shown | {"key": token}, indent=1) + "\n")
        return
    console.print(f"{row.key_id} is made; it can't be shown again:")
    console.print(token, soft_wrap=True, markup=False)
    console.print("send it as `x-understudy-key`, or as the API key where the proxy has one for the LLM")


def show(as_json: Json = False) -> None:
    """List all keys, revoked ones too, without what opens. Example: understudy keys list --json"""
    from proxy.endpoints.schemas import KeyShown
    from storage.repositories.keys import list_keys

    database, _ = open_log(load_settings())
    with database.read() as session:
        keys = [KeyShown.model_validate(row) for row in list_keys(session)]
    if as_json:
        sys.stdout.write(json.dumps([key.model_dump(mode="json") for key in keys], indent=1) + "\n")
        return
    if not keys:
        console.print("there are no keys; `understudy keys create NAME` makes one")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True, width=12)
    table.add_column("name", overflow="ellipsis", no_wrap=True, max_width=20)
    for column in ("role", "SLM", "log", "training", "made", ""):
        table.add_column(column, no_wrap=True)
    for key in keys:
        slm = "may force" if key.may_force else "yes" if key.may_divert else "no"
        training = "yes" if key.allows_training else "no"
        made, ended = f"{key.created_at:%Y-%m-%d}", "revoked" if key.revoked_at else ""
        table.add_row(key.key_id, key.name, key.role or "calls", slm, key.max_log, training, made, ended)
    console.print(table)


def revoke(key: Annotated[str, typer.Argument(help="Its id, as `understudy keys list` shows it.")]) -> None:
    """End a key for ever, on every worker within seconds. Example: understudy keys revoke k-12ab34cd56"""
    from proxy.keys import revoke_key

    database, _ = open_log(load_settings())
    row = revoke_key(database, key, "cli")
    console.print(f"{row.key_id} ({row.name}) is revoked", markup=False)
