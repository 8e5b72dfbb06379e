"""Panels as this project draws them: one line for each, in the units and colours of all."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
LIMIT = "#c4162a"
"""Colour of objectives and bounds: lines that should not be crossed."""
_YES_NO = {"0": ("no", "red"), "1": ("yes", "green")}
_HEIGHT = 7

Query = tuple[str, str]
"""PromQL, and the legend of its series."""


def queries(panel: Any, found: Sequence[Query], *, instant: bool = False) -> Any:
    """Give a panel its queries."""
    for number, (expr, legend) in enumerate(found):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number))
        panel.with_target(query.datasource({"type": "prometheus", "uid": "${datasource}"}))
        if instant:
            query.instant().format(PromQueryFormat.TABLE)
    return panel


def lines(
    title: str,
    text: str,
    width: int,
    *found: Query,
    unit: str = "short",
    limits: Sequence[str] = (),
    top: float | None = None,
    stacked: bool = False,
) -> timeseries.Panel:
    """A panel of lines.

    Args:
        title: of the panel; unique in its dashboard.
        text: what it shows, in a sentence.
        width: of 24.
        found: queries and legends.
        unit: Grafana's name of it.
        limits: legends that are drawn as a dashed red line.
        top: upper end of the axis.
        stacked: whether areas are stacked.
    """
    panel = timeseries.Panel().title(title).description(text).datasource(SOURCE).span(width).height(_HEIGHT)
    panel.unit(unit).min(0).line_width(1.5).fill_opacity(30 if stacked else 0)
    panel.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .placement(common.LegendPlacement.BOTTOM)
        .display_mode(common.LegendDisplayMode.LIST)
    )
    panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if top is not None:
        panel.max(top)
    for legend in limits:
        panel.override_by_name(
            legend,
            [
                dashboard.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": LIMIT}),
                dashboard.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
            ],
        )
    queries(panel, found)
    return panel


def number(
    title: str,
    text: str,
    expr: str,
    *,
    legend: str = "",
    unit: str = "short",
    width: int = 3,
    says: Mapping[str, tuple[str, str]] | None = None,
    names: bool = False,
    empty: str | None = None,
) -> stat.Panel:
    """A panel of one figure.

    Args:
        title: of the panel.
        text: what it shows, in a sentence.
        expr: PromQL.
        legend: name of the figure, which is shown in place of it with `names`.
        unit: Grafana's name of it.
        width: of 24.
        says: text and colour for a value.
        names: whether the legend is shown, and not the value.
        empty: what is shown where there is nothing.
    """
    panel = stat.Panel().title(title).description(text).datasource(SOURCE).span(width).height(4).unit(unit)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(common.BigValueColorMode.VALUE)
    panel.graph_mode(common.BigValueGraphMode.NONE)
    panel.text_mode(common.BigValueTextMode.NAME if names else common.BigValueTextMode.VALUE)
    if says:
        options = {
            value: dashboard.ValueMappingResult(text=word, color=colour) for value, (word, colour) in says.items()
        }
        panel.mappings([dashboard.ValueMap(options=options)])
    if empty is not None:
        panel.no_value(empty)
    queries(panel, [(expr, legend)])
    return panel


def yes_no(title: str, text: str, expr: str, width: int = 3) -> stat.Panel:
    """A panel that says yes in green or no in red."""
    return number(title, text, expr, says=_YES_NO, width=width)


def rows(title: str, text: str, width: int, *found: Query) -> table.Panel:
    """A table with a row for each resource, and a column for each query."""
    panel = table.Panel().title(title).description(text).datasource(SOURCE).span(width).height(10)
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    hidden = {name: True for name in ("Time", "__name__", "instance", "job", "pod", "container", "endpoint")}
    renamed = {f"Value #{chr(ord('A') + n)}": legend for n, (_, legend) in enumerate(found)}
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"excludeByName": hidden, "renameByName": renamed, "indexByName": {}}
        )
    )
    for legend in renamed.values():
        if legend.endswith("%"):
            panel.override_by_name(legend, [dashboard.DynamicConfigValue(id_val="unit", value="percentunit")])
    queries(panel, found, instant=True)
    return panel


def board(uid: str, title: str, text: str, refresh: str = "30s", since: str = "now-3h") -> dashboards.Dashboard:
    """A dashboard with the choice of a Prometheus."""
    made = dashboards.Dashboard(title).uid(uid).description(text).tags(["dopd", "inference"]).refresh(refresh)
    made.time(since, "now").timezone("browser").editable().tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    made.with_variable(dashboards.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    link = dashboards.DashboardLink("dopd").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["dopd"])
    return made.link(link.as_dropdown(True).include_vars(True).keep_time(True))


def choice(name: str, label: str, query: str) -> dashboards.QueryVariable:
    """A variable with the values of a label."""
    made = dashboards.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    return made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)


def marks(name: str, expr: str, title: str, colour: str) -> dict[str, Any]:
    """An annotation of each time at which a query has a value. The library has no words for its title."""
    return {
        "name": name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "iconColor": colour,
        "expr": expr,
        "step": "30s",
        "titleFormat": title,
        "textFormat": title,
    }


def written(made: dashboards.Dashboard, annotations: Sequence[dict[str, Any]] = ()) -> str:
    """The JSON that Grafana imports, with numbered panels."""
    found = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    found["annotations"] = {"list": list(annotations)}
    for number, panel in enumerate(found["panels"], start=1):
        panel["id"] = number
    return json.dumps(found, indent=1) + "\n"
