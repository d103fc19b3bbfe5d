"""`understudy evaluate`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from proxy.cli.terminal import Json, console, open_data_dir, progress
from proxy.settings import load_settings

if TYPE_CHECKING:
    from router.certificate import Certificate


def evaluate(
    cluster: Annotated[str, typer.Argument(help="Cluster id, as `understudy report` shows it.")],
    model: Annotated[str, typer.Option(help="Model or adapter name at the SLM server.")],
    slm: Annotated[str | None, typer.Option(help="Server name in UNDERSTUDY_SLM_URL.")] = None,
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter's path at the server.")] = None,
    as_json: Json = False,
) -> None:
    """Replay held-out calls against a served SLM and certify it. Example: understudy evaluate c-12ab --model triage"""
    from proxy.errors import Conflict
    from proxy.learning.workshop import Workshop
    from proxy.logs import configure_logs

    try:
        from proxy.proving.evaluation import evaluate as put_to_the_proof
        from proxy.proving.evaluation import in_words
    except ImportError as error:
        raise Conflict(f"{error.name} is not installed; pip install 'understudy[train]'") from error
    settings = load_settings()
    open_data_dir(settings)
    configure_logs()  # to standard error: what is printed may be JSON
    with progress("evaluating") as tell:
        number, certificate = put_to_the_proof(Workshop.open(settings, tell), cluster, model, slm=slm, adapter=adapter)
    words = in_words(certificate)
    if as_json:
        shown = {"id": number, "passes": certificate.passes, "words": words} | certificate.to_json()
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    else:
        _print(number, certificate, words)


def _print(number: int, certificate: Certificate, words: str) -> None:
    """A table of 80 columns, and what it comes to."""
    share = "not at all" if certificate.disagreement is None else f"{certificate.disagreement:.2%}"
    rows = [
        ("certificate", f"{number}, {'passes' if certificate.passes else 'does not pass'}"),
        ("compared by", certificate.comparator),
        ("held-out conversations", str(certificate.conversations)),
        ("of them served", f"{certificate.n} ({certificate.coverage:.1%})"),
        ("served when as sure as", "any" if certificate.threshold is None else f"{certificate.threshold:.4f}"),
        ("disagree with the LLM", f"{certificate.failures} ({share})"),
        ("of them not comparable", str(certificate.incomparable)),
        ("disagreement at most", f"{certificate.disagreement_bound:.2%} at confidence {1 - certificate.delta:.6g}"),
        ("promised", f"{certificate.alpha:.2%}"),
        ("all served calls", f"{certificate.calls}, of which {certificate.calls_failed} disagree"),
    ]
    if certificate.ceiling is not None:
        pairs, differ = certificate.ceiling.pairs, certificate.ceiling.disagreements
        rows.append(("the LLM with itself", f"disagrees in {differ} of {pairs} repeated requests"))
    rows.append(("attempt on this task", str(certificate.attempt)))
    rows.append(("good until", certificate.expires_at.strftime("%Y-%m-%d")))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=54)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    console.print(words, markup=False, soft_wrap=False)
