"""Business days as a frozen value, so that every service counts them alike."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal, assert_never

Roll = Literal["none", "following", "preceding"]
_DAY = timedelta(days=1)
_SATURDAY, _SUNDAY = 5, 6


@dataclass(frozen=True, slots=True)
class BusinessCalendar:
    """Which days are worked.

    Args:
        weekend: weekdays that are not worked, Monday is 0; at least one weekday is worked.
        holidays: days that are not worked, for all years it is asked about.
    """

    weekend: frozenset[int] = frozenset({_SATURDAY, _SUNDAY})
    holidays: frozenset[date] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if not self.weekend < set(range(7)):
            raise ValueError(
                f"expected a weekend of weekdays 0 to 6 that leaves one to work, got {sorted(self.weekend)}"
            )

    def is_business_day(self, day: date) -> bool:
        """Whether the day is worked."""
        return day.weekday() not in self.weekend and day not in self.holidays

    def add(self, day: date, business_days: int) -> date:
        """The n-th business day after ``day``, never counting it; before it when negative.

        Zero gives ``day`` unchanged, worked or not. Fri 2027-01-29 + 1, with Mon 02-01 a holiday,
        is Tue 2027-02-02.
        """
        step = _DAY if business_days > 0 else -_DAY
        for _ in range(abs(business_days)):
            day = self._next(day + step, step)
        return day

    def roll(self, day: date, convention: Roll) -> date:
        """The day itself when worked or ``convention`` is none; else the next or previous one."""
        match convention:
            case "none":
                return day
            case "following":
                return self._next(day, _DAY)
            case "preceding":
                return self._next(day, -_DAY)
            case _:
                assert_never(convention)

    def _next(self, day: date, step: timedelta) -> date:
        while not self.is_business_day(day):
            day += step
        return day
