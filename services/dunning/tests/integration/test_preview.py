"""A preview and a back-test tell what would happen, and leave every table as it was."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cobranza.chassis import cli
from cobranza.dunning import gateways, repository
from cobranza.dunning.commands import commands
from cobranza.dunning.domain.errors import PreviewRefusedError
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.use_cases import policies, preview, recording

_PROFILE = {
    "name": "Acme",
    "tax_id": "ADI010203AB1",
    "country": "MX",
    "zone": "America/Mexico_City",
    "currencies": ["MXN", "USD"],
    "contact": {"name": "Lucía", "email": "cobranza@acme.example"},
    "sender": {"name": "Acme", "email": "cobranza@acme.example"},
}


_COMPARES = (
    "back-test", "--from", "2027-01-04", "--to", "2027-02-28", "--policy", "friendly-b2b@1", "--against", "strict",
)  # fmt: skip


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
    assert found.as_values()["totals"][0]["policy"] > 0
    assert found.samples[0]["customer"] == "C-1"
    assert {row["difference"] for row in same.as_values()["days"]} == {0}


async def _live(service: Any, last: str) -> list[tuple[str, str, str]]:
    """Live through the days, every notice delivered on its day; day, customer and step of each."""
    day, read, contacts = service.context.clock.now().date(), len(await service.told("notice-requested")), []
    while day <= date.fromisoformat(f"2027-{last}"):
        text = day.isoformat()[5:]
        await service.at(text)
        told = await service.told("notice-requested")
        for request in told[read:]:
            contacts.append((day.isoformat(), request["customer"], request["step"]))
            await service.sent(request, text)
            await service.delivered(request, text)
        read = len(told)
        day += timedelta(days=1)
    return contacts


async def test_back_test_of_the_policy_in_force_finds_what_was_really_done(service: Any) -> None:
    await service.activate()
    for customer in ("C-1", "C-2", "C-3"):
        await service.customer(customer)
    promised, paid, parted = (
        service.receivable(f"F-{n}", due, customer=f"C-{n}") for n, due in ((1, "01-08"), (2, "01-10"), (3, "01-12"))
    )
    await service.tell(promised, paid, parted)
    lived = await _live(service, "01-20")
    await _record(
        service,
        "promise",
        customer="C-1",
        lines=[{"receivable_id": promised.receivable_id, "amount": {"amount": "58000.00", "currency": "MXN"}}],
        promised_on="2027-01-25",
        channel="call",
    )
    await service.tell(
        service.receivable("F-2", "01-10", customer="C-2", open="0.00", cause="payment-allocated", on="2027-01-21"),
        service.receivable("F-3", "01-12", customer="C-3", open="20000.00", cause="payment-allocated", on="2027-01-21"),
    )
    await _record(service, "hold", customer="C-3", scope="customer", reason="customer_request", until_on="2027-02-01")
    lived += await _live(service, "03-15")
    before = await _every_row(service)

    (policy,) = await service.rows("SELECT policy FROM policy_version WHERE state = 'active' AND currency = 'MXN'")
    in_force = (policy.policy, 1)
    found = await preview.back_test(
        service.desk, service.database, company="acme-mx", first=date(2027, 1, 4), last=date(2027, 3, 15),
        tried=in_force, against=in_force,
    )  # fmt: skip

    assert await _every_row(service) == before
    assert len(lived) > 6
    assert "C-2" not in {customer for day, customer, _ in lived if day > "2027-01-21"}
    assert {row["day"]: row["policy"] for row in found.as_values()["days"]} == Counter(day for day, *_ in lived)
    assert found.policy.contacts == Counter(customer for _, customer, _ in lived)
    assert await service.broken() == {}


async def test_changes_of_one_receivable_in_one_batch_are_one_writing(service: Any, monkeypatch: Any) -> None:
    written: list[int] = []
    save = repository.save_receivables

    async def counted(tx: Any, changes: Any) -> None:
        written.append(len(changes))
        await save(tx, changes)

    monkeypatch.setattr(repository, "save_receivables", counted)
    await service.tell(
        service.receivable("F-1", "01-10"),
        service.receivable("F-1", "01-10", open="20000.00", on="2027-01-02"),
        service.receivable("F-1", "01-10", open="5000.00", on="2027-01-02"),
        service.receivable("F-2", "01-10"),
    )

    assert written == [4]
    assert [tuple(row) for row in await service.rows("SELECT open FROM receivable ORDER BY open")] == [
        (5000_00,),
        (58000_00,),
    ]
    moved = await service.rows("SELECT on_date::text, open, allocated FROM balance_change ORDER BY on_date, open")
    assert [tuple(row) for row in moved][-1] == ("2027-01-02", -53000_00, 53000_00)
    assert await service.broken() == {}


async def _record(service: Any, form: str, **data: Any) -> None:
    told = recording.FORMS[form].model_validate({"company": "acme-mx", **data})
    async with service.database.transaction() as tx:
        await recording.record(service.desk, tx, told, about=None, by="Lucía")


async def test_commands_tell_a_day_and_a_comparison(service: Any, tmp_path: Path) -> None:
    await service.activate()
    await service.customer("C-1")
    await service.tell(service.receivable("F-1", "01-10"))
    told, compared, exported, wrong, as_json, as_file = [
        await asyncio.to_thread(_command, service, tmp_path, *arguments)
        for arguments in (
            ("preview", "--on", "2027-01-14", "--json"),
            _COMPARES,
            ("preview", "--on", "2027-01-14", "--export", str(tmp_path / "day.csv")),
            ("preview", "--on", "2027-01-14", "--export", str(tmp_path / "day.txt")),
            (*_COMPARES, "--json"),
            (*_COMPARES, "--export", str(tmp_path / "days.csv")),
        )
    ]

    assert json.loads(told.stdout)["customer"] == "C-1"
    assert "1 debtors, 1 of them with a difference" in compared.stdout
    assert "C-1" in (tmp_path / "day.csv").read_text(encoding="utf-8")
    assert (exported.exit_code, wrong.exit_code) == (0, cli.USAGE)
    days = json.loads(as_json.stdout)["days"]
    assert {"credit_hold", "notice"} <= {day["count"] for day in days}
    assert (tmp_path / "days.csv").read_text(encoding="utf-8").count("\n") == len(days) + 1
    assert as_file.stdout == ""


def _command(service: Any, directory: Path, name: str, *arguments: str) -> Result:
    companies = directory / "companies.yaml"
    companies.write_text(json.dumps({"companies": {"acme-mx": _PROFILE}}), encoding="utf-8")
    environment = {
        "DUNNING_DATABASE_URL": service.context.settings.database_url.get_secret_value(),
        "COBRANZA_COMPANIES": str(companies),
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "COBRANZA_ALLOW_VIRTUAL_CLOCK": "true",
        "COBRANZA_CLOCK_FILE": str(directory / "business-clock"),
    }
    result = CliRunner().invoke(commands, [name, "--company", "acme-mx", *arguments], env=environment)
    assert result.exit_code in (0, cli.USAGE), (result.output, result.exception)
    return result
