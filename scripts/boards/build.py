"""A board in Grafana's words, by its SDK: the form that provisioning takes in every Grafana (schema
42), not the newer one of its API, which the SDK prefers."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as shared_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .panel import INFLUX, PROMETHEUS, Board, Choice, Look, Panel, Query

UIDS = {PROMETHEUS: "skep-prometheus", INFLUX: "skep-influxdb"}  # as in the provisioning files
KINDS = {PROMETHEUS: "prometheus", INFLUX: "influxdb"}
TITLES = {PROMETHEUS: "Prometheus", INFLUX: "InfluxDB"}
COLUMNS = 24
# How often there is something new, as `skep monitor` has it: drawn finer, lines have holes.
INTERVALS = {PROMETHEUS: "15s", INFLUX: "10s"}
Visual = stat.Panel | timeseries.Panel | table.Panel


@dataclass(frozen=True)
class InfluxQuery(Dataquery):
    """A query of InfluxQL as Grafana's plugin has it, which the SDK lacks."""

    query: str
    ref_id: str
    alias: str
    datasource: common.DataSourceRef
    result_format: str

    def to_json(self) -> dict[str, object]:
        return {
            "datasource": self.datasource,
            "refId": self.ref_id,
            "query": self.query,
            "rawQuery": True,
            "resultFormat": self.result_format,
            "alias": self.alias,
        }


@dataclass(frozen=True)
class _Made(Builder[Dataquery]):
    """What is made already, where a builder is asked for."""

    query: Dataquery

    def build(self) -> Dataquery:
        return self.query


def text_of(board: Board, source: str) -> str:
    """Returns the board's file for a database."""
    return JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False).encode(_build(board, source)) + "\n"


def _source(source: str) -> common.DataSourceRef:
    return common.DataSourceRef(type_val=KINDS[source], uid=UIDS[source])


def _build(board: Board, source: str) -> models.Dashboard:
    made = (
        dashboards.Dashboard(f"{board.title} ({TITLES[source]})")
        .uid(f"skep-{board.name}-{source}")
        .description(board.says)
        .tags(["skep", source])
        .refresh(board.refresh)
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboards.DashboardLink("skep")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["skep", source])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
    )
    for choice in board.choices(source):
        made.with_variable(_variable(choice, source))
    x = y = row_height = 0
    for number, panel in enumerate(board.panels_of(source), 1):
        if x + panel.look.width > COLUMNS:
            x, y, row_height = 0, y + row_height, 0
        place = models.GridPos(h=panel.look.height, w=panel.look.width, x=x, y=y)
        made.with_panel(_panel(panel, source).id(number).grid_pos(place))
        x += panel.look.width
        row_height = max(row_height, panel.look.height)
    return made.build()


def _variable(choice: Choice, source: str) -> dashboards.QueryVariable:
    made = (
        dashboards.QueryVariable(choice.name)
        .label(choice.label)
        .datasource(_source(source))
        .query(choice.query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    return made.regex(choice.regex) if choice.regex else made


def _panel(panel: Panel, source: str) -> Visual:
    made = _visual(panel)
    made.title(panel.title).unit(panel.unit).datasource(_source(source)).interval(INTERVALS[source])
    if panel.says:
        made.description(panel.says)
    for place, query in enumerate(panel.queries(source)):
        made.with_target(_target(query, source, chr(ord("A") + place), panel.look))
    return made


def _visual(panel: Panel) -> Visual:
    if panel.look is Look.STAT:
        last = shared_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
        return (
            stat.Panel()
            .reduce_options(last)
            .color_mode(common.BigValueColorMode.NONE)
            .graph_mode(common.BigValueGraphMode.AREA)
            .text_mode(common.BigValueTextMode.VALUE)
        )
    if panel.look is Look.TABLE:
        return table.Panel()
    legend = shared_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST)
    legend.placement(common.LegendPlacement.BOTTOM).show_legend(True)
    tooltip = shared_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    tooltip.sort(common.SortOrder.DESCENDING)
    # A scrape a little late is no hole; half a minute without any is one.
    lines = timeseries.Panel().legend(legend).tooltip(tooltip).min(0).line_width(1).fill_opacity(10)
    return lines.span_nulls(30_000).show_points(common.VisibilityMode.AUTO)


def _target(query: Query, source: str, ref_id: str, look: Look) -> Builder[Dataquery]:
    rows = look is Look.TABLE
    if source == INFLUX:
        shape = "table" if rows else "time_series"
        return _Made(InfluxQuery(query.text, ref_id, query.name, _source(source), shape))
    made = prometheus.Dataquery().expr(query.text).ref_id(ref_id).datasource(_source(source))
    if rows:
        return made.instant().format(PromQueryFormat.TABLE)
    return made.range().legend_format(query.name)
