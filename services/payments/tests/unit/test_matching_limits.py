"""The limits that a company sets for cash application are checked when the file is read."""

from decimal import Decimal
from pathlib import Path

import pytest

from cobranza.chassis.companies import Companies, CompaniesError

ENTRY = """
companies:
  acme-es:
    name: Acme
    tax_id: X
    country: ES
    zone: Europe/Madrid
    currencies: [EUR, CLP]
    contact: {name: A, email: a@example.test}
    sender: {name: A, email: a@example.test}
"""


def read(tmp_path: Path, line: str) -> Companies:
    file = tmp_path / "companies.yaml"
    file.write_text(ENTRY + f"    {line}\n")
    return Companies.read(file)


def test_without_limits_every_cent_stays_open_and_the_threshold_is_090(tmp_path: Path) -> None:
    company = read(tmp_path, "fifo_auto: false").get("acme-es")
    assert company is not None
    assert (dict(company.tolerance), company.match_threshold, company.discount_grace_days) == ({}, Decimal("0.90"), 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('tolerance: {USD: {amount: "1", percent: "1"}}', "'USD' is none of the company's currencies"),
        ('tolerance: {CLP: {amount: "0.5", percent: "1"}}', "more decimals than CLP"),
        ('tolerance: {EUR: {amount: "-1", percent: "1"}}', "tolerance.EUR.amount"),
        ('tolerance: {EUR: {amount: "1", percent: "11"}}', "tolerance.EUR.percent"),
        ("match_threshold: 0.4", "match_threshold"),
        ("discount_grace_days: 31", "discount_grace_days"),
    ],
)
def test_a_wrong_limit_names_company_and_key(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(CompaniesError, match="acme-es") as refused:
        read(tmp_path, line)
    assert said in str(refused.value)
