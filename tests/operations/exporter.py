"""Shows every declared metric with made-up values that move, as a worker would: what the boards are tried on."""

from __future__ import annotations

import itertools
import select
import sys
import time
from importlib import import_module
from typing import Any

from prometheus_client import start_http_server

from cobranza.chassis.metrics import CHASSIS, Catalogue

#: Two values where a query tells them apart, else one.
VALUES: dict[str, tuple[str, ...]] = {
    "topic": ("cobranza.payments", "erp.payments"),
    "event_type": ("cobranza.payments.payment-received.v1",),
    "outcome": ("applied", "act", "parked"),
    "reason": ("none",),
    "partition": ("0", "1"),
    "company": ("acme-mx", "andes-cl"),
    "currency": ("MXN",),
    "bucket": ("current", "1-30", "31-60", "61-90", "90+"),
    "step": ("reminder", "none"),
    "channel": ("email",),
    "match": ("exact", "unapplied"),
    "state": ("in_use", "free"),
    "kind": ("case",),
    "route": ("/payments/v1/receivables",),
    "method": ("GET",),
    "status_class": ("2xx", "5xx"),
    "operation": ("batch",),
    "name": ("ledger_balances",),
    "job_name": ("import",),
}


def move(catalogue: Catalogue) -> None:
    """Let every metric of a catalogue go on by one step."""
    for metric in catalogue.metrics.values():
        instrument: Any = getattr(catalogue, metric.kind)(metric.name)
        for values in itertools.product(*(VALUES[label] for label in metric.labels)):
            child = instrument.labels(*values) if values else instrument
            match metric.kind:
                case "counter":
                    child.inc()
                case "gauge":
                    child.set(time.time() if "timestamp" in metric.name else 5)
                case "histogram":
                    child.observe(0.2)
                case "info":
                    child.info({"version": "0.1.0"})


def main() -> None:
    """Serve on a free port of the loopback, say which, and end when standard input does."""
    services = ("invoicing", "payments", "dunning", "notifications", "analytics")
    catalogues = [CHASSIS, *(import_module(f"cobranza.{service}.metrics").CATALOGUE for service in services)]
    for catalogue in catalogues:
        move(catalogue)
    server, _ = start_http_server(0, addr="127.0.0.1")
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], 0.5)[0]:
        for catalogue in catalogues:
            move(catalogue)


if __name__ == "__main__":
    main()
