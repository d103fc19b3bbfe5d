"""All commands, by name. Heavy imports wait until their command runs: `--help` and `serve` must be quick."""

from __future__ import annotations

import typer

from proxy.cli import (
    database,
    demo,
    evaluate,
    export,
    import_log,
    keys,
    learn,
    models,
    promotions,
    replay,
    report,
    runs,
    serve,
    train,
)

app = typer.Typer(
    name="understudy",
    help="A drop-in OpenAI-compatible proxy that learns recurring tasks and serves them from small models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command("import")(import_log.import_log)
app.command()(learn.learn)
app.command()(report.report)
app.command()(export.export)
app.command()(models.models)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(runs.runs)
app.command()(runs.learner)
app.command()(promotions.promote)
app.command()(promotions.demote)
app.command()(replay.replay)
app.command()(database.purge)
app.command()(demo.demo)

own_keys = typer.Typer(help="Keys of the proxy's own.", no_args_is_help=True)
own_keys.command()(keys.create)
own_keys.command("list")(keys.show)
own_keys.command()(keys.revoke)
app.add_typer(own_keys, name="keys")

db = typer.Typer(help="The database.", no_args_is_help=True)
db.command()(database.upgrade)
app.add_typer(db, name="db")
