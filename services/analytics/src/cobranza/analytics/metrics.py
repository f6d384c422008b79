"""The metrics of the portfolio, for display: floats in major units, always by currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from cobranza.analytics.domain.ageing import Ageing, Bucket
from cobranza.chassis.metrics import MAX_COMPANIES, Catalogue, CompanyLabel, Metric
from cobranza.contracts.money import to_decimal

_CURRENCIES: Final = 8

CATALOGUE: Final = Catalogue(
    (
        Metric(
            name="open_amount",
            kind="gauge",
            meaning="Open amount by ageing bucket, major units.",
            labels={"company": MAX_COMPANIES, "currency": _CURRENCIES, "bucket": len(Bucket)},
        ),
        Metric(
            name="unapplied_cash_amount",
            kind="gauge",
            meaning="Money received and not applied, major units.",
            labels={"company": MAX_COMPANIES, "currency": _CURRENCIES},
        ),
        Metric(
            name="invoices_issued_total",
            kind="counter",
            meaning="Invoices taken in.",
            labels={"company": MAX_COMPANIES, "currency": _CURRENCIES},
        ),
        Metric(
            name="indicators_as_of_timestamp_seconds",
            kind="gauge",
            meaning="The business instant the gauges are computed for.",
            labels={"company": MAX_COMPANIES},
        ),
    )
)
_OPEN: Final = CATALOGUE.gauge("open_amount")
_UNAPPLIED: Final = CATALOGUE.gauge("unapplied_cash_amount")
_INVOICES: Final = CATALOGUE.counter("invoices_issued_total")
_AS_OF: Final = CATALOGUE.gauge("indicators_as_of_timestamp_seconds")


def company_label(companies: Iterable[str]) -> CompanyLabel:
    """The label value of each company; those beyond the budget are `other`."""
    return CompanyLabel(companies)


def count_invoices(counts: Mapping[tuple[str, str], int]) -> None:
    """Count invoices taken in, by company label and currency."""
    for (company, currency), count in counts.items():
        _INVOICES.labels(company=company, currency=currency).inc(count)


def show_portfolio(figures: Iterable[tuple[str, Ageing]], *, as_of: Mapping[str, float]) -> None:
    """Replace the gauges of the portfolio; what is no longer told vanishes.

    Args:
        figures: company label and ageing by currency; companies of one label are added up.
        as_of: business instant of the figures by company label, seconds since the epoch.
    """
    for gauge in (_OPEN, _UNAPPLIED, _AS_OF):
        gauge.clear()
    for company, entry in figures:
        for bucket, amount in entry.amounts.items():
            _OPEN.labels(company=company, currency=entry.currency, bucket=bucket.value).inc(_major(amount, entry))
        _UNAPPLIED.labels(company=company, currency=entry.currency).inc(_major(entry.unapplied, entry))
    for company, instant in as_of.items():
        _AS_OF.labels(company=company).set(instant)


def _major(minor: int, entry: Ageing) -> float:
    return float(to_decimal(minor, entry.currency))
