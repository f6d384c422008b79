"""What is exported reads back as it was, and no cell of it is a formula."""

import csv
import io
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.analytics import gateways


@pytest.mark.parametrize(
    "text",
    ['=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "\uff0b1", "\uff20x"],
)
def test_a_text_that_some_program_takes_for_a_formula_is_quoted(text: str) -> None:
    assert gateways.harmless(text) == f"'{text}"


@given(st.text())
def test_no_exported_text_begins_like_a_formula(text: str) -> None:
    (_, row) = csv.reader(io.StringIO(gateways.to_csv(["name"], [[text]]).removeprefix("\ufeff"), newline=""))

    first = (row or [""])[0].lstrip(" \u3000")[:1]
    assert first not in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_harmless_texts_read_back_as_they_were(text: str) -> None:
    rows = list(csv.reader(io.StringIO(gateways.to_csv(["a", "b"], [["x", text]]).removeprefix("\ufeff"), newline="")))

    assert rows[1][1] in (text, f"'{text}")


def test_a_negative_amount_stays_a_number() -> None:
    assert gateways.csv_lines([[Decimal("-12.50"), None, 3]]) == "-12.50,,3\r\n"


def test_minor_units_leave_as_decimals_of_their_currency() -> None:
    row = SimpleNamespace(currency="CLP", amount=1500, customer="C-1")

    assert gateways.cells(row, ["customer", "currency", "amount"]) == ["C-1", "CLP", Decimal(1500)]
