"""Payments that each pay a known invoice by its number, and what must be in the ledger afterwards."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg
from figures import WrongTotalsError

from cobranza.chassis import migrations
from cobranza.contracts import identifiers

COMPANY: Final = "acme-mx"
TOPIC: Final = "erp.payments"
ERP: Final = "erp"
BANK: Final = "bank"
STRUCTURED: Final = (("content-type", b"application/cloudevents+json"),)
_ISSUED_ON: Final = date(2026, 1, 2)
_DUE_ON: Final = date(2026, 2, 1)
_INVOICES_PER_CUSTOMER: Final = 10


class Workload:
    """`payments` invoices and one payment for each, every third of them in part; the same for every peer."""

    def __init__(self, payments: int) -> None:
        self.payments = payments
        chance = random.Random(payments)  # noqa: S311 - made-up amounts
        self._payable = [chance.randrange(10_000, 5_000_000) for _ in range(payments)]
        self._paid = [
            amount if number % 3 else chance.randrange(1, amount) for number, amount in enumerate(self._payable)
        ]
        self._order = list(range(payments))
        chance.shuffle(self._order)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and structured CloudEvent of each payment."""
        for number in self._order:
            customer = _customer(number)
            event = {
                "specversion": "1.0",
                "id": f"payment-{number}-1",
                "source": f"/erp/{COMPANY}/{BANK}",
                "type": "erp.payment-received.v1",
                "companyid": COMPANY,
                "datacontenttype": "application/json",
                "data": {
                    "company": COMPANY,
                    "external": {"system": BANK, "id": f"P-{number}"},
                    "customer": customer,
                    "amount": {"amount": major(self._paid[number]), "currency": "MXN"},
                    "value_on": "2026-01-20",
                    "booked_on": "2026-01-21",
                    "method": "transfer",
                    "references": [_number(number)],
                },
            }
            yield f"{COMPANY}|{customer}".encode(), json.dumps(event).encode()

    @property
    def digest(self) -> str:
        """What names this set of events in a report."""
        return hashlib.sha256(b"".join(value for _, value in self.records())).hexdigest()[:16]

    async def fill(self, owner: Any) -> None:
        """Put the invoices, as payments knows them, into an empty database."""
        rows = [self._invoice(number) for number in range(self.payments)]
        await owner.execute(
            "INSERT INTO ledger_customer (company, customer) SELECT $1, c FROM unnest($2::text[]) AS t(c)",
            COMPANY,
            sorted({customer for customer, *_ in rows}),
        )
        customers, numbers, invoices, receivables, entries, causes, amounts = map(list, zip(*rows, strict=True))
        await owner.execute(
            """INSERT INTO invoice (company, invoice_id, customer, number, system)
            SELECT $1, i, c, n, $5 FROM unnest($2::uuid[], $3::text[], $4::text[]) AS t(i, c, n)""",
            *(COMPANY, invoices, customers, numbers, ERP),
        )
        await owner.execute(
            """INSERT INTO invoice_reference (company, reference, invoice_id)
            SELECT $1, lower(n), i FROM unnest($2::uuid[], $3::text[]) AS t(i, n)
            UNION ALL SELECT $1, i::text, i FROM unnest($2::uuid[]) AS t(i)""",
            *(COMPANY, invoices, numbers),
        )
        await owner.execute(
            """INSERT INTO receivable (company, receivable_id, customer, invoice_id, instalment, number, kind, currency,
                issued, issued_on, due_on, version)
            SELECT $1, r, c, i, 1, n, 'invoice', 'MXN', a, $7, $8, 1
            FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::bigint[]) AS t(r, c, i, n, a)""",
            *(COMPANY, receivables, customers, invoices, numbers, amounts, _ISSUED_ON, _DUE_ON),
        )
        await owner.execute(
            """INSERT INTO journal_entry (entry_id, company, kind, cause_event_id, effective_on)
            SELECT e, $1, 'invoice-issued', u, $4 FROM unnest($2::uuid[], $3::uuid[]) AS t(e, u)""",
            *(COMPANY, entries, causes, _ISSUED_ON),
        )
        await owner.execute(
            """INSERT INTO journal_line (entry_id, line, account, receivable_id, currency, amount)
            SELECT e, l, CASE l WHEN 1 THEN 'AR' ELSE 'ADJUSTMENT:issued' END, r, 'MXN', CASE l WHEN 1 THEN a ELSE -a END
            FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS t(e, r, a), (VALUES (1), (2)) AS v(l)""",
            *(entries, receivables, amounts),
        )

    async def check(self, owner: Any) -> str:
        """Compare the ledger with what was paid; a digest of what was written that all peers must share.

        Raises:
            WrongTotalsError: something differs.
        """
        found = {
            row["receivable_id"]: row["open"] for row in await owner.fetch("SELECT receivable_id, open FROM receivable")
        }
        expected = {self._receivable(n): self._payable[n] - self._paid[n] for n in range(self.payments)}
        if found != expected:
            wrong = sum(found.get(i) != amount for i, amount in expected.items())
            raise WrongTotalsError(f"{wrong} of {len(expected)} receivables have another balance")
        totals = dict(await owner.fetchrow(_TOTALS))
        n = self.payments
        wanted = {
            "inbox": n, "receipts": n, "received": sum(self._paid), "unapplied": 0, "allocations": n, "entries": 3 * n,
            "lines": 6 * n, "unbalanced": 0, "reference_rows": n, "events": 3 * n,
        }  # fmt: skip
        if totals != wanted:
            raise WrongTotalsError(f"expected {wanted}, found {totals}")
        return str(await owner.fetchval(_DIGEST))

    def _invoice(self, number: int) -> tuple[str, str, UUID, UUID, UUID, UUID, int]:
        invoice = identifiers.invoice_id(COMPANY, ERP, _number(number))
        receivable = identifiers.receivable_id(invoice, 1)
        entry, cause = (UUID(int=2**100 * kind + number) for kind in (1, 2))
        return _customer(number), _number(number), invoice, receivable, entry, cause, self._payable[number]

    def _receivable(self, number: int) -> UUID:
        return identifiers.receivable_id(identifiers.invoice_id(COMPANY, ERP, _number(number)), 1)


_TOTALS: Final = """
    SELECT (SELECT count(*) FROM inbox) AS inbox, (SELECT count(*) FROM receipt) AS receipts,
        (SELECT sum(amount)::bigint FROM receipt) AS received, (SELECT sum(unapplied)::bigint FROM receipt) AS unapplied,
        (SELECT count(*) FROM allocation) AS allocations, (SELECT count(*) FROM journal_entry) AS entries,
        (SELECT count(*) FROM journal_line) AS lines,
        (SELECT count(*) FROM (SELECT 1 FROM journal_line GROUP BY entry_id HAVING sum(amount) <> 0) AS t) AS unbalanced,
        (SELECT count(*) FROM receipt_reference) AS reference_rows, (SELECT count(*) FROM outbox) AS events
"""
# Identity of everything told and booked: peers that write other rows than the worker do not compare.
# The day of recording is left out: a comparison may run past midnight.
_DIGEST: Final = """
    SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (
        SELECT event_id::text || topic || key || type || subject || sequence
            || (convert_from(value, 'UTF8')::jsonb - 'recorded_on')::text AS line FROM outbox
        UNION ALL SELECT allocation_id::text || amount FROM allocation
        UNION ALL SELECT entry_id::text || line || account || amount FROM journal_line
        UNION ALL SELECT receipt_id::text || external_id || amount || allocated || details::text FROM receipt) AS t
"""


def migrate(owner_url: str) -> None:
    """Make payments' tables."""
    migrations.upgrade("cobranza.payments:migrations", owner_url)


async def connect(url: str) -> Any:
    """A connection of its own."""
    return await asyncpg.connect(url, command_timeout=600)


def major(minor: int) -> str:
    """Minor units of a currency with two decimals, as text."""
    return f"{minor // 100}.{minor % 100:02d}"


def _number(number: int) -> str:
    return f"F-{number:07d}"


def _customer(number: int) -> str:
    return f"C-{number // _INVOICES_PER_CUSTOMER:06d}"
