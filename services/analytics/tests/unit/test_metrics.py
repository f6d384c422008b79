"""The gauges show the portfolio of now and nothing of before."""

from prometheus_client import REGISTRY

from cobranza.analytics import metrics
from cobranza.analytics.domain.ageing import Ageing, Bucket


def _open(company: str, bucket: Bucket) -> float | None:
    labels = {"company": company, "currency": "MXN", "bucket": bucket.value}
    return REGISTRY.get_sample_value("cobranza_open_amount", labels)


def _ageing(amount: int) -> Ageing:
    entry = Ageing("MXN", unapplied=250)
    entry.amounts[Bucket.OVER_90] = amount
    return entry


def test_what_is_no_longer_owed_vanishes_from_the_gauges() -> None:
    metrics.show_portfolio([("gone", _ageing(100_00)), ("stays", _ageing(100_00))], as_of={"gone": 1.0, "stays": 1.0})

    metrics.show_portfolio([("stays", _ageing(40_00))], as_of={"stays": 2.0})

    assert _open("gone", Bucket.OVER_90) is None
    assert _open("stays", Bucket.OVER_90) == 40.0
    assert _open("stays", Bucket.CURRENT) == 0.0
    unapplied = {"company": "stays", "currency": "MXN"}
    assert REGISTRY.get_sample_value("cobranza_unapplied_cash_amount", unapplied) == 2.5
    as_of = REGISTRY.get_sample_value("cobranza_indicators_as_of_timestamp_seconds", {"company": "stays"})
    assert as_of == 2.0


def test_companies_beyond_the_label_budget_are_added_up() -> None:
    metrics.show_portfolio([("other", _ageing(100_00)), ("other", _ageing(50_00))], as_of={})

    assert _open("other", Bucket.OVER_90) == 150.0
