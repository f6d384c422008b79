"""Rows of the read model leave as cells of a spreadsheet."""

from decimal import Decimal
from types import SimpleNamespace

from cobranza.analytics import gateways


def test_minor_units_leave_as_decimals_of_their_currency() -> None:
    row = SimpleNamespace(currency="CLP", amount=1500, customer="C-1")

    assert gateways.cells(row, ["customer", "currency", "amount"]) == ["C-1", "CLP", Decimal(1500)]
