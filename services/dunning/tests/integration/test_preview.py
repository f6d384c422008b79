"""A preview and a back-test tell what would happen, and leave every table as it was."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from cobranza.dunning import gateways
from cobranza.dunning.domain.errors import PreviewRefusedError
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.use_cases import policies, preview


async def _every_row(service: Any) -> dict[str, str]:
    """A hash of each table."""
    tables = await service.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND has_table_privilege(oid, 'SELECT')"
    )
    hashed = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"
    return {name: (await service.rows(hashed.format(name)))[0][0] for (name,) in tables}


def _preset(name: str) -> Policy:
    document, _ = policies.check_source(gateways.read_source(name))
    played = policies.for_trial(document)
    assert played is not None
    return played


async def _preview(service: Any, on: date, **asked: Any) -> list[dict[str, Any]]:
    found = preview.preview(service.desk, service.database, company="acme-mx", on=on, **asked)
    return [values async for one in found for values in one.as_values()]


async def test_preview_tells_what_production_then_does_and_writes_nothing(service: Any) -> None:
    await service.activate()
    await service.customer("C-1")
    await service.tell(service.receivable("F-1", "01-10"))
    before = await _every_row(service)

    days = {day: await _preview(service, date(2027, 1, day)) for day in range(4, 16)}

    assert await _every_row(service) == before
    foreseen = next((day, told[0]["actions"][0]["step"]) for day, told in days.items() if told[0]["actions"])
    await service.at(f"01-{foreseen[0]:02}")
    assert [told["step"] for told in await service.told("notice-requested")] == [foreseen[1]]


async def test_preview_of_a_quiet_day_says_why(service: Any) -> None:
    await service.tell(service.receivable("F-1", "01-10"))

    (told,) = await _preview(service, date(2027, 1, 4))

    assert (told["actions"], told["reasons"][0]["code"]) == ([], "no_policy")


async def test_preview_of_a_day_that_is_over_is_refused(service: Any) -> None:
    with pytest.raises(PreviewRefusedError, match="2027-01-04"):
        await _preview(service, date(2027, 1, 3))


async def test_back_test_tells_the_difference_and_writes_nothing(service: Any) -> None:
    await service.activate()
    await service.customer("C-1")
    await service.tell(service.receivable("F-1", "01-10"))
    before = await _every_row(service)
    asked: dict[str, Any] = {"company": "acme-mx", "first": date(2027, 1, 4), "last": date(2027, 3, 31)}

    friendly, strict = _preset("friendly-b2b"), _preset("strict")
    found = await preview.back_test(service.desk, service.database, **asked, tried=friendly, against=strict)
    same = await preview.back_test(service.desk, service.database, **asked, tried=friendly, against=friendly)

    assert await _every_row(service) == before
    assert (found.debtors, found.differing, same.differing) == (1, 1, 0)
    assert found.one.notices > 0
    assert found.samples[0]["customer"] == "C-1"
    assert same.as_values()["policy"] == same.as_values()["against"]
