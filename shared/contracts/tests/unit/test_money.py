from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cobranza.contracts.money import (
    EXPONENTS,
    CurrencyMismatch,
    Money,
    PositiveMoney,
    exponent,
    to_decimal,
    to_minor,
)

# A tenth of the largest amount, so that sums of ten stay within 15 integer digits.
minors = st.integers(min_value=-(10**14), max_value=10**14)
currencies = st.sampled_from(sorted(EXPONENTS))


@pytest.mark.parametrize(
    ("currency", "decimals"), [("CLP", 0), ("JPY", 0), ("MXN", 2), ("EUR", 2), ("KWD", 3), ("CLF", 4)]
)
def test_a_currency_has_the_decimals_of_iso_4217(currency: str, decimals: int) -> None:
    assert exponent(currency) == decimals


@pytest.mark.parametrize(
    ("amount", "currency", "wire"),
    [("1160", "MXN", "1160.00"), ("1160.5", "MXN", "1160.50"), ("7", "CLP", "7"), ("1.5", "CLF", "1.5000")],
)
def test_money_is_written_with_all_decimals_of_its_currency(amount: str, currency: str, wire: str) -> None:
    assert Money.of(amount, currency).model_dump_json() == f'{{"amount":"{wire}","currency":"{currency}"}}'


@pytest.mark.parametrize(
    "wire",
    [
        '{"amount": 1160, "currency": "MXN"}',
        '{"amount": 1160.5, "currency": "MXN"}',
        '{"amount": true, "currency": "MXN"}',
        '{"amount": null, "currency": "MXN"}',
        '{"amount": "NaN", "currency": "MXN"}',
        '{"amount": "Infinity", "currency": "MXN"}',
        '{"amount": "-Infinity", "currency": "MXN"}',
        '{"amount": "1e400", "currency": "MXN"}',
        '{"amount": "1E3", "currency": "MXN"}',
        '{"amount": "+1", "currency": "MXN"}',
        '{"amount": "01.00", "currency": "MXN"}',
        '{"amount": " 1.00", "currency": "MXN"}',
        '{"amount": "1.00\\n", "currency": "MXN"}',
        '{"amount": "1,000.00", "currency": "MXN"}',
        '{"amount": "1_000", "currency": "MXN"}',
        '{"amount": "\\u0661", "currency": "MXN"}',
        '{"amount": "", "currency": "MXN"}',
        '{"amount": "0.001", "currency": "MXN"}',
        '{"amount": "0.1", "currency": "CLP"}',
        '{"amount": "1234567890123456", "currency": "MXN"}',
        '{"amount": "12345678901234567890", "currency": "MXN"}',
        '{"amount": "1.00", "currency": "mxn"}',
        '{"amount": "1.00", "currency": "XYZ"}',
        '{"amount": "1.00", "currency": "XAU"}',
        '{"amount": "1.00"}',
        '{"currency": "MXN"}',
        '"1.00 MXN"',
    ],
)
def test_what_is_no_exact_amount_of_a_known_currency_is_refused(wire: str) -> None:
    with pytest.raises(ValidationError):
        Money.model_validate_json(wire, strict=True)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN", "1e15", "0.001"])
def test_a_decimal_that_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValidationError):
        Money(amount=Decimal(amount), currency="MXN")


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e15", "0.001"])
def test_minor_units_of_what_is_no_amount_are_refused(amount: str) -> None:
    with pytest.raises(ValueError, match=r"MXN|finite|digits"):
        to_minor(Decimal(amount), "MXN")


@given(minor=minors, currency=currencies)
def test_minor_units_survive_every_form(minor: int, currency: str) -> None:
    money = Money.from_minor(minor, currency)

    assert money.minor == minor
    assert to_minor(to_decimal(minor, currency), currency) == minor
    assert Money.model_validate_json(money.model_dump_json(), strict=True) == money


@given(left=minors, right=minors, currency=currencies)
def test_money_adds_and_compares_as_its_minor_units(left: int, right: int, currency: str) -> None:
    first, second = Money.from_minor(left, currency), Money.from_minor(right, currency)

    assert (first + second).minor == left + right
    assert (first - second).minor == left - right
    assert (-first).minor == -left
    assert (first < second, first <= second, first > second, first >= second, first == second) == (
        left < right,
        left <= right,
        left > right,
        left >= right,
        left == right,
    )


@given(minor=minors, currency=currencies, parts=st.integers(min_value=1, max_value=60))
def test_a_split_loses_nothing_and_is_fair(minor: int, currency: str, parts: int) -> None:
    shares = [share.minor for share in Money.from_minor(minor, currency).split(parts)]

    assert len(shares) == parts
    assert sum(shares) == minor
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


def test_money_is_not_split_into_no_parts() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Money.of("1.00", "MXN").split(0)


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"])
def test_currencies_never_mix(operation: str) -> None:
    with pytest.raises(CurrencyMismatch) as refused:
        getattr(Money.of("1.00", "MXN"), operation)(Money.of("1.00", "USD"))

    assert refused.value.code == "currency_mismatch"
    assert refused.value.facts == {"left": "MXN", "right": "USD"}


def test_equal_numbers_of_two_currencies_are_not_equal() -> None:
    assert Money.of("1.00", "MXN") != Money.of("1.00", "USD")


def test_money_cannot_be_changed() -> None:
    money = Money.of("1.00", "MXN")
    with pytest.raises(ValidationError):
        money.amount = Decimal(2)  # type: ignore[misc]  # that it is refused is the point


def test_money_reads_as_amount_and_currency() -> None:
    assert str(Money.of("1160", "MXN")) == "1160.00 MXN"


def test_positive_money_is_above_zero() -> None:
    adapter = TypeAdapter(PositiveMoney)
    assert adapter.validate_python(Money.of("0.01", "MXN")).minor == 1
    for amount in ("0.00", "-0.01"):
        with pytest.raises(ValidationError, match="above zero"):
            adapter.validate_python(Money.of(amount, "MXN"))
