"""Whether the SLMs are fit to serve: stages, fallbacks, and why calls went where they went."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import COUNT, PER_SECOND, SHARE, bars, board, course, number, rows


def dashboard() -> Dashboard:
    """Which task is at which stage, then what speaks against it."""
    return (
        board("quality", "Quality", "What the SLMs may do, how often they could not, and why.")
        .with_row(Row("Stages"))
        .with_panel(
            rows(
                "Promoted tasks",
                "max by (cluster, stage) (understudy_promotion_stage) == 1",
                "Every task with an SLM, and how far it has come. Only `canary` and `live` answer clients.",
                columns=["cluster", "stage"],
            )
        )
        .with_panel(
            course(
                "Tasks at each stage",
                {"{{stage}}": "sum by (stage) (max by (cluster, stage) (understudy_promotion_stage))"},
                COUNT,
                "A task that leaves `live` was demoted, by a person or by itself: the audit log has the reason.",
                stacked=True,
            )
        )
        .with_panel(
            course(
                "Tasks in doubt",
                {"{{cluster}}": "max by (cluster) (understudy_promotion_in_doubt)"},
                COUNT,
                "An audited answer disagreed, or the LLM changed: the LLM answers the task's calls, and its SLM in the "
                "shadow, until enough agreements outweigh that. One that stays is compared too seldom: see the copies.",
                width=24,
                stacked=True,
            )
        )
        .with_row(Row("Disagreement"))
        .with_panel(
            course(
                "Disagreement and its bound",
                {
                    "{{cluster}}": "max by (cluster) (understudy_cluster_disagreement_ratio)",
                    "{{cluster}}, at most": "max by (cluster) (understudy_cluster_disagreement_bound)",
                    "promised": "max(understudy_risk)",
                },
                SHARE,
                "How many of each promoted task's certified and audited conversations differ from what the LLM said; "
                "the upper bound of that, and what is promised. The audit demotes what breaks the promise.",
            )
        )
        .with_panel(
            bars(
                "Bound against promise",
                "max by (cluster) (understudy_cluster_disagreement_bound) / on () group_left () max(understudy_risk)",
                COUNT,
                "Upper bound on disagreement as a multiple of what is promised, by task. From 1 on nothing is proved.",
                legend="{{cluster}}",
            )
        )
        .with_row(Row("Fallbacks"))
        .with_panel(
            number(
                "Fallbacks",
                "sum(increase(understudy_fallbacks_total[$__range]))"
                " / (sum(increase(understudy_fallbacks_total[$__range]))"
                ' + sum(increase(understudy_calls_total{served_by="slm"}[$__range])))',
                SHARE,
                "Of the calls meant for an SLM, in the time shown: the LLM answered them in the same request.",
                width=8,
                bad_above=0.2,
                decimals=1,
            )
        )
        .with_panel(
            number(
                "Payload unlike what was learned",
                'sum(increase(understudy_decisions_total{reason="payload_out_of_distribution"}[$__range]))'
                " / sum(increase(understudy_decisions_total[$__range]))",
                SHARE,
                "Of all decisions. A rise says that a task's inputs drift: learn and train anew.",
                width=8,
                decimals=1,
            )
        )
        .with_panel(
            number(
                "Of no known task",
                'sum(increase(understudy_decisions_total{reason=~"unknown_task|no_snapshot"}[$__range]))'
                " / sum(increase(understudy_decisions_total[$__range]))",
                SHARE,
                "Of all decisions. A rise says that agents changed: `understudy learn`.",
                width=8,
                decimals=1,
            )
        )
        .with_panel(
            course(
                "Fallbacks a second, by reason",
                {"{{reason}}": "sum by (reason) (rate(understudy_fallbacks_total[$__rate_interval]))"},
                PER_SECOND,
                "`output_invalid` and `low_confidence` are the model's fault, the others its server's.",
                stacked=True,
            )
        )
        .with_panel(
            course(
                "Share of fallbacks over time",
                {"fallbacks": "understudy:fallbacks:ratio_rate5m"},
                SHARE,
                "Of the calls meant for an SLM. The line is where the alert is.",
                limit=0.2,
            )
        )
        .with_row(Row("Copies"))
        .with_panel(
            course(
                "Shadow and audit copies a second, by outcome",
                {"{{kind}} {{outcome}}": "sum by (kind, outcome) (rate(understudy_copies_total[$__rate_interval]))"},
                PER_SECOND,
                "Second answers that no client sees: they prove SLMs. `over_budget`, `queue_full` and `paused` were "
                "not made.",
                width=24,
                stacked=True,
            )
        )
        .with_row(Row("Decisions"))
        .with_panel(
            course(
                "Decisions a second, by reason",
                {"{{reason}}": "sum by (reason) (rate(understudy_decisions_total[$__rate_interval])) > 0"},
                PER_SECOND,
                "Why calls went where they went; every answer's `x-understudy-reason` says it too.",
                width=24,
                stacked=True,
            )
        )
    )
