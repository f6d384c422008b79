"""The catalogue keeps its names and its budget of series."""

import pytest
from prometheus_client import CollectorRegistry

from cobranza.chassis.metrics import (
    CHASSIS,
    MAX_COMPANIES,
    MAX_SERIES_PER_METRIC,
    Catalogue,
    CompanyLabel,
    Metric,
    MetricError,
)


def test_no_metric_of_the_chassis_exceeds_the_budget() -> None:
    for metric in CHASSIS.metrics.values():
        assert metric.max_series < MAX_SERIES_PER_METRIC, metric.name
    assert sum(metric.max_series for metric in CHASSIS.metrics.values()) < 10_000


def test_a_label_that_is_too_large_is_refused() -> None:
    wide = Metric(
        name="notices_total",
        kind="counter",
        meaning="x",
        labels={"company": 20, "channel": 10, "reason": 5},
    )
    with pytest.raises(MetricError, match="1000 series"):
        Catalogue([wide], registry=CollectorRegistry())


@pytest.mark.parametrize(
    "metric",
    [
        Metric(name="notices", kind="counter", meaning="x"),
        Metric(name="notices_total", kind="gauge", meaning="x"),
        Metric(name="age_seconds", kind="histogram", meaning="x"),
        Metric(name="age_seconds", kind="gauge", meaning="x", buckets=(1.0,)),
    ],
)
def test_a_name_that_does_not_say_its_kind_is_refused(metric: Metric) -> None:
    with pytest.raises(MetricError):
        Catalogue([metric], registry=CollectorRegistry())


def test_a_metric_is_scraped_under_its_declared_name() -> None:
    registry = CollectorRegistry()
    metrics = Catalogue(
        [
            Metric(name="notices_total", kind="counter", meaning="x", labels={"channel": 3}),
            Metric(name="broken_total", kind="counter", meaning="x", has_prefix=False),
            Metric(name="age_seconds", kind="histogram", meaning="x", buckets=(1.0, 5.0)),
            Metric(name="build_info", kind="info", meaning="x"),
            Metric(name="waiting", kind="gauge", meaning="x"),
        ],
        registry=registry,
    )
    metrics.counter("notices_total").labels(channel="email").inc(2)
    metrics.counter("broken_total").inc()
    metrics.histogram("age_seconds").observe(2)
    metrics.info("build_info").info({"version": "1"})
    metrics.gauge("waiting").set(4)
    read = registry.get_sample_value
    assert read("cobranza_notices_total", {"channel": "email"}) == 2
    assert read("broken_total") == 1
    assert read("cobranza_age_seconds_bucket", {"le": "5.0"}) == 1
    assert read("cobranza_build_info", {"version": "1"}) == 1
    assert read("cobranza_waiting") == 4


def test_a_metric_is_not_taken_for_another_kind() -> None:
    metrics = Catalogue([Metric(name="waiting", kind="gauge", meaning="x")], registry=CollectorRegistry())
    with pytest.raises(MetricError, match="declared as a gauge"):
        metrics.counter("waiting")


def test_companies_beyond_the_cap_are_counted_together() -> None:
    label = CompanyLabel(f"company-{n}" for n in range(100))
    assert label("company-0") == "company-0"
    assert len({label(f"company-{n}") for n in range(100)}) == MAX_COMPANIES
    assert label("unknown") == "other"
