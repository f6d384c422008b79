"""How many notices a company may request on a day before a person looks: three times the usual, or a floor (DUN8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from cobranza.dunning.domain.facts import Brake

#: Days before today whose notices are the usual.
USUAL_DAYS: Final = 14
_TIMES: Final = 3


def limit(days: Sequence[int], floor: int) -> int:
    """The most notices of a day that leave by themselves.

    Args:
        days: notices of the days before, at most `USUAL_DAYS`; those that are missing had none.
        floor: so many always leave.
    """
    usual = median([*days, *[0] * (USUAL_DAYS - len(days))])
    return max(int(_TIMES * usual), floor)


@dataclass(slots=True)
class NoticeDay:
    """A company's notices of today, counted while accounts are evaluated.

    Args:
        requested: by what others have counted.
        is_braked: it was tripped, on this day or before, and nobody has released it.
        is_released: a person lets all of today leave.
        more: requested since it was read.
        trips: whether it was tripped since.
    """

    limit: int
    requested: int
    is_braked: bool
    is_released: bool
    more: int = 0
    trips: bool = False

    def brake(self) -> Brake | None:
        """What holds the next notice; None: nothing does."""
        requested = self.requested + self.more
        if self.is_braked or (not self.is_released and requested >= self.limit):
            return Brake(self.limit, requested)
        return None
