"""Grafana's boards as code: what people read on them is reviewed, tested and the same everywhere.

`python deploy/grafana/build.py [DIRECTORY]` writes one JSON file per board, the same bytes every time.
"""  # noqa: INP001

from __future__ import annotations

import json
import string
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as boards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models

DASHBOARDS: Final = Path(__file__).parent / "dashboards"
_SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH: Final = 24
_TAG: Final = "cobranza"
#: Buckets of age from harmless to worst, so that the stack reads from bottom to top.
_BUCKETS: Final = ("current", "1-30", "31-60", "61-90", "90+")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: what it is called, what it means, and the questions it asks.

    Args:
        title: a few words.
        meaning: a sentence on what is normal and what is not; shown as the panel's description.
        unit: Grafana's name of the unit.
        asks: expression and legend of each query.
        stacked: whether the series add up to something.
        alarm: a figure's limit: red from there on; None makes it a time series.
        decimals: digits after the point; None lets Grafana choose.
        can_be_negative: else the scale begins at 0.
    """

    title: str
    meaning: str
    unit: str
    asks: Sequence[tuple[str, str]]
    stacked: bool = False
    alarm: float | None = None
    decimals: int | None = None
    can_be_negative: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels side by side under one heading, each `width` of 24 columns."""

    title: str
    width: int
    panels: Sequence[Panel]


def pipeline() -> dict[str, Any]:
    """Whether events and requests flow, and where they do not."""
    of = 'service=~"$service"'
    records = _rate("event_batch_size_sum", by="service", of=of)
    batches = _rate("event_batch_size_count", by="service", of=of)
    pool = f"sum by (instance) (cobranza_db_pool_connections{{{of}}})"
    rows = (
        Row(
            title="Now",
            width=4,
            panels=(
                Panel(
                    title="Processes away", unit="short", alarm=1, decimals=0,
                    meaning="Processes that do not answer Prometheus; 0 is normal.",
                    asks=[(f"count(up{{{of}}} == 0) or vector(0)", "")],
                ),
                Panel(
                    title="Promises broken, 24 h", unit="short", alarm=1, decimals=0,
                    meaning="Rows that an invariant says cannot exist; anything but 0 is an incident.",
                    asks=[(f"sum(increase(invariant_violations_total{{{of}}}[24h]))", "")],
                ),
                Panel(
                    title="Consumers stopped", unit="short", alarm=1, decimals=0,
                    meaning="Consumers that a flood of refused events stopped; a person lets them go on.",
                    asks=[(f"sum(max by (service, topic) (cobranza_consumer_stopped{{{of}}}))", "")],
                ),
                Panel(
                    title="Records waiting", unit="short", alarm=10_000, decimals=0,
                    meaning="Lag of all consumers together; a peak that shrinks is a catch-up.",
                    asks=[(f"sum(topic:cobranza_consumer_lag_records:sum{{{of}}})", "")],
                ),
                Panel(
                    title="Events parked", unit="short", alarm=1, decimals=0,
                    meaning="Events that wait for a person; their customers get no notices meanwhile.",
                    asks=[(f"sum(max by (service, topic, state) (cobranza_parked_events{{{of}}}))", "")],
                ),
                Panel(
                    title="Oldest unsent event", unit="s", alarm=60, decimals=1,
                    meaning="How long the oldest event has waited in an outbox; seconds are normal.",
                    asks=[(f"max(cobranza_outbox_oldest_age_seconds{{{of}}})", "")],
                ),
            ),
        ),
        Row(
            title="Events",
            width=8,
            panels=(
                Panel(
                    title="Events by outcome", unit="eps", stacked=True,
                    meaning="What became of every event read; parked and skipped deserve a look.",
                    asks=[(_rate("events_consumed_total", by="outcome", of=of), "{{outcome}}")],
                ),
                Panel(
                    title="Age of events when applied, p99", unit="s",
                    meaning="From the event's own time to the commit of its effect; the objective is 99 % within 5 s.",
                    asks=[(_quantile(0.99, "event_age_seconds", by="service", of=of), "{{service}}")],
                ),
                Panel(
                    title="Records waiting by topic", unit="short",
                    meaning="High watermark minus position; flat above 0 means that nothing moves.",
                    asks=[(f"topic:cobranza_consumer_lag_records:sum{{{of}}}", "{{service}} {{topic}}")],
                ),
                Panel(
                    title="Time of a batch, p95", unit="s",
                    meaning="One transaction per batch of one partition; the database is what makes it long.",
                    asks=[(_quantile(0.95, "event_batch_seconds", by="service", of=of), "{{service}}")],
                ),
                Panel(
                    title="Events in a batch, mean", unit="short", decimals=1,
                    meaning="Grows under load, which is what makes a catch-up quick.",
                    asks=[(f"{records} / {batches}", "{{service}}")],
                ),
                Panel(
                    title="Stale, jumped, rewound", unit="eps",
                    meaning="Events already known, versions left out, holes healed by a seek; small and rare.",
                    asks=[
                        (f"sum(rate(cobranza_events_stale_total{{{of}}}[$__rate_interval])) or vector(0)", "stale"),
                        (f"sum(rate(cobranza_events_jumped_total{{{of}}}[$__rate_interval])) or vector(0)", "jumped"),
                        (f"sum(rate(cobranza_position_rewinds_total{{{of}}}[$__rate_interval])) or vector(0)", "rewound"),
                    ],
                ),
            ),
        ),
        Row(
            title="Parked events and outbox",
            width=6,
            panels=(
                Panel(
                    title="Parked events", unit="short", stacked=True,
                    meaning="Poison was refused, behind waits for its key, conflict contradicts what is known.",
                    asks=[(
                        f"max by (service, topic, state) (cobranza_parked_events{{{of}}})", "{{service}} {{topic}} {{state}}",
                    )],
                ),
                Panel(
                    title="Oldest parked event", unit="s",
                    meaning="A ticket is due after 15 minutes.",
                    asks=[(f"max by (service, topic) (cobranza_parked_oldest_age_seconds{{{of}}})", "{{service}} {{topic}}")],
                ),
                Panel(
                    title="Unsent events", unit="short",
                    meaning="Rows in each outbox that the broker has not acknowledged.",
                    asks=[(f"max by (service) (cobranza_outbox_pending{{{of}}})", "{{service}}")],
                ),
                Panel(
                    title="Events published", unit="eps",
                    meaning="What the broker acknowledged, by topic.",
                    asks=[(_rate("outbox_published_total", by="topic", of=of), "{{topic}}")],
                ),
            ),
        ),
        Row(
            title="Requests, timers, database",
            width=8,
            panels=(
                Panel(
                    title="Requests", unit="reqps", stacked=True,
                    meaning="Answers of the APIs and pages by class of status.",
                    asks=[(_rate("http_request_duration_seconds_count", by="status_class", of=of), "{{status_class}}")],
                ),
                Panel(
                    title="Time of a request, p95", unit="s",
                    meaning="By service; a ticket is due above 0.5 s.",
                    asks=[(_quantile(0.95, "http_request_duration_seconds", by="service", of=of), "{{service}}")],
                ),
                Panel(
                    title="Slowest routes, p95", unit="s",
                    meaning="The ten route templates that take longest.",
                    asks=[(f"topk(10, {_quantile(0.95, 'http_request_duration_seconds', by='route', of=of)})", "{{route}}")],
                ),
                Panel(
                    title="Lateness of timers, p95", unit="s",
                    meaning="From due to fired, by kind; a ticket is due above 15 minutes.",
                    asks=[(_quantile(0.95, "timer_lateness_seconds", by="kind", of=of), "{{kind}}")],
                ),
                Panel(
                    title="Time of a transaction, p95", unit="s",
                    meaning="By operation; what is slow here is slow everywhere above.",
                    asks=[(_quantile(0.95, "db_transaction_seconds", by="operation", of=of), "{{operation}}")],
                ),
                Panel(
                    title="Connections in use", unit="percentunit",
                    meaning="Share of each worker's pool; a ticket is due above 90 %.",
                    asks=[(
                        f'cobranza_db_pool_connections{{state="in_use",{of}}} / on (instance) {pool}', "{{instance}}",
                    )],
                ),
            ),
        ),
    )  # fmt: skip
    return _board(
        "cobranza-pipeline",
        title="Event pipeline",
        meaning="Whether events and requests flow, and where they do not.",
        variables=(_variable("service", metric="up"),),
        rows=rows,
    )


def collections() -> dict[str, Any]:
    """What is owed, what comes in, and whom the platform contacts."""
    of = 'company=~"$company",currency=~"$currency"'
    # A worker that lost the lock may still show what it saw last: the largest is taken, never the sum.
    shown = f"sum by (company, currency) (max by (company, currency, bucket) (cobranza_open_amount{{{of}}}))"
    current = f'max by (company, currency) (cobranza_open_amount{{bucket="current",{of}}})'
    ledger = f"max by (company, currency) (cobranza_ledger_open_amount{{{of}}})"
    rows = (
        Row(
            title="Portfolio (never added up over currencies)",
            width=12,
            panels=(
                Panel(
                    title="Open by age", unit="short", stacked=True,
                    meaning="Open amount by days past due, per company and currency, in major units.",
                    asks=[
                        (
                            f'max by (company, currency) (cobranza_open_amount{{bucket="{bucket}",{of}}})',
                            f"{{{{company}}}} {{{{currency}}}} {bucket}",
                        )
                        for bucket in _BUCKETS
                    ],
                ),
                Panel(
                    title="Share past due", unit="percentunit",
                    meaning="Of what is open, how much is past its due date.",
                    asks=[(f"1 - {current} / {shown}", "{{company}} {{currency}}")],
                ),
                Panel(
                    title="Open in the ledger minus open in the portfolio", unit="short",
                    meaning="The figures people see against the ledger; 0 but for the seconds an event takes.",
                    asks=[(f"{ledger} - {shown}", "{{company}} {{currency}}")],
                    can_be_negative=True,
                ),
                Panel(
                    title="Unapplied cash, share of what is open", unit="percentunit",
                    meaning="Money received that is not yet set against a debt; a ticket is due above 10 % for a day.",
                    asks=[(f"company_currency:cobranza_ledger_unapplied:ratio{{{of}}}", "{{company}} {{currency}}")],
                ),
            ),
        ),
        Row(
            title="In",
            width=8,
            panels=(
                Panel(
                    title="Invoices taken in", unit="short",
                    meaning="New invoices per hour.",
                    asks=[(_per_hour("invoices_issued_total", by="company, currency", of=of), "{{company}} {{currency}}")],
                ),
                Panel(
                    title="Documents by outcome", unit="short", stacked=True,
                    meaning="Documents of ERPs per hour: accepted, and said again.",
                    asks=[(_per_hour("documents_received_total", by="outcome"), "{{outcome}}")],
                ),
                Panel(
                    title="Payments by how they were applied", unit="short", stacked=True,
                    meaning="Per hour; unapplied ones wait for a person.",
                    asks=[(_per_hour("payments_applied_total", by="match"), "{{match}}")],
                ),
            ),
        ),
        Row(
            title="Contact",
            width=8,
            panels=(
                Panel(
                    title="Decisions", unit="short", stacked=True,
                    meaning="Decisions per hour to contact (act) and not to; each is kept with its reasons.",
                    asks=[(_per_hour("dunning_decisions_total", by="outcome"), "{{outcome}}")],
                ),
                Panel(
                    title="Contacts by step", unit="short", stacked=True,
                    meaning="Decisions to act per hour, by step of the policy.",
                    asks=[(_per_hour("dunning_decisions_total", by="step", of='outcome="act"'), "{{step}}")],
                ),
                Panel(
                    title="Cases", unit="short", stacked=True,
                    meaning="Open cases by state.",
                    asks=[("max by (state) (cobranza_cases)", "{{state}}")],
                ),
                Panel(
                    title="Permits", unit="short", stacked=True,
                    meaning="The ledger's answers per hour to 'may we ask for this, now?'.",
                    asks=[(_per_hour("permits_total", by="outcome, reason"), "{{outcome}} {{reason}}")],
                ),
                Panel(
                    title="Notices", unit="short", stacked=True,
                    meaning="What became of notices, per hour.",
                    asks=[(_per_hour("notices_total", by="channel, outcome"), "{{channel}} {{outcome}}")],
                ),
                Panel(
                    title="Oldest notice waiting", unit="s",
                    meaning="A page is due above 30 minutes.",
                    asks=[("max(cobranza_notices_waiting_oldest_seconds)", "oldest")],
                ),
            ),
        ),
        Row(
            title="Whether to trust the figures",
            width=6,
            panels=(
                Panel(
                    title="Outcome unknown", unit="short", alarm=1, decimals=0,
                    meaning="Notices of which nobody can tell whether they left; their policy's rule settles them.",
                    asks=[("max(cobranza_notices_unknown)", "")],
                ),
                Panel(
                    title="Cases found without a timer, 24 h", unit="short", alarm=1, decimals=0,
                    meaning="Accounts with open items that nothing would have woken; 0 in a healthy system.",
                    asks=[("sum(increase(cobranza_cases_rearmed_total[24h]))", "")],
                ),
                Panel(
                    title="Age of the figures", unit="s", alarm=900, decimals=0,
                    meaning="Since the portfolio was last computed; seconds are normal.",
                    asks=[(
                        'time() - min(max by (company) (cobranza_indicators_as_of_timestamp_seconds{company=~"$company"}))', "",
                    )],
                ),
                Panel(
                    title="Age of the bank information", unit="s", alarm=345_600, decimals=0,
                    meaning="Since the end of the last day through which cash is known, the oldest company's.",
                    asks=[('max(cobranza_cash_watermark_age_seconds{company=~"$company"})', "")],
                ),
            ),
        ),
    )  # fmt: skip
    return _board(
        "cobranza-collections",
        title="Collections overview",
        meaning="What is owed, what comes in, and whom the platform contacts.",
        variables=(
            _variable("company", metric="cobranza_open_amount"),
            _variable("currency", metric="cobranza_open_amount"),
        ),
        rows=rows,
    )


BOARDS: Final = (pipeline, collections)


def write(directory: Path) -> list[Path]:
    """Write every board below `directory`, in the folder that is its folder in Grafana."""
    folder = directory / "cobranza"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for board in BOARDS:
        path = folder / f"{board.__name__}.json"
        path.write_text(json.dumps(board(), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _rate(metric: str, *, by: str, of: str = "") -> str:
    selector = f"{{{of}}}" if of else ""
    return f"sum by ({by}) (rate(cobranza_{metric}{selector}[$__rate_interval]))"


def _per_hour(metric: str, *, by: str, of: str = "") -> str:
    return f"{_rate(metric, by=by, of=of)} * 3600"


def _quantile(share: float, metric: str, *, by: str, of: str) -> str:
    buckets = _rate(f"{metric}_bucket", by=f"{by}, le", of=of)
    return f"histogram_quantile({share}, {buckets})"


def _board(
    uid: str, *, title: str, meaning: str, variables: Sequence[boards.QueryVariable], rows: Sequence[Row]
) -> dict[str, Any]:
    board = (
        boards.Dashboard(title)
        .uid(uid)
        .description(meaning)
        .tags([_TAG])
        .readonly()
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(boards.DashboardLink("Cobranza").type(models.DashboardLinkType.DASHBOARDS).tags([_TAG]).keep_time(True))  # noqa: FBT003
        .annotation(
            boards.AnnotationQuery()
            .name("Releases")
            .datasource(_SOURCE)
            .enable(True)  # noqa: FBT003
            .icon_color("blue")
            .expr(
                "count by (service, version) (cobranza_build_info) "
                "unless count by (service, version) (cobranza_build_info offset 5m)"
            )
        )
        .with_variable(boards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        board = board.with_variable(variable)
    number, top = 0, 0
    for row in rows:
        number += 1
        board = board.with_row(boards.Row(row.title).id(number).grid_pos(models.GridPos(x=0, y=top, w=_WIDTH, h=1)))
        top += 1
        height = 4 if all(panel.alarm is not None for panel in row.panels) else 8
        per_line = _WIDTH // row.width
        for index, panel in enumerate(row.panels):
            number += 1
            line, column = divmod(index, per_line)
            place = models.GridPos(x=column * row.width, y=top + line * height, w=row.width, h=height)
            board = board.with_panel(_panel(panel, number=number, place=place))
        top += height * -(-len(row.panels) // per_line)
    built: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(board.build()))
    return built


def _panel(panel: Panel, *, number: int, place: models.GridPos) -> stat.Panel | timeseries.Panel:
    shown: stat.Panel | timeseries.Panel
    if panel.alarm is not None:
        shown = (
            stat.Panel()
            .color_mode(looks.BigValueColorMode.BACKGROUND)
            .graph_mode(looks.BigValueGraphMode.AREA)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .thresholds(
                boards.ThresholdsConfig()
                .mode(models.ThresholdsMode.ABSOLUTE)
                .steps([models.Threshold(color="green"), models.Threshold(color="red", value=panel.alarm)])
            )
        )
    else:
        shown = (
            timeseries.Panel()
            .line_width(1)
            .fill_opacity(30 if panel.stacked else 5)
            .legend(
                common.VizLegendOptions()
                .display_mode(looks.LegendDisplayMode.LIST)
                .placement(looks.LegendPlacement.BOTTOM)
                .show_legend(True)  # noqa: FBT003
            )
            .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        )
        if panel.stacked:
            shown = shown.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    shown = (
        shown.id(number)
        .title(panel.title)
        .description(panel.meaning)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .grid_pos(place)
    )
    if not panel.can_be_negative:
        shown = shown.min(0)
    if panel.decimals is not None:
        shown = shown.decimals(panel.decimals)
    for letter, (expression, legend) in zip(string.ascii_uppercase, panel.asks, strict=False):
        shown = shown.with_target(
            prometheus.Dataquery().ref_id(letter).datasource(_SOURCE).expr(expression).legend_format(legend)
        )
    return shown


def _variable(name: str, *, metric: str) -> boards.QueryVariable:
    return (
        boards.QueryVariable(name)
        .label(name.capitalize())
        .datasource(_SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)  # noqa: FBT003
        .include_all(True)  # noqa: FBT003
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )


if __name__ == "__main__":
    for file in write(Path(sys.argv[1]) if len(sys.argv) > 1 else DASHBOARDS):
        sys.stdout.write(f"{file}\n")
