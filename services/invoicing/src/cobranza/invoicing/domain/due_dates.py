"""The due-date calendar: which due-date event of an instalment comes next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

Phase = Literal["approaching", "reached", "passed"]


@dataclass(frozen=True, slots=True, order=True)
class DueDateMark:
    """One due-date event of one instalment: `offset_days` from its due date, told on `on`."""

    on: date
    offset_days: int

    @property
    def phase(self) -> Phase:
        """Before, on or after the due date."""
        if self.offset_days < 0:
            return "approaching"
        return "reached" if self.offset_days == 0 else "passed"


def marks(due_on: date, offsets: Iterable[int]) -> tuple[DueDateMark, ...]:
    """All marks of an instalment, by date."""
    return tuple(sorted(DueDateMark(due_on + timedelta(days=offset), offset) for offset in set(offsets)))


def next_mark(due_on: date, offsets: Sequence[int], *, told_until: int | None, as_of: date) -> DueDateMark | None:
    """The next mark to tell, or None when all were told.

    Args:
        told_until: the highest offset already told; None when none was.
        as_of: marks before this date are past and are not told late, except the last of them, so
            that an invoice that arrives overdue still tells once that it is.
    """
    left = [mark for mark in marks(due_on, offsets) if told_until is None or mark.offset_days > told_until]
    past = [mark for mark in left if mark.on < as_of]
    if told_until is None and past:
        left = left[len(past) - 1 :]
    return left[0] if left else None
