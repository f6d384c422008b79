"""Invoicing's metrics."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.metrics import Catalogue, Metric
from cobranza.chassis.streams import Event

CATALOGUE: Final = Catalogue(
    (
        Metric(
            name="documents_received_total",
            kind="counter",
            meaning="Documents of ERPs by type and what became of them.",
            labels={"event_type": 5, "outcome": 2},
        ),
    )
)
_RECEIVED: Final = CATALOGUE.counter("documents_received_total")


def count_input(event: Event, outcome: str) -> None:
    """Count one accepted or repeated document."""
    _RECEIVED.labels(event_type=event.type, outcome=outcome).inc()
