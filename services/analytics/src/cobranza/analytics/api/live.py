"""The live figures: one look at the read model per second, for however many watch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from cobranza.analytics.queries import Today
from cobranza.chassis import clock
from cobranza.chassis.database import is_transient

#: Figures whose slowest topic was caught up longer ago than this are stale.
STALE_AFTER_SECONDS: Final = 60.0
_LOOK_EVERY_SECONDS: Final = 1.0
#: The as-of instant alone is told again in steps of this.
_TELL_AGE_EVERY_SECONDS: Final = 15.0
#: Told again after this long without a change: a browser that lost a message must not stay wrong.
_TELL_AGAIN_SECONDS: Final = 5.0

Freshness = Literal["fresh", "stale", "catching-up"]


@dataclass(frozen=True, slots=True)
class Seen:
    """The figures of a company, and whether they can be relied on now."""

    today: Today
    freshness: Freshness

    def tells_more_than(self, other: Seen | None) -> bool:
        """Whether somebody who was told `other` should be told this."""
        if other is None or self.freshness != other.freshness:
            return True
        before, now = other.today.caught_up_at, self.today.caught_up_at
        if replace(self.today, caught_up_at=None) != replace(other.today, caught_up_at=None):
            return True
        return now is not None and (before is None or (now - before).total_seconds() >= _TELL_AGE_EVERY_SECONDS)


def freshness_of(caught_up_at: datetime | None, *, now: datetime) -> Freshness:
    """Whether figures are fresh at the real instant `now`."""
    if caught_up_at is None:
        return "catching-up"
    return "stale" if (now - caught_up_at).total_seconds() > STALE_AFTER_SECONDS else "fresh"


class Live:
    """Reads the figures of every watched company and tells those who watch when they change."""

    def __init__(
        self,
        read: Callable[[str, Today | None], Awaitable[Today]],
        *,
        every_seconds: float = _LOOK_EVERY_SECONDS,
        now: Callable[[], datetime] = clock.utc_now,
    ) -> None:
        """Args: `read` gives the figures of a company, knowing those it gave before."""
        self._read = read
        self._every_seconds = every_seconds
        self._now = now
        self._watchers: Counter[str] = Counter()
        self._latest: dict[str, Seen] = {}
        self._looked = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def watch(self, company: str) -> AsyncGenerator[Seen]:
        """The figures as they are, then whenever they change and every few seconds, until the watcher leaves."""
        self._watchers[company] += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        told: Seen | None = None
        told_at = clock.monotonic()
        try:
            while True:
                looked = self._looked
                latest = self._latest.get(company)
                is_due = clock.monotonic() - told_at >= _TELL_AGAIN_SECONDS
                if latest is not None and (is_due or latest.tells_more_than(told)):
                    told, told_at = latest, clock.monotonic()
                    yield latest
                elif self._looking.done():
                    # It ended by a fault; whoever watches is told so instead of waiting for ever.
                    self._looking.result()
                else:
                    await looked.wait()
        finally:
            self._leave(company)

    def _leave(self, company: str) -> None:
        self._watchers[company] -= 1
        if not self._watchers[company]:
            del self._watchers[company]
            self._latest.pop(company, None)
        if not self._watchers and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def _look(self) -> None:
        try:
            while True:
                for company in list(self._watchers):
                    await self._look_at(company)
                self._wake()
                await asyncio.sleep(self._every_seconds)
        finally:
            self._wake()

    def _wake(self) -> None:
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()

    async def _look_at(self, company: str) -> None:
        before = self._latest.get(company)
        today = before.today if before is not None else None
        try:
            today = await self._read(company, today)
        except Exception as error:
            if not is_transient(error):
                raise
            # The database is away: what was last seen stays, and grows stale.
        if today is not None and company in self._watchers:
            self._latest[company] = Seen(today, freshness_of(today.caught_up_at, now=self._now()))
