"""What evaluations and the outcomes of their steps change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.facts import AccountFacts, Item
from cobranza.dunning.repository.rows import as_json


@dataclass(slots=True)
class Changes:
    """Rows of one batch of evaluations, written by one statement per table."""

    opened: list[Mapping[str, object]] = field(default_factory=list)
    cases: list[Mapping[str, object]] = field(default_factory=list)
    runs: list[Mapping[str, object]] = field(default_factory=list)
    decisions: list[Mapping[str, object]] = field(default_factory=list)
    repeated: list[UUID] = field(default_factory=list)
    answered: list[Mapping[str, object]] = field(default_factory=list)
    accounts: list[Mapping[str, object]] = field(default_factory=list)
    agreed: list[Mapping[str, object]] = field(default_factory=list)
    items: list[tuple[str, Item, str | None]] = field(default_factory=list)


async def write(tx: Transaction, changes: Changes) -> None:
    """Write what evaluations changed; the accounts are locked."""
    if changes.opened:
        await tx.execute(
            """
            INSERT INTO collection_case (case_id, account_id, company, customer, currency, state, policy, policy_version,
                heard_tone, opened_on, previous_case_id, version)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, account_id uuid, company text,
                customer text, currency text, state text, policy text, policy_version int, heard_tone text, opened_on date,
                previous_case_id uuid, version bigint)
            """,
            {"rows": as_json(changes.opened)},
        )
    if changes.cases:
        await tx.execute(
            """
            UPDATE collection_case c SET state = t.state, policy = t.policy, policy_version = t.policy_version,
                closed_on = t.closed_on, outcome = t.outcome, version = t.version, heard_tone = t.heard_tone
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, state text, policy text, policy_version int,
                closed_on date, outcome text, version bigint, heard_tone text)
            WHERE c.case_id = t.case_id
            """,
            {"rows": as_json(changes.cases)},
        )
    if changes.runs:
        await tx.execute(
            """
            INSERT INTO step_run (case_id, step, run, account_id, company, position, state, notice_step, notice_run, tone,
                receivable_ids, decision_id, facts_hash, reached_on, expires_on, reason, kind)
            SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, step text, run int, account_id uuid,
                company text, position int, state text, notice_step text, notice_run int, tone text, receivable_ids uuid[],
                decision_id uuid, facts_hash text, reached_on date, expires_on date, reason text, kind text)
            ON CONFLICT (case_id, step, run) DO UPDATE SET state = excluded.state, decision_id = excluded.decision_id,
                expires_on = excluded.expires_on
            """,
            {"rows": as_json(changes.runs)},
        )
    if changes.answered:
        await tx.execute(
            """
            UPDATE step_run s SET state = t.state, answered_on = t.answered_on, reason = t.reason, expires_on = t.expires_on,
                has_risen = t.has_risen, attempts = t.attempts
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(case_id uuid, step text, run int, state text,
                answered_on date, reason text, expires_on date, has_risen boolean, attempts int)
            WHERE s.case_id = t.case_id AND s.step = t.step AND s.run = t.run
            """,
            {"rows": as_json(changes.answered)},
        )
    if changes.decisions:
        await tx.execute(
            """
            INSERT INTO decision (decision_id, account_id, company, customer, currency, case_id, previous_id, as_of, decided_at,
                last_at, cause, policy, policy_version, policy_sha256, facts_hash, facts, reasoning, outcome, contact, reasons,
                next_check_on)
            SELECT decision_id, account_id, company, customer, currency, case_id, previous_id, as_of, decided_at, decided_at,
                cause, policy, policy_version, policy_sha256, facts_hash, facts, reasoning, outcome,
                CASE WHEN jsonb_typeof(contact) = 'object' THEN contact END, reasons, next_check_on
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(decision_id uuid, account_id uuid, company text, customer text,
                currency text, case_id uuid, previous_id uuid, as_of date, decided_at timestamptz, cause jsonb, policy text,
                policy_version int, policy_sha256 text, facts_hash text, facts jsonb, reasoning jsonb, outcome text,
                contact jsonb, reasons jsonb, next_check_on date)
            """,
            {"rows": as_json(changes.decisions)},
        )
    if changes.repeated:
        await tx.execute(
            """
            UPDATE decision SET times = times + 1, last_at = :now WHERE decision_id = ANY(CAST(:ids AS uuid[]))
            """,
            {"now": tx.now, "ids": changes.repeated},
        )
    await tx.execute(
        """
        UPDATE account a SET evaluated_on = t.evaluated_on, reason = t.reason, next_check_on = t.next_check_on,
            caught_up_on = t.caught_up_on, decision_id = t.decision_id, decision_digest = t.decision_digest,
            unapplied = t.unapplied, last_contact_on = t.last_contact_on, contacts = t.contacts, corrections = t.corrections
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(account_id uuid, evaluated_on date, reason text, next_check_on date,
            caught_up_on date, decision_id uuid, decision_digest text, unapplied bigint, last_contact_on date,
            contacts date[], corrections jsonb)
        WHERE a.account_id = t.account_id
        """,
        {"rows": as_json(changes.accounts)},
    )
    if changes.agreed:
        await tx.execute(
            """
            UPDATE account a SET stops = t.stops, promises = t.promises, effects = t.effects, handed_over = t.handed_over,
                closed_tone = t.closed_tone
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(account_id uuid, stops jsonb, promises jsonb, effects jsonb,
                handed_over uuid[], closed_tone text)
            WHERE a.account_id = t.account_id
            """,
            {"rows": as_json(changes.agreed)},
        )
    if changes.items:
        await write_items(tx, changes.items)


def agreed_row(account_id: UUID, facts: AccountFacts, closed_tone: str | None) -> dict[str, object]:
    """What was agreed or disputed and what is in force, as an account keeps it."""
    return {
        "account_id": account_id,
        "stops": [
            {
                "reason": stop.reason.value,
                "kind": stop.kind,
                "from_on": stop.from_on,
                "until_on": stop.until_on,
                "amounts": {str(receivable_id): amount for receivable_id, amount in stop.amounts.items()},
                "stop_id": stop.stop_id,
                "deadline_on": stop.deadline_on,
            }
            for stop in facts.stops
            if stop.reason != Reason.ON_HOLD
        ],
        "promises": [
            {
                "promise_id": promise.promise_id,
                "made_on": promise.made_on,
                "limit_on": promise.limit_on,
                "amounts": {str(receivable_id): amount for receivable_id, amount in promise.amounts.items()},
                "plan_id": promise.plan_id,
                "paid": promise.paid,
                "verdict": promise.verdict,
                "judged_on": promise.judged_on,
            }
            for promise in facts.promises
        ],
        "effects": [
            [effect.step, effect.run, effect.effect, sorted(effect.receivable_ids)] for effect in facts.effects
        ],
        "handed_over": sorted(facts.handed_over),
        "closed_tone": closed_tone,
    }


async def write_items(tx: Transaction, items: Sequence[tuple[str, Item, str | None]]) -> None:
    """Store what was done about receivables; their balances are stored as they are told."""
    await tx.execute(
        """
        UPDATE receivable r SET level = t.level, level_step = t.level_step, passed = t.passed,
            last_notice_on = t.last_notice_on, history = t.history, payments = t.payments, reopened_on = t.reopened_on,
            told_reversal = t.told_reversal, product_line = t.product_line, acknowledged = t.acknowledged
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS t(company text, receivable_id uuid, level int, level_step text,
            passed int, last_notice_on date, history jsonb, payments jsonb, reopened_on date, told_reversal boolean,
            product_line text, acknowledged boolean)
        WHERE r.company = t.company AND r.receivable_id = t.receivable_id
        """,
        {
            "rows": as_json(
                {
                    "company": company,
                    "receivable_id": item.receivable_id,
                    "level": item.level,
                    "level_step": level_step,
                    "passed": item.passed,
                    "last_notice_on": item.last_notice_on,
                    "history": {
                        step: {"on": done.on, "times": done.times, "delivered_on": done.delivered_on}
                        for step, done in item.history.items()
                    },
                    "payments": [[payment.on, payment.paid, payment.before] for payment in item.payments],
                    "reopened_on": item.reopened_on,
                    "told_reversal": item.told_reversal,
                    "product_line": item.product_line,
                    "acknowledged": item.acknowledged,
                }
                for company, item, level_step in items
            )
        },
    )


async def save_answer(tx: Transaction, *, company: str, case_id: UUID, step: str, run: int, answer: str) -> bool:
    """Keep what became of a notice with the step runs it carries; False when there are none."""
    result = await tx.execute(
        """
        UPDATE step_run SET answer = CAST(:answer AS jsonb)
        WHERE company = :company AND case_id = :case_id AND notice_step = :step AND notice_run = :run
        """,
        {"company": company, "case_id": case_id, "step": step, "run": run, "answer": answer},
    )
    return bool(result.rowcount)


async def next_case_version(tx: Transaction, case_id: UUID) -> int:
    """Count one more event of a case; its account is locked."""
    result = await tx.execute(
        "UPDATE collection_case SET version = version + 1 WHERE case_id = :id RETURNING version", {"id": case_id}
    )
    return int(result.scalar_one())
