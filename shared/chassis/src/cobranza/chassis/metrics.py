"""Metrics as declared data, with the largest size of each label; and those of the chassis."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Info

PREFIX = "cobranza_"
MAX_SERIES_PER_METRIC = 1000
#: The most companies that have a label value of their own; the rest are counted as ``other``.
MAX_COMPANIES = 20

LabelName = Literal[
    "topic", "event_type", "outcome", "reason", "partition", "company", "currency", "bucket",
    "step", "channel", "match", "state", "kind", "route", "method", "status_class", "operation",
    "job_name", "name",
]  # fmt: skip
Kind = Literal["counter", "gauge", "histogram", "info"]
Instrument = Counter | Gauge | Histogram | Info
Chosen = TypeVar("Chosen", Counter, Gauge, Histogram, Info)

#: Buckets in seconds for requests and transactions; 0.5 s and 5 s are limits of the objectives.
FAST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Buckets in seconds for what may wait: events, timers.
SLOW_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 86400.0)
BATCH_SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: what it is called, what it means, and how many series it may have.

    Args:
        name: without the prefix, with its unit (``_seconds``, ``_total``).
        kind: what it is to Prometheus.
        meaning: one sentence, shown as its help.
        labels: each with the largest number of values it can take.
        buckets: upper bounds, for a histogram.
        has_prefix: False only for the one name that the architecture fixes without it.
    """

    name: str
    kind: Kind
    meaning: str
    labels: Mapping[LabelName, int] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    has_prefix: bool = True

    @property
    def full_name(self) -> str:
        """The name as it is scraped."""
        return f"{PREFIX}{self.name}" if self.has_prefix else self.name

    @property
    def max_series(self) -> int:
        """The largest number of label combinations."""
        return prod(self.labels.values())


class MetricError(Exception):
    """A declaration breaks a rule; the text names the metric and the rule."""


class Catalogue:
    """The metrics of one part of the platform, made once and asked for by name."""

    def __init__(self, metrics: Iterable[Metric], *, registry: CollectorRegistry = REGISTRY) -> None:
        """Check the declarations and make the instruments.

        Raises:
            MetricError: more series than the budget allows, or a name without its unit.
        """
        self.metrics = {metric.name: metric for metric in metrics}
        for metric in self.metrics.values():
            _check(metric)
        self._instruments = {name: _instrument(metric, registry) for name, metric in self.metrics.items()}

    def counter(self, name: str) -> Counter:
        """The counter of that name, ``_total`` included."""
        return self._of_kind(name, Counter)

    def gauge(self, name: str) -> Gauge:
        """The gauge of that name."""
        return self._of_kind(name, Gauge)

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name."""
        return self._of_kind(name, Histogram)

    def info(self, name: str) -> Info:
        """The info metric of that name."""
        return self._of_kind(name, Info)

    def _of_kind(self, name: str, kind: type[Chosen]) -> Chosen:
        instrument = self._instruments[name]
        if not isinstance(instrument, kind):
            raise MetricError(f"{name} is declared as a {self.metrics[name].kind}")
        return instrument


def _check(metric: Metric) -> None:
    if metric.max_series >= MAX_SERIES_PER_METRIC:
        raise MetricError(
            f"{metric.name} may have {metric.max_series} series; the budget is {MAX_SERIES_PER_METRIC - 1}"
        )
    if (metric.kind == "counter") != metric.name.endswith("_total"):
        raise MetricError(f"{metric.name}: counters, and only they, end in _total")
    if (metric.kind == "histogram") != bool(metric.buckets):
        raise MetricError(f"{metric.name}: histograms, and only they, have buckets")


def _instrument(metric: Metric, registry: CollectorRegistry) -> Instrument:
    labels = tuple(metric.labels)
    common: dict[str, Any] = {"labelnames": labels, "registry": registry}
    match metric.kind:
        case "counter":
            return Counter(metric.full_name, metric.meaning, **common)
        case "gauge":
            return Gauge(metric.full_name, metric.meaning, **common)
        case "histogram":
            return Histogram(metric.full_name, metric.meaning, buckets=metric.buckets, **common)
        case "info":
            # The client appends _info itself.
            name = metric.full_name.removesuffix("_info")
            return Info(name, metric.meaning, **common)


class CompanyLabel:
    """The label value of a company: itself for the first ones known, else ``other``."""

    def __init__(self, companies: Iterable[str]) -> None:
        """Take the companies in the order of their file."""
        self._named = frozenset(list(companies)[: MAX_COMPANIES - 1])

    def __call__(self, company: str) -> str:
        """The bounded label value."""
        return company if company in self._named else "other"


# A topic has at most 20 types, so 7 topics times the types of one of them bounds the pairs.
_TOPICS = 7
_TYPES_OF_A_TOPIC = 20
_PARTITIONS = 12

#: The metrics of the plumbing, the same in every service.
CHASSIS = Catalogue(
    (
        Metric(
            name="http_request_duration_seconds",
            kind="histogram",
            meaning="Time to answer a request, by route template.",
            labels={"route": 45, "method": 4, "status_class": 5},
            buckets=FAST_SECONDS,
        ),
        Metric(
            name="events_consumed_total",
            kind="counter",
            meaning="What became of every event: applied, duplicate, stale, parked, skipped.",
            labels={"topic": _TOPICS, "event_type": _TYPES_OF_A_TOPIC, "outcome": 5},
        ),
        Metric(
            name="event_age_seconds",
            kind="histogram",
            meaning="Commit time minus the event's time, canonical topics only.",
            labels={"topic": _TOPICS},
            buckets=SLOW_SECONDS,
        ),
        Metric(
            name="event_batch_seconds",
            kind="histogram",
            meaning="Time of one batch's transaction.",
            labels={"topic": _TOPICS},
            buckets=FAST_SECONDS,
        ),
        Metric(
            name="event_batch_size",
            kind="histogram",
            meaning="Events in one batch's transaction.",
            labels={"topic": _TOPICS},
            buckets=BATCH_SIZES,
        ),
        Metric(
            name="worker_last_progress_timestamp_seconds",
            kind="gauge",
            meaning="When the worker's loop last advanced.",
        ),
        Metric(
            name="consumer_lag_records",
            kind="gauge",
            meaning="High watermark minus position.",
            labels={"topic": _TOPICS, "partition": _PARTITIONS},
        ),
        Metric(
            name="parked_events",
            kind="gauge",
            meaning="Events that wait for a person.",
            labels={"topic": _TOPICS, "state": 3},
        ),
        Metric(
            name="parked_oldest_age_seconds",
            kind="gauge",
            meaning="Age of the oldest parked event.",
            labels={"topic": _TOPICS, "state": 3},
        ),
        Metric(
            name="consumer_stopped",
            kind="gauge",
            meaning="1 while a breaker keeps the consumer stopped.",
            labels={"topic": _TOPICS},
        ),
        Metric(
            name="position_rewinds_total",
            kind="counter",
            meaning="Holes between position and fetched records that a seek healed.",
            labels={"topic": _TOPICS},
        ),
        Metric(
            name="events_stale_total",
            kind="counter",
            meaning="Events at or below the version already applied.",
            labels={"topic": _TOPICS},
        ),
        Metric(
            name="events_jumped_total",
            kind="counter",
            meaning="Events whose version leaves out at least one before it.",
            labels={"topic": _TOPICS},
        ),
        Metric(
            name="events_suspect_total",
            kind="counter",
            meaning="Events whose company is missing or differs between key, attribute and data.",
            labels={"topic": _TOPICS},
        ),
        Metric(name="outbox_pending", kind="gauge", meaning="Outbox rows not yet sent."),
        Metric(
            name="outbox_oldest_age_seconds",
            kind="gauge",
            meaning="Age of the oldest outbox row not yet sent.",
        ),
        Metric(
            name="outbox_published_total",
            kind="counter",
            meaning="Events that the broker acknowledged.",
            labels={"topic": _TOPICS},
        ),
        Metric(
            name="db_transaction_seconds",
            kind="histogram",
            meaning="Time of one transaction.",
            labels={"operation": 20},
            buckets=FAST_SECONDS,
        ),
        Metric(
            name="db_pool_connections",
            kind="gauge",
            meaning="Connections of the pool.",
            labels={"state": 2},
        ),
        Metric(
            name="db_retries_total",
            kind="counter",
            meaning="Transactions tried again.",
            labels={"reason": 10},
        ),
        Metric(name="timers_due", kind="gauge", meaning="Timers due and not yet claimed."),
        Metric(
            name="timer_lateness_seconds",
            kind="histogram",
            meaning="Real time between a timer's due instant and its firing.",
            labels={"kind": 10},
            buckets=SLOW_SECONDS,
        ),
        Metric(
            name="invariant_violations_total",
            kind="counter",
            meaning="Rows that an invariant says cannot exist.",
            labels={"name": 40},
            has_prefix=False,
        ),
        Metric(name="build_info", kind="info", meaning="The version that runs."),
    )
)

HTTP_REQUEST_DURATION = CHASSIS.histogram("http_request_duration_seconds")
EVENTS_CONSUMED = CHASSIS.counter("events_consumed_total")
EVENT_AGE = CHASSIS.histogram("event_age_seconds")
EVENT_BATCH_SECONDS = CHASSIS.histogram("event_batch_seconds")
EVENT_BATCH_SIZE = CHASSIS.histogram("event_batch_size")
WORKER_LAST_PROGRESS = CHASSIS.gauge("worker_last_progress_timestamp_seconds")
CONSUMER_LAG = CHASSIS.gauge("consumer_lag_records")
PARKED_EVENTS = CHASSIS.gauge("parked_events")
PARKED_OLDEST_AGE = CHASSIS.gauge("parked_oldest_age_seconds")
CONSUMER_STOPPED = CHASSIS.gauge("consumer_stopped")
POSITION_REWINDS = CHASSIS.counter("position_rewinds_total")
EVENTS_STALE = CHASSIS.counter("events_stale_total")
EVENTS_JUMPED = CHASSIS.counter("events_jumped_total")
EVENTS_SUSPECT = CHASSIS.counter("events_suspect_total")
OUTBOX_PENDING = CHASSIS.gauge("outbox_pending")
OUTBOX_OLDEST_AGE = CHASSIS.gauge("outbox_oldest_age_seconds")
OUTBOX_PUBLISHED = CHASSIS.counter("outbox_published_total")
DB_TRANSACTION_SECONDS = CHASSIS.histogram("db_transaction_seconds")
DB_POOL_CONNECTIONS = CHASSIS.gauge("db_pool_connections")
DB_RETRIES = CHASSIS.counter("db_retries_total")
TIMERS_DUE = CHASSIS.gauge("timers_due")
TIMER_LATENESS = CHASSIS.histogram("timer_lateness_seconds")
INVARIANT_VIOLATIONS = CHASSIS.counter("invariant_violations_total")
BUILD_INFO = CHASSIS.info("build_info")
