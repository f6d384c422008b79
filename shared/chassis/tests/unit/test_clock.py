"""The business instant and the dates that follow from it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.chassis.clock import BusinessClock, ClockError, evaluation_date, evaluation_instant

MEXICO = ZoneInfo("America/Mexico_City")
SANTIAGO = ZoneInfo("America/Santiago")
ZONES = st.sampled_from([MEXICO, SANTIAGO, ZoneInfo("Europe/Madrid"), ZoneInfo("America/Bogota"), ZoneInfo("UTC")])


def test_a_date_is_evaluated_from_six_in_the_company_s_zone() -> None:
    assert evaluation_date(datetime(2027, 1, 4, 11, 59, tzinfo=UTC), MEXICO) == date(2027, 1, 3)
    assert evaluation_date(datetime(2027, 1, 4, 12, 0, tzinfo=UTC), MEXICO) == date(2027, 1, 4)


def test_a_local_hour_that_does_not_exist_moves_forward() -> None:
    assert evaluation_instant(date(2027, 9, 5), SANTIAGO, from_hour=0) == datetime(2027, 9, 5, 4, tzinfo=UTC)


@given(on=st.dates(date(2000, 1, 1), date(2050, 12, 31)), zone=ZONES, hour=st.integers(0, 23))
def test_the_instant_of_a_date_lies_in_that_date(on: date, zone: ZoneInfo, hour: int) -> None:
    assert evaluation_date(evaluation_instant(on, zone, from_hour=hour), zone, from_hour=hour) == on


def test_a_standing_clock_is_seen_by_every_reader_of_its_file(tmp_path: Path) -> None:
    writer, reader = BusinessClock(tmp_path / "clock"), BusinessClock(tmp_path / "clock")

    writer.set(datetime(2027, 1, 4, 12, tzinfo=UTC))
    first = reader.now()
    writer.set(datetime(2027, 1, 5, 12, tzinfo=UTC))

    assert (first.day, reader.now().day) == (4, 5)


@pytest.mark.parametrize("content", ["", "tomorrow", "2027-01-04T12:00:00"])
def test_a_clock_file_without_an_aware_instant_says_how_to_mend_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "clock").write_text(content, encoding="utf-8")

    with pytest.raises(ClockError, match="cobranza clock set"):
        BusinessClock(tmp_path / "clock").now()


def test_real_time_cannot_be_moved() -> None:
    with pytest.raises(ClockError, match="real time"):
        BusinessClock().set(datetime(2027, 1, 4, tzinfo=UTC))
