"""How panels look: one kind for a number, one for its course, one for a comparison, one for a list, one for words.

The grid is 24 wide; panels fill it from left to right, row by row.
"""

from __future__ import annotations

from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
P = TypeVar("P", stat.Panel, timeseries.Panel, bargauge.Panel, table.Panel, text.Panel)
USD, SHARE, PER_SECOND, SECONDS, BYTES, COUNT = "currencyUSD", "percentunit", "reqps", "s", "bytes", "short"


def board(name: str, title: str, description: str) -> Dashboard:
    """An empty dashboard that links to its siblings; a viewer with several Prometheus servers chooses one."""
    return (
        Dashboard(f"Understudy: {title}")
        .uid(f"understudy-{name}")
        .description(description)
        .tags(["understudy"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(DashboardLink("Understudy").type(DashboardLinkType.DASHBOARDS).tags(["understudy"]).keep_time(True))
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def number(
    title: str,
    expr: str,
    unit: str,
    description: str,
    *,
    legend: str = "",
    width: int = 6,
    decimals: int | None = None,
    bad_above: float | None = None,
    bad_below: float | None = None,
    words: dict[str, str] | None = None,
) -> stat.Panel:
    """One figure, as it is now or over the time that the dashboard shows (`$__range`).

    Args:
        bad_above, bad_below: red beyond it, else green; without either it has no colour.
        words: shown instead of values.
    """
    panel = (
        _about(stat.Panel(), title, description, width, 4)
        .datasource(SOURCE)
        .unit(unit)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expr, legend).instant())
    )
    if decimals is not None:
        panel.decimals(decimals)
    if bad_above is not None:
        panel.thresholds(_steps("green", bad_above, "red"))
    elif bad_below is not None:
        panel.thresholds(_steps("red", bad_below, "green"))
    else:
        panel.thresholds(_steps("text"))
    if words:
        panel.mappings([ValueMap({value: ValueMappingResult(text=text) for value, text in words.items()})])
    return panel


def course(
    title: str,
    queries: dict[str, str],
    unit: str,
    description: str,
    *,
    width: int = 12,
    stacked: bool = False,
    limit: float | None = None,
) -> timeseries.Panel:
    """How something changed.

    Args:
        queries: legend → expression.
        limit: a line that should not be crossed.
    """
    panel = (
        _about(timeseries.Panel(), title, description, width, 8)
        .datasource(SOURCE)
        .unit(unit)
        .fill_opacity(20 if stacked else 0)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if limit is not None:
        panel.thresholds(_steps("transparent", limit, "red")).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE)
        )
    for letter, (legend, expr) in zip("ABCDEFGH", queries.items(), strict=False):
        panel.with_target(_query(expr, legend).range().ref_id(letter))
    return panel


def bars(
    title: str, expr: str, unit: str, description: str, *, legend: str, width: int = 12, signed: bool = False
) -> bargauge.Panel:
    """Several figures of one kind beside each other.

    Args:
        signed: they may be below zero; else the bars begin there.
    """
    panel = (
        _about(bargauge.Panel(), title, description, width, 8)
        .datasource(SOURCE)
        .unit(unit)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_steps("blue"))
        .with_target(_query(expr, legend).instant())
    )
    if not signed:
        panel = panel.min(0)
    return panel.max(1) if unit == SHARE else panel


def rows(title: str, expr: str, description: str, *, columns: list[str], width: int = 12) -> table.Panel:
    """A list of label values; the samples' values are not shown."""
    shown = {"includeByName": dict.fromkeys(columns, True), "indexByName": {c: i for i, c in enumerate(columns)}}
    return (
        _about(table.Panel(), title, description, width, 8)
        .datasource(SOURCE)
        .with_target(_query(expr, "").instant().format(PromQueryFormat.TABLE))
        .with_transformation(DataTransformerConfig(id_val="organize", options=shown))
    )


def words(title: str, markdown: str, description: str, *, width: int = 24) -> text.Panel:
    """Where to go on reading."""
    return _about(text.Panel(), title, description, width, 7).mode(TextMode.MARKDOWN).content(markdown)


def _about(panel: P, title: str, description: str, width: int, height: int) -> P:
    """What every panel says of itself, and its room on the grid."""
    return panel.title(title).description(description).span(width).height(height)


def _query(expr: str, legend: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(SOURCE).expr(expr).ref_id("A")
    return query.legend_format(legend) if legend else query


def _steps(base: str, limit: float | None = None, beyond: str = "") -> ThresholdsConfig:
    steps = [Threshold(value=None, color=base)]
    if limit is not None:
        steps.append(Threshold(value=limit, color=beyond))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
