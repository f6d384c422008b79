"""The only module that knows what time it is: the real instant and the business instant."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as local_time
from pathlib import Path
from zoneinfo import ZoneInfo


class ClockError(RuntimeError):
    """The clock file cannot be read or does not hold an instant."""


def utc_now() -> datetime:
    """The real instant, aware, in UTC: for leases, permits, back-off, metrics and CloudEvents `time`."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds of a clock that never goes back; only differences mean something."""
    return time.monotonic()


class BusinessClock:
    """The business instant: real time, or one standing instant kept in a file.

    The file holds one RFC 3339 instant and is replaced as a whole, so a reader sees the old or the
    new instant and nothing between. Every process of a deployment reads the same file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._instant: datetime | None = None

    @property
    def is_virtual(self) -> bool:
        """True when the business instant stands in a file instead of running."""
        return self._path is not None

    def now(self) -> datetime:
        """The business instant, aware, in UTC.

        Raises:
            ClockError: the file is missing or holds no instant.
        """
        if self._path is None:
            return utc_now()
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp or self._instant is None:
                self._instant = _parse(self._path.read_text(encoding="utf-8").strip())
                self._stamp = stamp
        except (OSError, ValueError) as error:
            raise ClockError(
                f"no business instant in {self._path}: {error}; set one with `cobranza clock set 2027-01-04T12:00:00Z`"
            ) from error
        return self._instant

    def set(self, instant: datetime) -> None:
        """Move the standing instant; `instant` must be aware.

        Raises:
            ClockError: this clock is real time and cannot be moved.
        """
        if self._path is None:
            raise ClockError("the business clock is real time here; set COBRANZA_CLOCK_FILE")
        if instant.tzinfo is None:
            raise ClockError("an instant needs a zone, for example 2027-01-04T12:00:00Z")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.write_text(instant.astimezone(UTC).isoformat() + "\n", encoding="utf-8")
        draft.replace(self._path)


def _parse(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return instant.astimezone(UTC)


def evaluation_date(now: datetime, zone: ZoneInfo, *, from_hour: int = 6) -> date:
    """The local date that rules are evaluated for at `now`: a date begins at `from_hour`.

    At 05:59 in Mexico City the answer is still yesterday; at 06:00 it is today.
    """
    local = now.astimezone(zone)
    return local.date() if local.hour >= from_hour else local.date() - timedelta(days=1)


def evaluation_instant(on: date, zone: ZoneInfo, *, from_hour: int = 6) -> datetime:
    """The UTC instant from which `on` is evaluated in `zone`.

    A local hour that does not exist moves forward, one that occurs twice is the first
    (America/Santiago, 2027-09-05 at 00:00 gives 04:00 UTC).
    """
    return datetime.combine(on, local_time(from_hour), tzinfo=zone).astimezone(UTC)
