"""Notifications' metrics."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.metrics import Catalogue, Metric

CATALOGUE: Final = Catalogue(
    (
        Metric(
            name="notices_total",
            kind="counter",
            meaning="What became of every notice.",
            labels={"channel": 6, "outcome": 6},
        ),
        Metric(
            name="notices_waiting_oldest_seconds",
            kind="gauge",
            meaning="Real age of the oldest notice that waits to be sent.",
        ),
        Metric(name="notices_unknown", kind="gauge", meaning="Notices of which nobody can tell whether they left."),
    )
)
_NOTICES: Final = CATALOGUE.counter("notices_total")
_OLDEST: Final = CATALOGUE.gauge("notices_waiting_oldest_seconds")
_UNKNOWN: Final = CATALOGUE.gauge("notices_unknown")


def count_notice(*, channel: str, outcome: str) -> None:
    """Count one outcome."""
    _NOTICES.labels(channel=channel, outcome=outcome).inc()


def gauge_waiting(*, oldest_seconds: float, unknown: int) -> None:
    """Export how long the oldest notice has waited and how many are unknown."""
    _OLDEST.set(oldest_seconds)
    _UNKNOWN.set(unknown)
