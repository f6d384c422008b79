"""Payments' metrics."""

from __future__ import annotations

from typing import Final, Literal

from cobranza.chassis.metrics import Catalogue, Metric

Match = Literal["exact", "partial", "manual", "unapplied"]

CATALOGUE: Final = Catalogue(
    (
        Metric(
            name="payments_applied_total",
            kind="counter",
            meaning="Payments by how much of them was applied when they came in.",
            labels={"match": 4},
        ),
        Metric(
            name="permits_total",
            kind="counter",
            meaning="Answers to permit requests by outcome and first reason.",
            labels={"outcome": 2, "reason": 12},
        ),
        Metric(
            name="ledger_open_amount",
            kind="gauge",
            meaning="Open amount in the ledger, in major units, for display only.",
            labels={"company": 20, "currency": 10},
        ),
        Metric(
            name="webhooks_total",
            kind="counter",
            meaning="Webhooks of payment providers that proved their signature; refused ones wait for a person.",
            labels={"kind": 2, "outcome": 4},
        ),
        Metric(
            name="ledger_unapplied_amount",
            kind="gauge",
            meaning="Unapplied cash in the ledger, in major units, for display only.",
            labels={"company": 20, "currency": 10},
        ),
        Metric(
            name="cash_watermark_age_seconds",
            kind="gauge",
            meaning="Business seconds since the end of the last day through which cash is known.",
            labels={"company": 20},
        ),
        Metric(
            name="fiscal_receipts_open",
            kind="gauge",
            meaning="Fiscal receipts that are owed and not issued, by how near their deadline is: later, d3, d1, d0, overdue.",
            labels={"company": 20, "bucket": 5},
        ),
        Metric(
            name="fiscal_receipt_alerts_total",
            kind="counter",
            meaning="Deadlines of fiscal receipts that came near, or passed, without one.",
            labels={"bucket": 4},
        ),
        Metric(
            name="control_totals_total",
            kind="counter",
            meaning="Verdicts told on the ERPs' control totals.",
            labels={"outcome": 3},
        ),
        Metric(
            name="control_total_in_doubt",
            kind="gauge",
            meaning="1 while the last control total of a company and currency differs or is missing, else 0.",
            labels={"company": 20, "currency": 10},
        ),
    )
)
APPLIED: Final = CATALOGUE.counter("payments_applied_total")
WEBHOOKS: Final = CATALOGUE.counter("webhooks_total")
PERMITS: Final = CATALOGUE.counter("permits_total")
OPEN: Final = CATALOGUE.gauge("ledger_open_amount")
UNAPPLIED: Final = CATALOGUE.gauge("ledger_unapplied_amount")
WATERMARK_AGE: Final = CATALOGUE.gauge("cash_watermark_age_seconds")
FISCAL_OPEN: Final = CATALOGUE.gauge("fiscal_receipts_open")
FISCAL_ALERTS: Final = CATALOGUE.counter("fiscal_receipt_alerts_total")
CONTROL_TOTALS: Final = CATALOGUE.counter("control_totals_total")
CONTROL_IN_DOUBT: Final = CATALOGUE.gauge("control_total_in_doubt")


def count_payment(*, amount: int, applied: int) -> None:
    """Count one payment by how much of it was applied, both in minor units."""
    match: Match = "exact" if applied == amount else "partial" if applied else "unapplied"
    APPLIED.labels(match=match).inc()


def count_permit(*, granted: bool, reason: str) -> None:
    """Count one answer; `reason` is empty when granted without any refusal."""
    PERMITS.labels(outcome="granted" if granted else "refused", reason=reason or "none").inc()
