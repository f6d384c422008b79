"""The metrics of the portfolio, for display: floats in major units, always by currency."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cobranza.analytics.domain.ageing import Bucket
from cobranza.chassis.metrics import MAX_COMPANIES, Catalogue, CompanyLabel, Metric

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
OPEN: Final = CATALOGUE.gauge("open_amount")
UNAPPLIED: Final = CATALOGUE.gauge("unapplied_cash_amount")
INVOICES: Final = CATALOGUE.counter("invoices_issued_total")
AS_OF: Final = CATALOGUE.gauge("indicators_as_of_timestamp_seconds")


def company_label(companies: Iterable[str]) -> CompanyLabel:
    """The label value of each company; those beyond the budget are `other`."""
    return CompanyLabel(companies)
