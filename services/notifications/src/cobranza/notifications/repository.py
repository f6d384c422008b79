"""The only writer of notifications' tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from cobranza.chassis.database import Transaction
from cobranza.chassis.outbox import Cause
from cobranza.contracts.dunning import NoticeLine
from cobranza.contracts.invoicing import CustomerChanged, InvoiceChanged, InvoiceIssued
from cobranza.contracts.notifications import ContactDecision, TemplateActivated
from cobranza.contracts.payments import NoticePermitAnswer, PermitConditions
from cobranza.notifications.domain.letter import Document, Receipt
from cobranza.notifications.domain.notice import State, may_become

_LINES = TypeAdapter(tuple[NoticeLine, ...])
_RECEIPT = TypeAdapter(Receipt)
#: Company and customer.
CustomerKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNotice:
    """A notice as it is asked for."""

    notice_id: UUID
    company: str
    customer: str
    purpose: str
    channel: str
    case_id: UUID | None
    step: str | None
    run: int | None
    template: str
    tone: str
    language: str
    on_unknown: str
    lines: tuple[NoticeLine, ...]
    conditions: PermitConditions
    receipt: Receipt | None
    contact_decision: ContactDecision
    expires_at: datetime
    cause_id: UUID
    correlation_id: str
    traceparent: str | None


_NOTICES = TypeAdapter(list[NewNotice])


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNotice(NewNotice):
    """A notice as it stands; `attempt` is the number of the claim."""

    state: State
    attempt: int
    version: int
    created_at: datetime
    changed_at: datetime
    handed_at: datetime | None
    permit: NoticePermitAnswer | None
    delivery: str | None
    contact_point_id: UUID | None

    @property
    def cause(self) -> Cause:
        """What its events are derived from: the event that asked for it."""
        return Cause.event(self.cause_id, correlation_id=self.correlation_id, traceparent=self.traceparent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is about to leave, kept before its first byte does."""

    permit: NoticePermitAnswer | None
    delivery: str
    contact_point_id: UUID
    language: str
    contact_decision: ContactDecision
    subject: str
    text: str
    html: str
    headers: Mapping[str, str]


async def save_customers(tx: Transaction, told: Iterable[CustomerChanged]) -> None:
    """Store customers' full states; of several states of one customer the last counts."""
    latest = {(customer.company, customer.customer): customer for customer in told}
    await tx.execute(
        """
        INSERT INTO customer (company, customer, state)
        SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:customers AS text[]), CAST(:states AS jsonb[]))
        ON CONFLICT (company, customer) DO UPDATE SET state = excluded.state
        """,
        {
            "companies": [company for company, _ in sorted(latest)],
            "customers": [customer for _, customer in sorted(latest)],
            "states": [latest[key].model_dump_json() for key in sorted(latest)],
        },
    )


async def save_invoices(tx: Transaction, told: Sequence[InvoiceIssued | InvoiceChanged]) -> None:
    """Store what letters show of invoices; of several states of one invoice the last counts."""
    latest = {(invoice.company, invoice.invoice_id): invoice for invoice in told}
    invoices = [invoice for _, invoice in sorted(latest.items())]
    await tx.execute(
        """
        INSERT INTO invoice (company, invoice_id, concept, fiscal_id)
        SELECT * FROM unnest(CAST(:companies AS text[]), CAST(:ids AS uuid[]), CAST(:concepts AS text[]),
            CAST(:fiscal_ids AS text[]))
        ON CONFLICT (company, invoice_id) DO UPDATE SET concept = excluded.concept, fiscal_id = excluded.fiscal_id
        """,
        {
            "companies": [invoice.company for invoice in invoices],
            "ids": [invoice.invoice_id for invoice in invoices],
            "concepts": [invoice.concept for invoice in invoices],
            "fiscal_ids": [invoice.fiscal_id for invoice in invoices],
        },
    )


async def documents(tx: Transaction, company: str, invoice_ids: Sequence[UUID]) -> dict[UUID, Document]:
    """What letters show of these invoices, as far as it is known."""
    rows = await tx.execute(
        """
        SELECT invoice_id, concept, fiscal_id FROM invoice
        WHERE company = :company AND invoice_id = ANY(CAST(:ids AS uuid[]))
        """,
        {"company": company, "ids": list(invoice_ids)},
    )
    return {row.invoice_id: Document(row.concept, row.fiscal_id) for row in rows}


async def customers_of(tx: Transaction, keys: Iterable[CustomerKey]) -> dict[CustomerKey, CustomerChanged]:
    """Customers by company and id; those of whom nothing was told yet are left out."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = await tx.execute(
        """
        SELECT c.company, c.customer, CAST(c.state AS text) AS state FROM customer c
        JOIN unnest(CAST(:companies AS text[]), CAST(:customers AS text[])) AS t(company, customer)
            ON c.company = t.company AND c.customer = t.customer
        """,
        {"companies": [company for company, _ in wanted], "customers": [customer for _, customer in wanted]},
    )
    return {(row.company, row.customer): CustomerChanged.model_validate_json(row.state) for row in rows}


async def add_notices(tx: Transaction, notices: Sequence[NewNotice]) -> None:
    """Queue notices; one whose id exists already is left as it is."""
    if not notices:
        return
    await tx.execute(
        """
        WITH added AS (
            INSERT INTO notice (notice_id, company, customer, purpose, channel, case_id, step, run, template, tone,
                language, on_unknown, lines, conditions, receipt, contact_decision, requested_at, expires_at, cause_id,
                correlation_id, traceparent)
            SELECT notice_id, company, customer, purpose, channel, case_id, step, run, template, tone, language, on_unknown,
                lines, conditions, CASE WHEN jsonb_typeof(receipt) = 'object' THEN receipt END, contact_decision,
                CAST(:now AS timestamptz), expires_at, cause_id, correlation_id, traceparent
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(notice_id uuid, company text, customer text, purpose text,
                channel text, case_id uuid, step text, run int, template text, tone text, language text, on_unknown text,
                lines jsonb, conditions jsonb, receipt jsonb, contact_decision jsonb, expires_at timestamptz, cause_id uuid,
                correlation_id text, traceparent text)
            ON CONFLICT (notice_id) DO NOTHING
            RETURNING notice_id)
        INSERT INTO notice_history (notice_id, state, attempt, business_at)
        SELECT notice_id, 'queued', 0, CAST(:now AS timestamptz) FROM added
        """,
        {"rows": _NOTICES.dump_json(list(notices)).decode(), "now": tx.now},
    )


async def try_now(tx: Transaction, *, company: str, customer: str | None = None) -> None:
    """Let waiting notices of a company, or of one of its customers, ask for their permit again at once."""
    await tx.execute(
        """
        UPDATE notice SET try_at = clock_timestamp()
        WHERE company = :company AND state = 'queued' AND try_at > clock_timestamp()
            AND (CAST(:customer AS text) IS NULL OR customer = :customer)
        """,
        {"company": company, "customer": customer},
    )


async def claim(tx: Transaction, *, limit: int, lease_seconds: float) -> list[StoredNotice]:
    """Take waiting notices whose turn it is, or whose time went by, for the length of a lease."""
    rows = await tx.execute(
        """
        UPDATE notice n SET attempt = n.attempt + 1, lease_until = clock_timestamp() + make_interval(secs => :lease)
        FROM (
            SELECT notice_id FROM notice
            WHERE state = 'queued' AND (try_at <= clock_timestamp() OR expires_at <= :now)
                AND (lease_until IS NULL OR lease_until <= clock_timestamp())
            ORDER BY try_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS due
        WHERE n.notice_id = due.notice_id RETURNING n.*
        """,
        {"limit": limit, "lease": lease_seconds, "now": tx.now},
    )
    return [_stored(row) for row in rows]


async def keep_intent(
    tx: Transaction, notice: StoredNotice, intent: Intent, *, lease_seconds: float
) -> StoredNotice | None:
    """Note that the notice is about to leave; None when the claim was lost meanwhile.

    The permit, as the notice's moment before, goes into the history with it.
    """
    rows = await tx.execute(
        """
        WITH moved AS (
            UPDATE notice SET state = 'sending', reason = NULL, detail = NULL, changed_at = clock_timestamp(),
                lease_until = clock_timestamp() + make_interval(secs => :lease), permit = CAST(:permit AS jsonb),
                delivery = :delivery, contact_point_id = :contact_point_id, language = :language,
                contact_decision = CAST(:contact_decision AS jsonb), subject = :subject, body_text = :text,
                body_html = :html, headers = CAST(:headers AS jsonb)
            WHERE notice_id = :notice_id AND state = 'queued' AND attempt = :attempt
            RETURNING *),
        noted AS (
            INSERT INTO notice_history (notice_id, state, attempt, business_at)
            SELECT moved.notice_id, told.state, moved.attempt, CAST(:now AS timestamptz)
            FROM moved, (VALUES (1, 'permitted'), (2, 'sending')) AS told (place, state)
            WHERE told.state = 'sending' OR moved.permit IS NOT NULL ORDER BY told.place)
        SELECT * FROM moved
        """,
        {
            "notice_id": notice.notice_id,
            "attempt": notice.attempt,
            "lease": lease_seconds,
            "permit": None if intent.permit is None else intent.permit.model_dump_json(),
            "delivery": intent.delivery,
            "contact_point_id": intent.contact_point_id,
            "language": intent.language,
            "contact_decision": intent.contact_decision.model_dump_json(),
            "subject": intent.subject,
            "text": intent.text,
            "html": intent.html,
            "headers": json.dumps(dict(intent.headers)),
            "now": tx.now,
        },
    )
    row = rows.one_or_none()
    return None if row is None else _stored(row)


async def move(
    tx: Transaction,
    notice: StoredNotice,
    after: State,
    *,
    before: tuple[State, ...],
    reason: str | None = None,
    detail: str | None = None,
    handed_at: datetime | None = None,
    told_on: date | None = None,
) -> StoredNotice | None:
    """Move a claimed notice to its next state; None when the claim was lost meanwhile.

    Args:
        before: the states it may be in.
        told_on: the business date of an outcome that is told; raises the version.
    """
    assert all(may_become(state, after) for state in before), (before, after)
    rows = await tx.execute(
        """
        WITH moved AS (
            UPDATE notice SET state = :after, reason = :reason, detail = :detail, changed_at = clock_timestamp(),
                lease_until = NULL, handed_at = coalesce(CAST(:handed_at AS timestamptz), handed_at),
                told_on = CAST(:told_on AS date), version = version + :told
            WHERE notice_id = :notice_id AND state = ANY(CAST(:before AS text[])) AND attempt = :attempt
            RETURNING *),
        noted AS (
            INSERT INTO notice_history (notice_id, state, reason, detail, attempt, business_at)
            SELECT notice_id, state, reason, detail, attempt, CAST(:now AS timestamptz) FROM moved)
        SELECT * FROM moved
        """,
        {
            "notice_id": notice.notice_id,
            "attempt": notice.attempt,
            "before": [str(state) for state in before],
            "after": str(after),
            "reason": reason,
            "detail": detail,
            "handed_at": handed_at,
            "told_on": told_on,
            "told": 0 if told_on is None else 1,
            "now": tx.now,
        },
    )
    row = rows.one_or_none()
    return None if row is None else _stored(row)


async def wait(
    tx: Transaction, notice: StoredNotice, *, before: State, seconds: float, reason: str | None, detail: str
) -> None:
    """Queue a claimed notice again for later; the same reason again is not noted again."""
    await tx.execute(
        """
        WITH old AS (SELECT notice_id, reason FROM notice WHERE notice_id = :notice_id),
        moved AS (
            UPDATE notice SET state = 'queued', reason = :reason, detail = :detail, changed_at = clock_timestamp(),
                lease_until = NULL, try_at = clock_timestamp() + make_interval(secs => :seconds)
            WHERE notice_id = :notice_id AND state = :before AND attempt = :attempt
            RETURNING *)
        INSERT INTO notice_history (notice_id, state, reason, detail, attempt, business_at)
        SELECT moved.notice_id, 'queued', moved.reason, moved.detail, moved.attempt, CAST(:now AS timestamptz)
        FROM moved JOIN old USING (notice_id)
        WHERE old.reason IS DISTINCT FROM moved.reason OR CAST(:before AS text) <> 'queued'
        """,
        {
            "notice_id": notice.notice_id,
            "attempt": notice.attempt,
            "before": str(before),
            "seconds": seconds,
            "reason": reason,
            "detail": detail,
            "now": tx.now,
        },
    )


async def interrupted(tx: Transaction, *, limit: int) -> list[StoredNotice]:
    """Notices whose sender died between intent and outcome, locked."""
    rows = await tx.execute(
        """
        SELECT * FROM notice WHERE state = 'sending' AND lease_until <= clock_timestamp()
        ORDER BY changed_at LIMIT :limit FOR UPDATE SKIP LOCKED
        """,
        {"limit": limit},
    )
    return [_stored(row) for row in rows]


async def unresolved(tx: Transaction, *, after_seconds: float, limit: int) -> list[StoredNotice]:
    """Notices that have been unknown for `after_seconds` and need no person to decide, locked."""
    rows = await tx.execute(
        """
        SELECT * FROM notice WHERE state = 'unknown' AND on_unknown <> 'operator'
            AND changed_at <= clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY changed_at LIMIT :limit FOR UPDATE SKIP LOCKED
        """,
        {"seconds": after_seconds, "limit": limit},
    )
    return [_stored(row) for row in rows]


async def waiting(tx: Transaction) -> tuple[float, int]:
    """Real age in seconds of the oldest waiting notice (0 without one), and how many are unknown."""
    row = (
        await tx.execute(
            """
            SELECT CAST(coalesce(extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE state = 'queued')), 0)
                    AS double precision) AS oldest,
                count(*) FILTER (WHERE state = 'unknown') AS unknown
            FROM notice WHERE state IN ('queued', 'sending', 'unknown')
            """
        )
    ).one()
    return row.oldest, row.unknown


def _stored(row: Any) -> StoredNotice:
    return StoredNotice(
        notice_id=row.notice_id,
        company=row.company,
        customer=row.customer,
        purpose=row.purpose,
        channel=row.channel,
        case_id=row.case_id,
        step=row.step,
        run=row.run,
        template=row.template,
        tone=row.tone,
        language=row.language,
        on_unknown=row.on_unknown,
        lines=_LINES.validate_json(json.dumps(row.lines)),
        conditions=PermitConditions.model_validate_json(json.dumps(row.conditions)),
        receipt=None if row.receipt is None else _RECEIPT.validate_json(json.dumps(row.receipt)),
        contact_decision=ContactDecision.model_validate_json(json.dumps(row.contact_decision)),
        expires_at=row.expires_at,
        cause_id=row.cause_id,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
        state=State(row.state),
        attempt=row.attempt,
        version=row.version,
        created_at=row.created_at,
        changed_at=row.changed_at,
        handed_at=row.handed_at,
        permit=None if row.permit is None else NoticePermitAnswer.model_validate_json(json.dumps(row.permit)),
        delivery=row.delivery,
        contact_point_id=row.contact_point_id,
    )


async def templates_in_use(tx: Transaction, company: str) -> dict[tuple[str, str, str, str], tuple[int, str]]:
    """Version and sha-256 of each template that was told for a company, by template, channel, language and tone."""
    rows = await tx.execute(
        "SELECT template, channel, language, tone, version, sha256 FROM template WHERE company = :company",
        {"company": company},
    )
    return {(row.template, row.channel, row.language, row.tone): (row.version, row.sha256) for row in rows}


async def save_template(tx: Transaction, told: TemplateActivated) -> None:
    """Remember which version of a template was told."""
    await tx.execute(
        """
        INSERT INTO template (company, template, channel, language, tone, version, sha256)
        VALUES (:company, :template, :channel, :language, :tone, :version, :sha256)
        ON CONFLICT (company, template, channel, language, tone) DO UPDATE
            SET version = excluded.version, sha256 = excluded.sha256
        """,
        told.model_dump(include={"company", "template", "channel", "language", "tone", "version", "sha256"}),
    )
