"""Money and documents that arrive at the same moment, on two topics and under two customers."""

import asyncio
from contextlib import suppress
from datetime import date
from typing import Any
from uuid import UUID

from cobranza.chassis.streams import Event
from cobranza.contracts.envelope import Envelope, decode
from cobranza.payments.domain.errors import DecisionRefusedError
from cobranza.payments.use_cases import Bookkeeper, Charger, Decider, check_interest
from cobranza.payments.use_cases.decisions import Asked

PAIRS = 40


async def test_a_payment_and_the_invoice_it_names_never_miss_each_other(ledger: Any, make: Any) -> None:
    bookkeeper = Bookkeeper(ledger.context.companies)
    parent = make.of(customer="PARENT")

    async def book(payload: Any) -> None:
        record = ledger.record(payload)
        decoded = decode(record.key, record.headers, record.value, strict=True)
        assert isinstance(decoded, Envelope)
        event = Event.of(decoded, offset=0)
        async with ledger.database.transaction(event.cause) as tx:
            await bookkeeper.accept(tx, event)

    events = []
    for number in range(PAIRS):
        events.append(make.of(customer=f"C{number}").invoice(f"F-{number}", "10.00", payment_method_code="PPD"))
        payer = make.of(customer=f"C{number}") if number % 3 else parent
        events.append(payer.payment(f"P-{number}", "10.00", f"F-{number}", nobody=number % 5 == 0))
    await asyncio.gather(*(book(event) for event in events))
    assert await ledger.value("SELECT count(*) FROM receivable WHERE open > 0") == 0
    assert await ledger.value("SELECT sum(unapplied) FROM receipt") == 0
    assert await ledger.value("SELECT count(*) FROM receivable") == PAIRS
    assert (
        await ledger.value("SELECT count(*) FROM fiscal_receipt_line WHERE state = 'live' AND remaining = 0") == PAIRS
    )


async def test_eight_writers_of_charges_money_and_decisions_never_deadlock(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    customers = [make.of(customer=f"C{number}") for number in range(4)]
    await ledger.tell(*(mine.invoice(f"F-{mine.customer}", "1000.00") for mine in customers))
    await ledger.deliver(
        "cobranza.dunning",
        [
            ledger.record(mine.step(f"F-{mine.customer}", case=place, run=run, on=date(2027, 2, run), **terms))
            for place, mine in enumerate(customers, 1)
            for run, terms in enumerate(
                ({}, {"effect": "fee", "step": "cargo", "terms": {"percent": "5", "settle": "waive_on_principal"}}, {}),
                1,
            )
        ],
    )
    bookkeeper = Bookkeeper(ledger.context.companies)
    charger = Charger(ledger.database, ledger.context.companies)
    decider = Decider(ledger.context.companies)
    parent = make.of(customer="PARENT")

    async def book(number: int) -> None:
        names = [f"F-C{(number + step) % 4}" for step in (0, 3, 1)]
        record = ledger.record(parent.payment(f"P-{number}", "300.00", *names, nobody=number % 2 == 0))
        decoded = decode(record.key, record.headers, record.value, strict=True)
        assert isinstance(decoded, Envelope)
        event = Event.of(decoded, offset=0)
        async with ledger.database.transaction(event.cause) as tx:
            await bookkeeper.accept(tx, event)

    async def charge() -> None:
        while await charger.run():
            pass

    async def give_up(number: int) -> None:
        mine = customers[number % 4]
        asked = Asked(
            verb="write_off", company="acme-mx", subject_id=mine.receivable_id(f"F-{mine.customer}"), amount=1,
            action_id=UUID(int=number + 1), reason="uncollectable", note="as agreed", by="ana",
        )  # fmt: skip
        with suppress(DecisionRefusedError):
            async with ledger.database.transaction() as tx:
                await decider.ask(tx, asked)

    await asyncio.gather(charge(), charge(), *(book(n) for n in range(12)), *(give_up(n) for n in range(12)), charge())
    await ledger.settle()
    states = {row.state for row in await ledger.rows("SELECT state FROM charge_request")}
    assert states <= {"booked", "partly", "refused"}
    assert await ledger.value("SELECT count(*) FROM charge_look") == 0
    received = await ledger.value("SELECT sum(amount) FROM receipt")
    assert received == await ledger.value("SELECT sum(allocated + unapplied) FROM receipt") == 3600_00
    async with ledger.database.transaction() as tx:
        assert await check_interest(tx) == {"late_interest_accrued": 0}
