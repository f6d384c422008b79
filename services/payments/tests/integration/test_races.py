"""Money and documents that arrive at the same moment, on two topics and under two customers."""

import asyncio
from typing import Any

from cobranza.chassis.streams import Event
from cobranza.contracts.envelope import Envelope, decode
from cobranza.payments.use_cases import Bookkeeper

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
