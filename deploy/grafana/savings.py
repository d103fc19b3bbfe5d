"""What the SLMs save, and what they cost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import COUNT, PER_SECOND, SHARE, USD, bars, board, course, number, words

CREATIONS = 'endpoint=~"chat|responses"'
SPENT = "sum(rate(understudy_cost_usd_total[$__rate_interval])) * 3600"
UNASSISTED = (
    '(sum(rate(understudy_cost_usd_total{served_by="llm"}[$__rate_interval]))'
    " + sum(rate(understudy_counterfactual_cost_usd_total[$__rate_interval]))) * 3600"
)
CACHED = 'understudy_tokens_total{served_by="llm", direction="cached_input"}[$__rate_interval]'
INPUT = 'understudy_tokens_total{served_by="llm", direction=~"input|cached_input"}[$__rate_interval]'
BY_AGENT = """\
An agent with a key of its own is in the panels above. Agents may also name themselves (`x-understudy-agent`), any
number of them: too many for metrics. The log adds them up:

```
curl -H "Authorization: Bearer $UNDERSTUDY_ADMIN_TOKEN" 'http://localhost:8000/admin/v1/savings?by=agent'
```

`by=model` and `by=day` do the same for models and days; `from` and `to` bound the time.
"""
SAVED_BY_KEY = (
    "sum by (key) (increase(understudy_key_counterfactual_cost_usd_total[$__range]))"
    ' - sum by (key) (increase(understudy_key_cost_usd_total{served_by="slm"}[$__range]))'
)


def dashboard() -> Dashboard:
    """Net money first, then its parts, then the tasks that it comes from."""
    return (
        board("savings", "Savings", "Net money: what the LLM would have cost, less everything that was paid instead.")
        .with_row(Row("Money"))
        .with_panel(
            number(
                "Net savings, whole log",
                "max(understudy_savings_usd)",
                USD,
                "What the LLM would have cost for the calls that an SLM served, less SLM, shadow, audit, wasted and "
                "training cost. Below zero where the SLMs cost more than they saved.",
                bad_below=0,
                decimals=2,
            )
        )
        .with_panel(
            number(
                "Spent",
                "sum(increase(understudy_cost_usd_total[$__range]))",
                USD,
                "LLM and SLMs together, in the time shown.",
                decimals=2,
            )
        )
        .with_panel(
            number(
                "Without SLMs",
                'sum(increase(understudy_cost_usd_total{served_by="llm"}[$__range]))'
                " + sum(increase(understudy_counterfactual_cost_usd_total[$__range]))",
                USD,
                "What the same calls would have cost at the LLM, in the time shown.",
                decimals=2,
            )
        )
        .with_panel(
            number(
                "Calls without a price",
                "sum(increase(understudy_unpriced_calls_total[$__range]))",
                COUNT,
                "Their models are not in the price table. They are in none of the totals: the true figures are larger.",
                bad_above=1,
                decimals=0,
            )
        )
        .with_panel(
            course(
                "Dollars an hour: spent, and without SLMs",
                {"spent": SPENT, "without SLMs": UNASSISTED},
                USD,
                "The gap between the lines is what is saved, before training.",
            )
        )
        .with_panel(
            course(
                "Net savings over time",
                {"net savings": "max(understudy_savings_usd)"},
                USD,
                "Over the whole log. A fall is a cost without savings: a GPU that idles, audits, wasted answers.",
            )
        )
        .with_panel(
            course(
                "What the net savings consist of",
                {"{{part}}": "max by (part) (understudy_savings_part_usd)"},
                USD,
                "Over the whole log: `counterfactual` is what the LLM would have cost, the others are subtracted.",
                width=24,
            )
        )
        .with_panel(
            course(
                "Dollars an hour, by who answered",
                {"{{served_by}}": "sum by (served_by) (rate(understudy_cost_usd_total[$__rate_interval])) * 3600"},
                USD,
                "What the SLMs cost includes their wasted answers and, where its price is set, the GPU's time. "
                "`shadow` and `audit` are copies, by which SLMs are put to the proof.",
                stacked=True,
            )
        )
        .with_panel(
            course(
                "Tokens a second",
                {
                    "{{served_by}} {{direction}}": (
                        "sum by (served_by, direction) (rate(understudy_tokens_total[$__rate_interval]))"
                    )
                },
                COUNT,
                "As the upstreams count them. `input` leaves out what the provider had cached.",
                stacked=True,
            )
        )
        .with_row(Row("Where it comes from"))
        .with_panel(
            number(
                "Served by an SLM",
                f'sum(increase(understudy_calls_total{{{CREATIONS}, served_by="slm"}}[$__range]))'
                f" / sum(increase(understudy_calls_total{{{CREATIONS}}}[$__range]))",
                SHARE,
                "Share of the chat and responses calls, in the time shown.",
                width=12,
                decimals=1,
            )
        )
        .with_panel(
            number(
                "LLM input from the provider's cache",
                f"sum(rate({CACHED})) / sum(rate({INPUT}))",
                SHARE,
                "Cached input costs a fraction. Diverted calls may take warmth from the cache of those that stay.",
                width=12,
                decimals=1,
            )
        )
        .with_panel(
            bars(
                "Served by an SLM, by task",
                'sum by (cluster) (increase(understudy_cluster_calls_total{served_by="slm"}[$__range]))'
                " / (sum by (cluster) (increase(understudy_cluster_calls_total[$__range])) > 0)",
                SHARE,
                "Share of each task's calls, in the time shown.",
                legend="{{cluster}}",
            )
        )
        .with_panel(
            course(
                "Calls a second, by task",
                {"{{cluster}}": "sum by (cluster) (rate(understudy_cluster_calls_total[$__rate_interval]))"},
                PER_SECOND,
                "The largest tasks that no SLM serves are where to look next: `understudy report`.",
                stacked=True,
            )
        )
        .with_panel(
            course(
                "Share served by an SLM over time",
                {"served by an SLM": "understudy:slm_calls:ratio_rate5m"},
                SHARE,
                "Of the chat and responses calls.",
                width=24,
            )
        )
        .with_row(Row("Whose calls they are"))
        .with_panel(
            bars(
                "Spent, by agent",
                "sum by (key) (increase(understudy_key_cost_usd_total[$__range]))",
                USD,
                "In the time shown, by the key that calls came with; `none` came without a key of the proxy's own.",
                legend="{{key}}",
                width=8,
            )
        )
        .with_panel(
            bars(
                "Saved, by agent",
                SAVED_BY_KEY,
                USD,
                "What the LLM would have cost for the calls that an SLM served, less what SLMs' answers cost. "
                "Copies, training and idle GPUs belong to no agent.",
                legend="{{key}}",
                width=8,
                signed=True,
            )
        )
        .with_panel(
            bars(
                "Served by an SLM, by agent",
                'sum by (key) (increase(understudy_key_calls_total{served_by="slm"}[$__range]))'
                " / (sum by (key) (increase(understudy_key_calls_total[$__range])) > 0)",
                SHARE,
                "Share of each agent's calls, in the time shown.",
                legend="{{key}}",
                width=8,
            )
        )
        .with_panel(words("By agent, by model, by day", BY_AGENT, "Where to look for whose calls they are."))
    )
