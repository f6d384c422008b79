"""Amounts, dates and instants as the reader writes them: the filters of every template."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale
from babel.core import UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal, format_percent

from cobranza.contracts.money import Money, exponent

UNKNOWN = "—"
MINUS = "\N{MINUS SIGN}"
#: Longer names are cut in the middle; the whole text is in the title.
MAX_NAME_CHARACTERS = 34


@lru_cache(maxsize=64)
def locale_for(language: str, country: str | None) -> Locale:
    """The locale of a language as a country writes it: ``es`` in ``MX`` groups 1,160.00.

    Without a country, or where the pair is unknown, Spanish is that of Latin America.
    """
    if country:
        try:
            return Locale(language, country)
        except UnknownLocaleError:
            pass
    return Locale("es", "419") if language == "es" else Locale(language)


def filters_of(locale: Locale) -> dict[str, Callable[..., str]]:
    """The template filters that depend on the locale."""
    return {
        "money": lambda value: money(value, locale=locale),
        "amount": lambda value, currency: amount(value, currency=currency, locale=locale),
        "number": lambda value: number(value, locale=locale),
        "percent": lambda value: percent(value, locale=locale),
        "day": lambda value: day(value, locale=locale),
        "moment": lambda value, zone: moment(value, zone=zone, locale=locale),
    }


def money(value: Money | None, *, locale: Locale) -> str:
    """An amount with its currency: ``1,160.00 MXN``; unknown is a dash."""
    if value is None:
        return UNKNOWN
    return f"{amount(value.amount, currency=value.currency, locale=locale)} {value.currency}"


def amount(value: Money | Decimal | None, *, currency: str, locale: Locale) -> str:
    """An amount alone, with every decimal of its currency; the column names the currency once."""
    if value is None:
        return UNKNOWN
    decimal = value.amount if isinstance(value, Money) else value
    places = exponent(currency)
    pattern = "#,##0" + ("." + "0" * places if places else "")
    return _signed(format_decimal(decimal, format=pattern, locale=locale))


def number(value: int | Decimal | None, *, locale: Locale) -> str:
    """A count, grouped."""
    return UNKNOWN if value is None else _signed(format_decimal(value, locale=locale))


def percent(value: Decimal | None, *, locale: Locale) -> str:
    """A fraction as a percentage with one decimal: 0.123 is ``12.3%``."""
    if value is None:
        return UNKNOWN
    return _signed(format_percent(value, format="#,##0.0%", locale=locale))


def day(value: date | None, *, locale: Locale) -> str:
    """A date with its weekday: ``lun 11-ene-2027``, ``Mon 11-Jan-2027``."""
    if value is None:
        return UNKNOWN
    return format_date(value, "EEE dd-MMM-yyyy", locale=locale).replace(".", "")


def moment(value: datetime | None, *, zone: ZoneInfo, locale: Locale) -> str:
    """An instant in a zone: ``11-ene-2027 14:05``."""
    if value is None:
        return UNKNOWN
    return format_datetime(value, "dd-MMM-yyyy HH:mm", tzinfo=zone, locale=locale).replace(".", "")


def middle(text: str) -> str:
    """A long name cut in the middle, where names of one group differ least."""
    if len(text) <= MAX_NAME_CHARACTERS:
        return text
    kept = MAX_NAME_CHARACTERS - 1
    return f"{text[: kept - kept // 2].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"


def _signed(text: str) -> str:
    return text.replace("-", MINUS)
