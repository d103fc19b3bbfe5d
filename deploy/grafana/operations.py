"""Whether it runs: for the one who is on call."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import BYTES, COUNT, PER_SECOND, SECONDS, SHARE, board, course, number, words

UP = {"0": "down", "1": "up"}
SLM_UP = {"0": "down or not asked", "1": "up"}
SLOW_CALLS = """\
Metrics count calls; the log has each of them. Those that took more than a second, newest first:

```
curl -H "Authorization: Bearer $UNDERSTUDY_ADMIN_TOKEN" 'http://localhost:8000/admin/v1/calls?slower_than_ms=1000'
```

Each `call_id` is the `x-understudy-call-id` that the client got, and the `call` of the proxy's log lines.
`/admin/v1/calls/{call_id}` shows the request, the answer and each attempt with its time. Narrow it down with
`served_by`, `reason`, `cluster` and `agent`.
"""
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def dashboard() -> Dashboard:
    """What is up, how fast it is, and whether the log keeps up."""
    return (
        board("operations", "Operations", "Latency, errors, the spool, SLM servers; runbooks are in docs/operating.md.")
        .with_row(Row("Now"))
        .with_panel(
            number(
                "Proxies",
                'up{job="understudy"}',
                COUNT,
                "Whether Prometheus reaches them.",
                legend="{{instance}}",
                bad_below=1,
                words=UP,
            )
        )
        .with_panel(
            number(
                "SLM servers",
                "min by (slm) (understudy_slm_up)",
                COUNT,
                "Down: the circuit breaker is open after failures in a row. It is tried again when a call comes.",
                legend="{{slm}}",
                bad_below=1,
                words=SLM_UP,
            )
        )
        .with_panel(
            number(
                "5xx",
                "understudy:errors:ratio_rate5m",
                SHARE,
                "Share of all calls in the last five minutes, the upstream's own errors among them.",
                bad_above=0.05,
                decimals=1,
            )
        )
        .with_panel(
            number(
                "Calls lost to the log",
                "sum(increase(understudy_calls_lost_total[$__range]))"
                " + sum(increase(understudy_calls_quarantined_total[$__range]))",
                COUNT,
                "Answered and not in the database, in the time shown: not logged, because the disk is full, or set "
                "aside in the spool's quarantine.",
                bad_above=1,
                decimals=0,
            )
        )
        .with_row(Row("Traffic"))
        .with_panel(
            course(
                "Calls a second, by who answered",
                {"{{served_by}}": "served_by:understudy_calls:rate5m"},
                PER_SECOND,
                "Chat and responses calls.",
                stacked=True,
            )
        )
        .with_panel(
            course(
                "Calls a second, by endpoint and status",
                {
                    "{{endpoint}} {{status}}": (
                        "sum by (endpoint, status) (rate(understudy_calls_total[$__rate_interval])) > 0"
                    )
                },
                PER_SECOND,
                "Everything below /v1.",
                stacked=True,
            )
        )
        .with_row(Row("Latency"))
        .with_panel(
            course(
                "Whole call",
                {f"{{{{served_by}}}} {name}": _quantile(q, "call_duration", "served_by") for name, q in QUANTILES},
                SECONDS,
                "From a call's arrival to the last byte of its answer.",
            )
        )
        .with_panel(
            course(
                "First byte",
                {f"{{{{served_by}}}} {name}": _quantile(q, "first_token", "served_by") for name, q in QUANTILES},
                SECONDS,
                "From a call's arrival to the first byte of its answer. An SLM's verified answer comes all at once.",
            )
        )
        .with_panel(
            course(
                "Overhead",
                {name: _quantile(q, "overhead") for name, q in QUANTILES},
                SECONDS,
                "Time in the proxy that was not spent waiting for an upstream.",
            )
        )
        .with_panel(
            course(
                "SLM servers",
                {"{{slm}}": "min by (slm) (understudy_slm_up)"},
                COUNT,
                "1 up, 0 down or not asked yet.",
            )
        )
        .with_panel(words("From a slow call to its log", SLOW_CALLS, "What the figures above are made of."))
        .with_row(Row("Log"))
        .with_panel(
            course(
                "Spool",
                {"{{instance}}": "understudy_spool_bytes"},
                BYTES,
                "Calls that are logged but not yet in the database. It grows while the database is down.",
            )
        )
        .with_panel(
            course(
                "Oldest call in the spool",
                {"{{instance}}": "understudy_spool_oldest_seconds"},
                SECONDS,
                "A second or two while calls come. The line is where the alert is.",
                limit=300,
            )
        )
    )


def _quantile(q: float, metric: str, *by: str) -> str:
    labels = ", ".join(("le", *by))
    return f"histogram_quantile({q}, sum by ({labels}) (rate(understudy_{metric}_seconds_bucket[$__rate_interval])))"
