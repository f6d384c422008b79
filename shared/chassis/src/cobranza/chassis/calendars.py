"""Business calendars built from the `holidays` library; cached, because building one is slow."""

from __future__ import annotations

from datetime import date
from functools import lru_cache

import holidays

from cobranza.chassis.companies import CompanyProfile
from cobranza.contracts.calendar import BusinessCalendar

#: Years around the ones asked for that a calendar covers.
_YEARS = range(1990, 2061)


@lru_cache(maxsize=64)
def country_calendar(country: str) -> BusinessCalendar:
    """Monday to Friday without the country's public holidays (ISO 3166 alpha-2), 1990 to 2060."""
    days = holidays.country_holidays(country, years=_YEARS)
    return BusinessCalendar(weekend=frozenset({5, 6}), holidays=frozenset[date](days.keys()))


def company_calendar(profile: CompanyProfile) -> BusinessCalendar:
    """The creditor's business days: of `calendar` (a country code) or of its country."""
    return country_calendar((profile.calendar or profile.country)[:2].upper())
