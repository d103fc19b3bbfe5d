"""All commands. Heavy imports wait until their command runs: `--help` and `serve` must be quick."""

from __future__ import annotations

import asyncio
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from proxy.errors import BadRequest, UnderstudyError
from proxy.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.database import Database
    from storage.records import CallRecord

app = typer.Typer(
    name="understudy",
    help="A drop-in OpenAI-compatible proxy that learns recurring tasks and serves them from small models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
db = typer.Typer(help="The database.", no_args_is_help=True)
app.add_typer(db, name="db")

console = Console(highlight=False, soft_wrap=False)
IMPORT_BATCH = 500  # calls whose bodies are in memory at once
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class ImportFormat(StrEnum):
    """Where a log comes from."""

    OPENAI_CHAT = "openai-chat"
    LITELLM = "litellm"
    LANGFUSE = "langfuse"
    HELICONE = "helicone"
    OTEL_GENAI = "otel-genai"
    JSONL = "jsonl"


class PromotionStage(StrEnum):
    """Stages that can be promoted to."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"


def _database(settings: Settings) -> Database:
    from proxy.supervisor import prepare_data_dir
    from storage.database import Database

    prepare_data_dir(settings.data_dir)
    database = Database(settings.database)
    database.upgrade()
    return database


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port.")] = 1,
) -> None:
    """Serve: relay calls, log them, divert promoted tasks. Example: understudy serve --port 8000 --workers 4"""
    from proxy.auth import admin_token
    from proxy.logs import configure_logs
    from proxy.supervisor import prepare_data_dir
    from proxy.supervisor import serve as run
    from storage.cipher import Cipher

    settings = load_settings()
    prepare_data_dir(settings.data_dir)
    Cipher.open(settings.data_dir)
    token, fresh = admin_token(settings)
    configure_logs()

    def announce(url: str) -> None:
        console.print(f"understudy serves {url}/v1 for {settings.upstream_url}")
        if fresh:
            console.print(f"admin token (kept in {settings.data_dir / 'admin-token'}): {token}", soft_wrap=True)
            console.print("point your agents here, their own keys as before:")
            console.print(f'  Python     OpenAI(base_url="{url}/v1")')
            console.print(f'  Node       new OpenAI({{ baseURL: "{url}/v1" }})')
            console.print(f'  LangChain  ChatOpenAI(base_url="{url}/v1")')
            console.print(f"  curl       {url}/v1/chat/completions")
            console.print(f"tasks and savings: {url}/  metrics: {url}/metrics")
        sys.stdout.flush()

    raise typer.Exit(run(settings, host, port, workers, announce))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The log, gzipped or not.")],
    format: Annotated[ImportFormat, typer.Option("--format", help="Where it comes from.")],  # noqa: A002
) -> None:
    """Bring past calls into the call log. Example: understudy import calls.jsonl.gz --format jsonl"""
    from itertools import islice

    from proxy.imports import import_calls
    from proxy.shipping import ledger_for
    from proxy.supervisor import prepare_data_dir
    from storage.cipher import Cipher
    from storage.repositories.calls import insert_calls

    settings = load_settings()
    ledger = ledger_for(settings)
    prepare_data_dir(settings.data_dir)
    cipher = Cipher.open(settings.data_dir)  # before the database, which is worth nothing without its key
    database = _database(settings)
    read = 0

    def sink(records: Iterable[CallRecord]) -> int:
        """All in one transaction, so that a failure leaves nothing behind."""
        nonlocal read
        new, rest = 0, iter(records)
        with database.write() as session, console.status("importing") as status:
            while batch := list(islice(rest, IMPORT_BATCH)):
                new += sum(insert_calls(session, cipher, [(record, ledger.read_facts(record)) for record in batch]))
                read += len(batch)
                status.update(f"importing: {read} calls")
        return new

    new = import_calls(file, format.value, sink)
    console.print(f"{new} calls imported, {read - new} were there already")


@app.command()
def learn() -> None:
    """Discover the recurring tasks in the call log and put them in force. Example: understudy learn"""
    from proxy.learning import learn_from_log
    from storage.artifacts import ArtifactStore
    from storage.cipher import Cipher

    settings = load_settings()
    database = _database(settings)
    with console.status("reading the log") as status:
        found = learn_from_log(
            database,
            Cipher.open(settings.data_dir),
            ArtifactStore(settings.artifacts_dir),
            lambda stage: status.update(stage),
            settings.encoder,
        )
    console.print(
        f"{found.calls} calls, {found.clusters} tasks, {found.unassigned} calls in none; "
        f"snapshot {found.snapshot_id} is in force"
    )


@app.command()
def report(as_json: Json = False) -> None:
    """Show each task's calls, tokens, cost and share of the whole. Example: understudy report --json"""
    from storage.repositories.calls import totals
    from storage.repositories.clusters import list_clusters

    settings = load_settings()
    database = _database(settings)
    with database.read() as session:
        clusters = {row.cluster_id: row for row in list_clusters(session)}
        sums = totals(session)
    whole = sum(total.calls for total in sums) or 1
    rows = []
    for total in sums:
        cluster = clusters.get(total.key or "")
        rows.append(
            {
                "cluster": total.key,
                "label": cluster.label if cluster else "(no task)",
                "contract": cluster.contract["kind"] if cluster else None,
                "calls": total.calls,
                "share": total.calls / whole,
                "tokens": total.input_tokens + total.output_tokens,
                "cost_usd": total.cost_usd,
                "unpriced_calls": total.unpriced,
                "slm_calls": total.slm_calls,
            }
        )
    if as_json:
        sys.stdout.write(json.dumps({"calls": whole if sums else 0, "tasks": rows}, indent=1) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("task", "id", "answers"):
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=30)
    for name in ("calls", "share", "tokens", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cost = f"{row['cost_usd']:.4f}" + ("+?" if row["unpriced_calls"] else "")
        table.add_row(
            str(row["label"]), str(row["cluster"] or ""), str(row["contract"] or ""), str(row["calls"]),
            f"{row['share']:.1%}", str(row["tokens"]), cost,
        )  # fmt: skip
    console.print(table)
    if any(row["unpriced_calls"] for row in rows):
        console.print("+? some calls name a model without a known price; they are not in the cost")


@app.command()
def promote(
    cluster: Annotated[str, typer.Argument(help="Cluster id, as `understudy report` shows it.")],
    model: Annotated[str, typer.Option(help="Model or adapter name at the SLM server.")],
    stage: Annotated[PromotionStage, typer.Option(help="How far.")],
    share: Annotated[float | None, typer.Option(help="Of the calls that a canary serves.")] = None,
    slm: Annotated[str | None, typer.Option(help="Server name in UNDERSTUDY_SLM_URL.")] = None,
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter's path at the server.")] = None,
    force: Annotated[bool, typer.Option(help="Without a certificate; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Written into the audit trail.")] = None,
) -> None:
    """Promote an SLM for a task. Example: understudy promote c-12ab --model triage --stage live --force --reason pilot"""
    from proxy.promotions import Wish, promote_cluster
    from router.promotion import Stage

    settings = load_settings()
    wish = Wish(model, Stage(stage.value), share, slm, adapter, force, reason)
    made = promote_cluster(_database(settings), settings, cluster, wish, "cli")
    console.print(f"{made.cluster_id}: {made.model} on {made.slm} is {made.stage.value}")


@app.command()
def demote(cluster: Annotated[str, typer.Argument(help="Cluster id.")]) -> None:
    """Give a task back to the LLM. Example: understudy demote c-12ab"""
    from proxy.promotions import demote_cluster

    ended = demote_cluster(_database(load_settings()), cluster, "cli")
    console.print(f"{ended.cluster_id}: {ended.model} is retired, the LLM answers")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Recorded calls, JSON lines, gzipped or not.")],
    base_url: Annotated[str | None, typer.Option(help="The proxy, ending in /v1.")] = None,
    upstream_only: Annotated[bool, typer.Option(help="Serve the recorded answers as an upstream instead.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --upstream-only.")] = 8001,
    latency: Annotated[float, typer.Option(min=0, help="With --upstream-only: seconds before an answer.")] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Send only so many calls.")] = None,
    api_key: Annotated[str, typer.Option(help="Sent as the client's key.")] = "replay",
) -> None:
    """Send recorded calls to a proxy with the official client, or serve their answers as an upstream.

    Example: understudy replay calls.jsonl --base-url http://127.0.0.1:8000/v1
    """
    from itertools import islice

    from proxy.replay.client import replay as send
    from proxy.replay.recordings import read_recordings
    from proxy.replay.upstream import ReplayUpstream

    recordings = list(islice(read_recordings(file), limit))
    if upstream_only:
        upstream = ReplayUpstream(recordings, latency_seconds=latency)

        def announce(url: str) -> None:
            console.print(f"{len(recordings)} recorded answers are served at {url}")

        try:
            asyncio.run(upstream.run(port, announce))
        except OSError as error:
            raise UnderstudyError(f"can't listen on 127.0.0.1:{port}: {error.strerror}") from error
        except KeyboardInterrupt:
            pass
        return
    if base_url is None:
        raise BadRequest("where to? give --base-url http://host:port/v1, or --upstream-only")
    tally = asyncio.run(send([recording.request for recording in recordings], base_url, api_key))
    console.print(f"{tally.sent} calls in {tally.seconds:.1f} s, {tally.failed} failed {dict(tally.errors) or ''}")
    for server, count in tally.served_by.most_common():
        console.print(f"  {server:<4} {count}")
    if tally.sent and tally.failed == tally.sent:
        raise typer.Exit(1)


@db.command("upgrade")
def upgrade() -> None:
    """Bring the database's schema up to date. Example: understudy db upgrade"""
    _database(load_settings())
    console.print("the database is up to date")


@app.command()
def purge() -> None:
    """Delete calls older than UNDERSTUDY_RETENTION_DAYS. Example: understudy purge"""
    from proxy.shipping import purge_once

    settings = load_settings()
    database = _database(settings)
    rounds = 1
    while purge_once(database, settings.retention_days):
        rounds += 1
    console.print(f"calls older than {settings.retention_days} days are deleted")


@app.command()
def demo(
    once: Annotated[bool, typer.Option(help="End after the table instead of going on serving.")] = False,
) -> None:
    """Run the whole loop on this machine, with a simulated LLM. Example: understudy demo --once"""
    from proxy.demo.story import run

    raise typer.Exit(run(once, console))
