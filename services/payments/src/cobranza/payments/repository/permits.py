"""What a permit looks at: watermarks, stops, parked inputs, and the permits that were given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from cobranza.chassis import inbox
from cobranza.chassis.database import Transaction
from cobranza.contracts.payments import NoticePermitAnswer, PermitLine, PermitRefusal
from cobranza.payments.domain.ledger import NOBODY, Receivable
from cobranza.payments.domain.permit import Stop
from cobranza.payments.repository.ledger import lock_customers
from cobranza.payments.repository.rows import RECEIVABLE_COLUMNS, receivable_of


async def move_watermark(
    tx: Transaction, *, company: str, feed: str | None, through_on: date, stated_at: datetime
) -> int | None:
    """Move a feed's watermark forward; returns its new version, or None when it was there already."""
    # Two feeds that move at once see each other, so that the later tells through when all are known.
    await tx.execute("SELECT 1 FROM cash_feed WHERE company = :company ORDER BY feed FOR UPDATE", {"company": company})
    result = await tx.execute(
        """
        INSERT INTO cash_feed (company, feed, through_on, stated_at, version)
        VALUES (:company, :feed, :through_on, :stated_at, 1)
        ON CONFLICT (company, feed) DO UPDATE SET through_on = excluded.through_on, stated_at = excluded.stated_at,
            version = cash_feed.version + 1
        WHERE cash_feed.through_on < excluded.through_on
        RETURNING version
        """,
        {"company": company, "feed": feed or NOBODY, "through_on": through_on, "stated_at": stated_at},
    )
    return result.scalar_one_or_none()


async def cash_through(tx: Transaction, company: str) -> date | None:
    """The last day of which all cash of the company is known."""
    result = await tx.execute(
        """
        SELECT greatest(max(through_on) FILTER (WHERE feed = '-'), min(through_on) FILTER (WHERE feed <> '-'))
        FROM cash_feed WHERE company = :company
        """,
        {"company": company},
    )
    through_on: date | None = result.scalar_one()
    return through_on


async def note_parked_input(
    tx: Transaction, *, company: str, input_id: UUID, customer: str | None, code: str, waiting: bool
) -> None:
    """Note that an input of invoicing waits for a person, or no longer."""
    await tx.execute(
        """
        INSERT INTO input_parked (company, input_id, customer, code, waiting)
        VALUES (:company, :id, :customer, :code, :waiting)
        ON CONFLICT (company, input_id) DO UPDATE SET waiting = excluded.waiting
        """,
        {"company": company, "id": input_id, "customer": customer, "code": code, "waiting": waiting},
    )


async def replace_stop(
    tx: Transaction, *, company: str, kind: str, stop_id: UUID, customer: str, stops: Sequence[Stop]
) -> None:
    """What a hold, promise, plan or dispute stops from now on; nothing ends it."""
    await tx.execute(
        "DELETE FROM stop WHERE company = :company AND kind = :kind AND stop_id = :id",
        {"company": company, "kind": kind, "id": stop_id},
    )
    if stops:
        await tx.execute(
            """
            INSERT INTO stop (company, kind, stop_id, line, customer, receivable_id, amount, reason, until_on)
            SELECT :company, :kind, :id, t.line, :customer, t.receivable, t.amount, t.reason, t.until_on
            FROM unnest(CAST(:lines AS int[]), CAST(:receivables AS uuid[]), CAST(:amounts AS bigint[]),
                CAST(:reasons AS text[]), CAST(:untils AS date[])) AS t(line, receivable, amount, reason, until_on)
            """,
            {
                "company": company,
                "kind": kind,
                "id": stop_id,
                "customer": customer,
                "lines": list(range(1, len(stops) + 1)),
                "receivables": [stop.receivable_id for stop in stops],
                "amounts": [stop.amount for stop in stops],
                "reasons": [stop.reason for stop in stops],
                "untils": [stop.until_on for stop in stops],
            },
        )


async def note_handed(tx: Transaction, rows: Sequence[tuple[UUID, int, datetime]]) -> None:
    """Note when the notices of permits (notice, attempt) were handed over."""
    await tx.execute(
        """
        UPDATE permit p SET handed_at = t.at
        FROM unnest(CAST(:notices AS uuid[]), CAST(:attempts AS int[]), CAST(:instants AS timestamptz[])) AS t(notice, n, at)
        WHERE p.notice_id = t.notice AND p.attempt = t.n AND p.handed_at IS NULL
        """,
        {
            "notices": [notice for notice, _, _ in rows],
            "attempts": [attempt for _, attempt, _ in rows],
            "instants": [at for _, _, at in rows],
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitFacts:
    """What a permit is decided from, read under the customer's lock."""

    receivables: dict[UUID, Receivable]
    stops: list[Stop]
    credits: dict[str, int]
    proposed: dict[UUID, int]
    cash_through: date | None
    input_parked: bool
    ledger_stopped: bool
    holds_age_seconds: float | None


async def lock_for_permit(tx: Transaction, *, company: str, customer: str) -> None:
    """Take the customer's lock: no payment of theirs commits until the permit is given."""
    await lock_customers(tx, {(company, customer)})


async def customer_of(tx: Transaction, *, company: str, receivable_id: UUID) -> str | None:
    """Whose debt a receivable is, or None."""
    rows = await tx.execute(
        "SELECT customer FROM receivable WHERE company = :company AND receivable_id = :id",
        {"company": company, "id": receivable_id},
    )
    return rows.scalar_one_or_none()


async def permit_facts(tx: Transaction, *, company: str, customer: str, receivable_ids: Sequence[UUID]) -> PermitFacts:
    """Read all that the gates ask about."""
    who = {"company": company, "customer": customer}
    receivables = await tx.execute(
        f"""
        SELECT {RECEIVABLE_COLUMNS} FROM receivable
        WHERE company = :company AND receivable_id = ANY(CAST(:ids AS uuid[])) AND customer = :customer
        """,  # noqa: S608 - constant columns
        {**who, "ids": list(receivable_ids)},
    )
    stops = await tx.execute(
        "SELECT kind, receivable_id, amount, reason, until_on FROM stop WHERE company = :company AND customer = :customer",
        who,
    )
    proposed = await tx.execute(
        """
        SELECT share.key::uuid AS receivable_id, max(share.value::bigint) AS amount
        FROM suggestion s CROSS JOIN LATERAL jsonb_each_text(s.shares) AS share
        WHERE s.company = :company AND s.state = 'open' AND s.shares ?| CAST(:keys AS text[])
            AND share.key = ANY(CAST(:keys AS text[])) GROUP BY 1
        """,
        {"company": company, "keys": [str(receivable_id) for receivable_id in receivable_ids]},
    )
    known = (
        await tx.execute(
            """
            SELECT (SELECT jsonb_object_agg(currency, unapplied) FROM credit
                    WHERE company = :company AND customer = :customer) AS credits,
                greatest((SELECT through_on FROM cash_feed WHERE company = :company AND feed = '-'),
                    (SELECT min(through_on) FROM cash_feed WHERE company = :company AND feed <> '-')) AS cash_through,
                EXISTS (SELECT 1 FROM input_parked WHERE company = :company AND customer = :customer AND waiting)
                    OR EXISTS (SELECT 1 FROM parked WHERE consumer = :consumer AND key = :key AND closed_at IS NULL)
                    AS input_parked,
                (SELECT stopped FROM ledger_stop) AS ledger_stopped
            """,
            {**who, "consumer": tx.service, "key": f"{company}|{customer}"},
        )
    ).one()
    return PermitFacts(
        receivables={row.receivable_id: receivable_of(row) for row in receivables},
        stops=[Stop(**row._mapping) for row in stops],  # noqa: SLF001 - SQLAlchemy's public name
        credits=known.credits or {},
        proposed={row.receivable_id: row.amount for row in proposed},
        cash_through=known.cash_through,
        input_parked=known.input_parked,
        ledger_stopped=bool(known.ledger_stopped),
        holds_age_seconds=await inbox.oldest_caught_up_age_seconds(
            tx.connection, consumer=tx.service, topics=("cobranza.dunning", "cobranza.invoicing")
        ),
    )


async def stored_permit(
    tx: Transaction, *, notice_id: UUID, attempt: int
) -> tuple[str, str, NoticePermitAnswer] | None:
    """Company, customer and the answer given before to the same notice and attempt."""
    row = (
        await tx.execute(
            """
            SELECT company, customer, notice_id, attempt, granted, asked_at, expires_at, lines, refusals, credit, claimed
            FROM permit WHERE notice_id = :notice_id AND attempt = :attempt
            """,
            {"notice_id": notice_id, "attempt": attempt},
        )
    ).one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    company, customer = values.pop("company"), values.pop("customer")
    values["lines"] = tuple(PermitLine.model_validate(line) for line in values["lines"])
    values["refusals"] = tuple(PermitRefusal.model_validate(refusal) for refusal in values["refusals"])
    ttl = round((row.expires_at - row.asked_at).total_seconds()) if row.granted else 0
    return company, customer, NoticePermitAnswer(**values, ttl_seconds=ttl)


async def save_permit(tx: Transaction, *, company: str, customer: str, answer: NoticePermitAnswer) -> None:
    """Keep an answer for the same question, and for the audit of what was sent."""
    told = answer.model_dump(mode="json")
    await tx.execute(
        """
        INSERT INTO permit (notice_id, attempt, company, customer, granted, asked_at, expires_at, lines, refusals, credit,
            claimed)
        VALUES (:notice_id, :attempt, :company, :customer, :granted, :asked_at, :expires_at, CAST(:lines AS jsonb),
            CAST(:refusals AS jsonb), CAST(:credit AS jsonb), CAST(:claimed AS jsonb))
        """,
        {
            "notice_id": answer.notice_id,
            "attempt": answer.attempt,
            "company": company,
            "customer": customer,
            "granted": answer.granted,
            "asked_at": answer.asked_at,
            "expires_at": answer.expires_at,
            "lines": json.dumps(told["lines"]),
            "refusals": json.dumps(told["refusals"]),
            "credit": None if answer.credit is None else json.dumps(told["credit"]),
            "claimed": None if answer.claimed is None else json.dumps(told["claimed"]),
        },
    )


async def set_ledger_stop(tx: Transaction, *, broken: Sequence[str]) -> None:
    """Stop permits while the ledger does not balance, and let them go on when it does again."""
    await tx.execute(
        """
        UPDATE ledger_stop SET stopped = :stopped, reason = :reason,
            since = CASE WHEN stopped = :stopped THEN since ELSE clock_timestamp() END
        """,
        {"stopped": bool(broken), "reason": ", ".join(broken) or "balanced"},
    )
