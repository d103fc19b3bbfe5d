"""The start page: a table of tasks, readable without JavaScript, with the admin token as its password."""

from __future__ import annotations

import base64
import binascii
from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from proxy.promotions import in_force
from proxy.state import State
from storage.errors import DatabaseDown
from storage.repositories.calls import totals
from storage.repositories.clusters import list_clusters

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Understudy</title><style>
:root {{ color-scheme: light dark }} body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
padding: 0 1rem }} table {{ border-collapse: collapse; width: 100% }} th, td {{ text-align: left; padding: .4rem .6rem;
border-bottom: 1px solid #8884 }} td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}
</style><h1>Understudy</h1><p>{summary}</p>{table}
<p><a href="/metrics">Metrics</a> · <a href="/admin/docs">Admin API</a> · <a href="/readyz">Status</a></p></html>"""


@router.get("/")
def start(request: Request) -> Response:
    """Tasks, their stages, and what they cost."""
    state: State = request.app.state.understudy
    if not state.gate.is_admin(_password(request.headers.get("authorization"))):
        text = _PAGE.format(
            summary="The proxy is serving. Log in with any name and the admin token to see the tasks.", table=""
        )
        return HTMLResponse(text, 401, {"www-authenticate": 'Basic realm="Understudy admin token"', **_SAFE})
    try:
        with state.database.read() as session:
            clusters = list_clusters(session, state.cipher)
            sums = {total.key: total for total in totals(session)}
            promotions = in_force(session)
    except DatabaseDown as error:
        text = _PAGE.format(summary=f"Calls are served; the database is down: {escape(str(error))}", table="")
        return HTMLResponse(text, 503, _SAFE)
    calls = sum(total.calls for total in sums.values())
    slm = sum(total.slm_calls for total in sums.values())
    rows = []
    for cluster in clusters:
        total = sums.get(cluster.cluster_id)
        promotion = promotions.get(cluster.cluster_id)
        stage = f"{promotion.stage.value} ({promotion.model})" if promotion else "LLM"
        rows.append(
            f"<tr><td>{escape(cluster.label)}<br><small>{escape(cluster.cluster_id)}</small><td>"
            f"{escape(cluster.contract.get('kind', ''))}<td>{escape(stage)}<td class=n>{total.calls if total else 0}"
            f"<td class=n>{total.slm_calls if total else 0}<td class=n>{total.cost_usd if total else 0:.4f}"
        )
    table = (
        "<table><thead><tr><th>Task<th>Answers<th>Served by<th class=n>Calls<th class=n>by SLM<th class=n>Cost, USD"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
        if rows
        else "<p>No tasks yet: run <code>understudy learn</code> once calls are logged.</p>"
    )
    return HTMLResponse(
        _PAGE.format(summary=f"{calls} calls in the log, {slm} served by SLMs.", table=table), 200, _SAFE
    )


_SAFE = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "cache-control": "no-store"}


def _password(authorization: str | None) -> str | None:
    """The password of HTTP basic authentication."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
