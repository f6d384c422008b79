"""The durable limit: applying payments by hand, the fastest honest way, for this one case and no other.

It writes the rows that payments' worker writes, by as few statements as they need. It refuses nothing, knows one
currency and one instalment, and would book nonsense for a payment it does not expect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from payments_workload import COMPANY, major

from cobranza.chassis.clock import utc_now
from cobranza.contracts import identifiers

_ZONE: Final = ZoneInfo("America/Mexico_City")
_TYPES: Final = tuple(
    f"cobranza.payments.{name}.v1" for name in ("payment-received", "payment-allocated", "receivable-changed")
)


@dataclass(frozen=True, slots=True)
class Input:
    """One record of the topic."""

    partition: int
    offset: int
    value: bytes


async def apply(connection: Any, topic_id: UUID, records: Sequence[Input]) -> None:
    """Apply one batch in one transaction."""
    last = {record.partition: record.offset + 1 for record in records}
    async with connection.transaction():
        rows = await connection.fetch(
            """SELECT partition, next_offset FROM progress WHERE consumer = 'payments' AND topic_id = $1
            AND partition = ANY($2::int[]) FOR UPDATE""",
            topic_id,
            sorted(last),
        )
        known = {row["partition"]: row["next_offset"] for row in rows}
        events: dict[UUID, tuple[bytes, dict[str, Any]]] = {}
        for record in records:
            if record.offset >= known.get(record.partition, 0):
                told = json.loads(record.value)
                events[identifiers.ingress_event_id(told["source"], told["id"])] = (record.value, told)
        if events:
            await _apply_fresh(connection, events)
        await connection.execute(
            """UPDATE progress SET next_offset = t.n, caught_up_at = clock_timestamp()
            FROM unnest($2::int[], $3::bigint[]) AS t(p, n)
            WHERE consumer = 'payments' AND topic_id = $1 AND partition = t.p""",
            topic_id,
            list(last),
            list(last.values()),
        )


async def _apply_fresh(connection: Any, events: dict[UUID, tuple[bytes, dict[str, Any]]]) -> None:
    ordered = sorted(events)
    fresh = await connection.fetch(
        """INSERT INTO inbox (consumer, event_id, body_sha256)
        SELECT 'payments', e, b FROM unnest($1::uuid[], $2::bytea[]) AS t(e, b) ON CONFLICT DO NOTHING RETURNING event_id""",
        ordered,
        [hashlib.sha256(events[i][0]).digest() for i in ordered],
    )
    told = {row["event_id"]: events[row["event_id"]][1]["data"] for row in fresh}
    if not told:
        return
    found = await connection.fetch(
        """SELECT n.reference, r.receivable_id, r.invoice_id, r.number, r.issued, r.allocated, r.issued_on, r.due_on, r.version
        FROM unnest($2::text[]) AS t(b) JOIN invoice_reference n ON n.company = $1 AND n.reference = t.b
        JOIN receivable r ON r.company = n.company AND r.invoice_id = n.invoice_id ORDER BY r.receivable_id FOR UPDATE OF r""",
        COMPANY,
        sorted({data["references"][0].lower() for data in told.values()}),
    )
    by_reference = {row["reference"]: dict(row) for row in found}
    await _write(connection, told, by_reference)


async def _write(connection: Any, told: dict[UUID, dict[str, Any]], by_reference: dict[str, dict[str, Any]]) -> None:
    receipts: list[tuple[Any, ...]] = []
    allocations: list[tuple[Any, ...]] = []
    entries: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    namings: list[tuple[Any, ...]] = []
    outbox: list[tuple[Any, ...]] = []
    now = utc_now()
    instant = now.astimezone(UTC).isoformat().replace("+00:00", "Z")
    for event_id, data in told.items():
        external, customer, reference = data["external"], data["customer"], data["references"][0].lower()
        receipt_id = identifiers.payment_id(COMPANY, external["system"], external["id"])
        debt = by_reference[reference]
        paid = int(data["amount"]["amount"].replace(".", ""))
        debt["allocated"] += paid
        debt["version"] += 1
        value_on = date.fromisoformat(data["value_on"])
        details = {
            "booked_on": data["booked_on"], "method": data["method"], "references": data["references"], "remittance": [],
        }  # fmt: skip
        content = hashlib.sha256(json.dumps(data).encode()).digest()
        receipts.append(
            (receipt_id, customer, external["system"], external["id"], content, paid, value_on, json.dumps(details))
        )
        namings.append((receipt_id, reference))
        allocation_id = identifiers.allocation_id(cause=event_id, payment=receipt_id, receivable=debt["receivable_id"])
        allocations.append((allocation_id, receipt_id, debt["receivable_id"], paid, event_id))
        received, applied = uuid5(receipt_id, "journal|payment-received"), uuid5(event_id, "journal|payment-allocated")
        entries += (
            (received, "payment-received", event_id, value_on),
            (applied, "payment-allocated", event_id, value_on),
        )
        lines += (
            (received, 1, "CASH", None, receipt_id, paid),
            (received, 2, "UNAPPLIED", None, receipt_id, -paid),
            (applied, 1, "UNAPPLIED", None, receipt_id, paid),
            (applied, 2, "AR", debt["receivable_id"], None, -paid),
        )
        outbox += _events(event_id, data, receipt_id, allocation_id, debt, now=now, instant=instant)
    await connection.execute(
        """INSERT INTO receipt (company, receipt_id, customer, told_customer, kind, currency, system, external_id, sha256,
            amount, allocated, value_on, details)
        SELECT $1, r, c, c, 'cash', 'MXN', s, x, h, a, a, v, d FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[],
            $6::bytea[], $7::bigint[], $8::date[], $9::jsonb[]) AS t(r, c, s, x, h, a, v, d)""",
        COMPANY,
        *_columns(receipts),
    )
    debts = sorted(by_reference.values(), key=lambda debt: debt["receivable_id"])
    await connection.execute(
        """UPDATE receivable r SET allocated = t.a, version = t.v
        FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS t(i, a, v) WHERE r.company = $1 AND r.receivable_id = t.i""",
        COMPANY,
        [debt["receivable_id"] for debt in debts],
        [debt["allocated"] for debt in debts],
        [debt["version"] for debt in debts],
    )
    await connection.execute(
        """INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, rule, cause_event_id)
        SELECT i, $1, r, d, 'MXN', a, 'reference@1', e
        FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::uuid[]) AS t(i, r, d, a, e)""",
        COMPANY,
        *_columns(allocations),
    )
    await connection.execute(
        """INSERT INTO journal_entry (entry_id, company, kind, cause_event_id, effective_on)
        SELECT e, $1, k, c, o FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::date[]) AS t(e, k, c, o)""",
        COMPANY,
        *_columns(entries),
    )
    await connection.execute(
        """INSERT INTO journal_line (entry_id, line, account, receivable_id, receipt_id, currency, amount)
        SELECT e, l, k, d, r, 'MXN', a
        FROM unnest($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[]) AS t(e, l, k, d, r, a)""",
        *_columns(lines),
    )
    await connection.execute(
        """INSERT INTO receipt_reference (company, receipt_id, position, reference)
        SELECT $1, r, 0, n FROM unnest($2::uuid[], $3::text[]) AS t(r, n)""",
        COMPANY,
        *_columns(namings),
    )
    await connection.execute(
        """INSERT INTO outbox (event_id, topic, key, type, subject, sequence, headers, value, occurred_at)
        SELECT e, 'cobranza.payments', k, y, s, q, h, v, o FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
            $5::bigint[], $6::jsonb[], $7::bytea[], $8::timestamptz[]) AS t(e, k, y, s, q, h, v, o)""",
        *_columns(outbox),
    )


def _events(
    event_id: UUID,
    data: dict[str, Any],
    receipt_id: UUID,
    allocation_id: UUID,
    debt: dict[str, Any],
    *,
    now: datetime,
    instant: str,
) -> list[tuple[Any, ...]]:
    """The three events that a payment of one invoice tells."""
    customer, key, value_on = data["customer"], f"{COMPANY}|{data['customer']}", data["value_on"]
    effective_on = max(value_on, debt["issued_on"].isoformat())
    bodies = (
        {
            "company": COMPANY, "payment_id": str(receipt_id), "external": data["external"], "customer": customer,
            "amount": data["amount"], "value_on": value_on, "booked_on": data["booked_on"], "method": data["method"],
            "references": data["references"], "remittance": [],
        },
        {
            "company": COMPANY, "allocation_id": str(allocation_id), "payment_id": str(receipt_id),
            "receivable_id": str(debt["receivable_id"]), "customer": customer, "amount": data["amount"],
            "rule": "reference@1", "confidence": "1", "effective_on": effective_on,
        },
        {
            "company": COMPANY, "receivable_id": str(debt["receivable_id"]), "invoice_id": str(debt["invoice_id"]),
            "instalment": 1, "customer": customer, "number": debt["number"], "kind": "invoice", "currency": "MXN",
            "issued_on": debt["issued_on"].isoformat(), "due_on": debt["due_on"].isoformat(),
            "issued": major(debt["issued"]), "allocated": major(debt["allocated"]), "credited": "0.00",
            "written_off": "0.00", "open": major(debt["issued"] - debt["allocated"]), "version": debt["version"],
            "cause": "payment-received", "effective_on": effective_on, "recorded_on": _today(now),
        },
    )  # fmt: skip
    subjects = (f"payment/{receipt_id}", f"allocation/{allocation_id}", f"receivable/{debt['receivable_id']}")
    rows = []
    for type_, subject, sequence, body in zip(_TYPES, subjects, (1, 1, debt["version"]), bodies, strict=True):
        own_id = identifiers.event_id(cause=event_id, service="payments", type=type_, subject=f"{key}|{subject}")
        headers = json.dumps(
            [
                ["content-type", "application/json"], ["ce_specversion", "1.0"], ["ce_id", str(own_id)],
                ["ce_source", "/cobranza/payments"], ["ce_type", type_], ["ce_subject", subject], ["ce_time", instant],
                ["ce_companyid", COMPANY], ["ce_partitionkey", key], ["ce_sequence", f"{sequence:020d}"],
                ["ce_correlationid", str(event_id)], ["ce_causationid", str(event_id)],
            ]
        )  # fmt: skip
        rows.append((own_id, key, type_, subject, sequence, headers, json.dumps(body).encode(), now))
    return rows


def _today(now: datetime) -> str:
    return now.astimezone(_ZONE).date().isoformat()


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
