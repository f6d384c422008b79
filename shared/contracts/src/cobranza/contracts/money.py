"""Amounts of money: exact decimals with their ISO 4217 currency, never mixed, never rounded."""

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializationInfo,
    WithJsonSchema,
    field_serializer,
    model_validator,
)

MAX_INTEGER_DIGITS = 15
AMOUNT_PATTERN = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,4})?$"
_AMOUNT = re.compile(AMOUNT_PATTERN, re.ASCII)
_LIMIT = Decimal(10) ** MAX_INTEGER_DIGITS

# Source: ISO 4217 list one, currencies in use; metals and test codes have no exponent.
_CODES_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN
        BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP
        GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP
        LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR
        NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN
        SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR
        ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
EXPONENTS: Mapping[str, int] = MappingProxyType(
    {code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}
)


class CurrencyMismatch(ValueError):  # noqa: N818 - a refusal is named by its fact
    """Two amounts of different currencies met in one sum or comparison."""

    code = "currency_mismatch"
    status = 422

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right} cannot be mixed; there is no implicit exchange")
        self.facts = {"left": left, "right": right}


class AmountTextError(ValueError):
    """Something else stands where the text of an amount is expected."""

    hint = "write amounts as text, with the decimals of the currency"

    def __init__(self, found: object) -> None:
        super().__init__(
            f'expected an amount as text such as "1160.00", at most {MAX_INTEGER_DIGITS} integer digits,'
            f" got {repr(found)[:60]}"
        )


def exponent(currency: str) -> int:
    """Number of decimals of a currency: CLP 0, MXN 2, KWD 3, CLF 4.

    Raises:
        ValueError: the code is not an ISO 4217 currency in use.
    """
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise ValueError(f"{currency!r} is not an ISO 4217 currency") from None


def to_minor(amount: Decimal, currency: str) -> int:
    """Amount in minor units: 1160.00 MXN is 116000.

    Raises:
        ValueError: not finite, more decimals than the currency has, or more than 15 integer digits.
    """
    checked_amount(amount, currency)
    return int(amount.scaleb(exponent(currency)))


def to_decimal(minor: int, currency: str) -> Decimal:
    """Decimal of minor units, written with all decimals of the currency: 116000 MXN is 1160.00.

    Raises:
        ValueError: more than 15 integer digits.
    """
    amount = Decimal(minor).scaleb(-exponent(currency))
    if abs(amount) >= _LIMIT:
        raise ValueError(f"expected at most {MAX_INTEGER_DIGITS} integer digits, got '{amount}'")
    return amount


def checked_amount(amount: Decimal, currency: str) -> Decimal:
    """The amount itself, when it can be an amount of that currency.

    Raises:
        ValueError: not finite, more decimals than the currency has, or more than 15 integer digits.
    """
    decimals = exponent(currency)
    if not amount.is_finite():
        raise ValueError(f"expected a finite amount, got '{amount}'")
    if abs(amount) >= _LIMIT:
        raise ValueError(f"expected at most {MAX_INTEGER_DIGITS} integer digits, got '{amount}'")
    if amount != round(amount, decimals):
        raise ValueError(f"{currency} has {decimals} decimals, got '{amount}'")
    return amount


def decimal_from_text(value: Any) -> Decimal:
    """A finite decimal from a Decimal or from its text; numbers of JSON are floats and refused.

    Raises:
        AmountTextError: anything else, also exponents, signs of plus and spaces.
    """
    if isinstance(value, Decimal):
        if value.is_finite() and abs(value) < _LIMIT:
            return value
    elif isinstance(value, str) and _AMOUNT.fullmatch(value):
        return Decimal(value)
    raise AmountTextError(value)


def _known(currency: str) -> str:
    exponent(currency)
    return currency


Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code"), AfterValidator(_known)]

Amount = Annotated[
    Decimal,
    PlainValidator(decimal_from_text),
    PlainSerializer(lambda amount: format(amount, "f"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": AMOUNT_PATTERN}),
]


class Money(BaseModel):
    """An exact amount in one currency; on the wire ``{"amount": "1160.00", "currency": "MXN"}``.

    The amount may be negative. It has at most 15 integer digits and never more decimals than the
    currency; texts are accepted, JSON numbers are not.
    """

    model_config = ConfigDict(frozen=True)

    amount: Amount
    currency: Currency

    @classmethod
    def of(cls, amount: str | Decimal, currency: str) -> Self:
        """``Money.of("1160.00", "MXN")``."""
        return cls(amount=decimal_from_text(amount), currency=currency)

    @classmethod
    def from_minor(cls, minor: int, currency: str) -> Self:
        """Money of so many minor units: ``Money.from_minor(116000, "MXN")`` is 1160.00 MXN."""
        return cls(amount=to_decimal(minor, currency), currency=currency)

    @classmethod
    def zero(cls, currency: str) -> Self:
        """Nothing, in that currency."""
        return cls.from_minor(0, currency)

    @property
    def minor(self) -> int:
        """The amount in minor units."""
        return int(self.amount.scaleb(EXPONENTS[self.currency]))

    def split(self, parts: int) -> tuple["Money", ...]:
        """Divide into ``parts`` that sum to the whole and differ by at most one minor unit.

        Larger parts come first: 10.00 in three is 3.34, 3.33, 3.33.

        Raises:
            ValueError: ``parts`` is less than one.
        """
        if parts < 1:
            raise ValueError(f"expected at least one part, got {parts}")
        share, rest = divmod(self.minor, parts)
        return tuple(Money.from_minor(share + (1 if place < rest else 0), self.currency) for place in range(parts))

    def __add__(self, other: "Money") -> "Money":
        return Money.from_minor(self.minor + self._minor_of(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money.from_minor(self.minor - self._minor_of(other), self.currency)

    def __neg__(self) -> "Money":
        return Money.from_minor(-self.minor, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.minor < self._minor_of(other)

    def __le__(self, other: "Money") -> bool:
        return self.minor <= self._minor_of(other)

    def __gt__(self, other: "Money") -> bool:
        return self.minor > self._minor_of(other)

    def __ge__(self, other: "Money") -> bool:
        return self.minor >= self._minor_of(other)

    def __str__(self) -> str:
        return f"{self.amount:.{EXPONENTS[self.currency]}f} {self.currency}"

    def _minor_of(self, other: "Money") -> int:
        if self.currency != other.currency:
            raise CurrencyMismatch(self.currency, other.currency)
        return other.minor

    @model_validator(mode="after")
    def _fits_its_currency(self) -> Self:
        checked_amount(self.amount, self.currency)
        return self

    @field_serializer("amount")
    def _with_all_decimals(self, amount: Decimal, _info: SerializationInfo) -> str:
        return f"{amount:.{EXPONENTS[self.currency]}f}"


def _positive(money: Money) -> Money:
    if money.amount <= 0:
        raise ValueError(f"expected an amount above zero, got '{money.amount}'")
    return money


def _not_negative(money: Money) -> Money:
    if money.amount < 0:
        raise ValueError(f"expected zero or more, got '{money.amount}'")
    return money


PositiveMoney = Annotated[Money, AfterValidator(_positive)]
NonNegativeMoney = Annotated[Money, AfterValidator(_not_negative)]
