"""Read-only queries of dunning's API, pages and command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Text, func, or_, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.page import formats
from cobranza.chassis.pagination import Keyset, Window
from cobranza.dunning.domain.errors import UnknownInvoiceError
from cobranza.dunning.domain.explanation import Explained, Language, Style, explain_all, explain_gate, explain_reason
from cobranza.dunning.domain.policy import IRREVERSIBLE
from cobranza.dunning.tables import (
    account,
    agreement,
    collection_case,
    decision,
    notice_day,
    policy_trial,
    policy_version,
    receivable,
    step_run,
    task,
)

_PLAIN = TypeAdapter(dict[str, Any])

BY_AGREEMENT = Keyset((agreement.c.agreement_id, "desc"))
BY_TASK = Keyset((task.c.task_id, "desc"))
BY_OPENING = Keyset((collection_case.c.opened_on, "desc"), (collection_case.c.case_id, "asc"))


class Told(NamedTuple):
    """A gate in words; invoice and step are absent for one of the whole case."""

    invoice: str | None
    step: str | None
    sentence: str
    ok: bool


def reasons_in_words(reasons: Sequence[Mapping[str, Any]], language: Language, country: str | None) -> list[str]:
    """Reasons as a reader reads them."""
    style = _style(language, country)
    return [explain_reason(reason, style) for reason in reasons]


def _style(language: Language, country: str | None) -> Style:
    locale = formats.locale_for(language, country)
    return Style(
        language=language,
        day=lambda on: formats.day(on, locale=locale),
        money=lambda amount: formats.money(amount, locale=locale),
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """Why something was, or was not, done about an invoice on a date.

    Args:
        since: the date of the decision that still stood; None when it was taken on the date itself.
    """

    number: str
    receivable_ids: frozenset[UUID]
    since: date | None
    decisions: Sequence[Any]
    runs: Mapping[UUID, Sequence[Any]]

    def sentences(self, language: Language, country: str | None) -> list[str]:
        """The answer in words, amounts and dates as the country writes them."""
        return explain_all(
            [self._explained(row) for row in self.decisions],
            _style(language, country),
            receivable_ids=frozenset(map(str, self.receivable_ids)),
            since=self.since,
        )

    def gates(self, language: Language, country: str | None) -> list[list[Told]]:
        """Of each decision every gate in words, of the whole case and of each step that an item could take."""
        style = _style(language, country)
        return [
            [
                *(Told(None, None, explain_gate(gate, style), gate[3]) for gate in row.reasoning["gates"]),
                *(
                    Told(item["number"], candidate["step"], explain_gate(gate, style), gate[3])
                    for item in row.reasoning["items"]
                    for candidate in item["candidates"]
                    for gate in candidate["gates"]
                ),
            ]
            for row in self.decisions
        ]

    def as_values(self) -> dict[str, Any]:
        """The answer for programs: the records as they are kept, with the step runs they requested."""
        return {
            "invoice": self.number,
            "receivable_ids": sorted(map(str, self.receivable_ids)),
            "since": None if self.since is None else self.since.isoformat(),
            "decisions": [
                {**_values(row), "runs": [_values(run) for run in self.runs.get(row.decision_id, ())]}
                for row in self.decisions
            ],
        }

    def _explained(self, row: Any) -> Explained:
        return Explained(
            as_of=row.as_of,
            outcome=row.outcome,
            contact=row.contact,
            reasons=row.reasons,
            reasoning=row.reasoning,
            next_check_on=row.next_check_on,
            times=row.times,
            runs=[dict(run._mapping) for run in self.runs.get(row.decision_id, ())],  # noqa: SLF001 - public name
        )


async def why(connection: AsyncConnection, *, company: str, invoice: str, on: date) -> Answer:
    """The decisions about an invoice on a date, or the last one before it.

    Args:
        invoice: its number, its id, or the id of one of its receivables.

    Raises:
        UnknownInvoiceError: nothing is known of the invoice.
    """
    named: list[ColumnElement[bool]] = [receivable.c.number == invoice]
    try:
        identity = UUID(invoice)
    except ValueError:
        pass
    else:
        named += [receivable.c.invoice_id == identity, receivable.c.receivable_id == identity]
    found = list(
        await connection.execute(
            select(receivable.c.receivable_id, receivable.c.account_id, receivable.c.number)
            .where(receivable.c.company == company, or_(*named))
            .order_by(receivable.c.receivable_id)
            .limit(1000)
        )
    )
    if not found:
        raise UnknownInvoiceError(f"no invoice {invoice!r} of {company} is known here")
    accounts = {row.account_id for row in found}
    of_accounts = select(decision).where(decision.c.account_id.in_(accounts))
    rows = list(
        await connection.execute(of_accounts.where(decision.c.as_of == on).order_by(decision.c.decision_id).limit(200))
    )
    since: date | None = None
    if not rows:
        rows = list(
            await connection.execute(
                of_accounts.where(decision.c.as_of < on)
                .order_by(decision.c.as_of.desc(), decision.c.decision_id.desc())
                .limit(1)
            )
        )
        since = rows[0].as_of if rows else None
    runs: dict[UUID, list[Any]] = {}
    for run in await connection.execute(
        select(step_run)
        .where(step_run.c.decision_id.in_([row.decision_id for row in rows]))
        .order_by(step_run.c.position, step_run.c.run)
    ):
        runs.setdefault(run.decision_id, []).append(run)
    return Answer(found[0].number, frozenset(row.receivable_id for row in found), since, rows, runs)


async def cases(
    connection: AsyncConnection, window: Window, *, company: str, customer: str | None, state: str | None
) -> list[Any]:
    """Cases of a company, the last opened first, one more than the page."""
    query = _cases().where(collection_case.c.company == company)
    if customer is not None:
        query = query.where(collection_case.c.customer == customer)
    if state is not None:
        query = query.where(collection_case.c.state == state)
    return list(await connection.execute(BY_OPENING.apply(query, after=window.after, limit=window.limit)))


async def one_case(connection: AsyncConnection, *, company: str, case_id: UUID) -> Any | None:
    """One case, or None."""
    result = await connection.execute(
        _cases().where(collection_case.c.company == company, collection_case.c.case_id == case_id)
    )
    return result.one_or_none()


async def runs_of_case(connection: AsyncConnection, case_id: UUID) -> list[Any]:
    """The step runs of a case, in the order they were reached."""
    return list(
        await connection.execute(
            select(step_run)
            .where(step_run.c.case_id == case_id)
            .order_by(step_run.c.reached_on, step_run.c.position, step_run.c.run)
        )
    )


async def items_of_account(connection: AsyncConnection, account_id: UUID) -> list[Any]:
    """The open receivables of an account, oldest first."""
    return list(
        await connection.execute(
            select(receivable)
            .where(receivable.c.account_id == account_id, receivable.c.open > 0)
            .order_by(receivable.c.due_on, receivable.c.receivable_id)
        )
    )


async def policies(connection: AsyncConnection, *, company: str | None) -> list[Any]:
    """All policy versions, the newest of each policy first."""
    query = select(
        *(column for column in policy_version.c if column.name != "document"),
    ).order_by(policy_version.c.company, policy_version.c.policy, policy_version.c.version.desc())
    if company is not None:
        query = query.where(policy_version.c.company == company)
    return list(await connection.execute(query))


async def cases_by_state(connection: AsyncConnection, *, company: str | None = None) -> dict[str, int]:
    """How many cases are open in each state, of one company or of all."""
    query = (
        select(collection_case.c.state, func.count())
        .where(collection_case.c.closed_on.is_(None))
        .group_by(collection_case.c.state)
    )
    if company is not None:
        query = query.where(collection_case.c.company == company)
    rows = await connection.execute(query)
    return {row[0]: row[1] for row in rows}


async def brakes(connection: AsyncConnection) -> dict[str, Any]:
    """The last day on which the brake of each company was tripped that nobody has released."""
    rows = await connection.execute(
        select(notice_day)
        .where(notice_day.c.braked_at.is_not(None), notice_day.c.released_by.is_(None))
        .order_by(notice_day.c.on_date)
    )
    return {row.company: row for row in rows}


async def waiting_for(connection: AsyncConnection, *, company: str | None, reason: str) -> int:
    """How many accounts of a company, or of all, wait for a reason."""
    of_company = () if company is None else (account.c.company == company,)
    result = await connection.execute(select(func.count()).where(*of_company, account.c.reason == reason))
    return int(result.scalar_one())


async def tasks(
    connection: AsyncConnection,
    window: Window,
    *,
    company: str,
    state: Literal["open", "done"],
    role: str | None,
    kind: str | None,
) -> list[Any]:
    """Tasks of a company, the last asked for first, one more than the page."""
    is_open = task.c.completed_at.is_(None)
    query = select(task).where(task.c.company == company, is_open if state == "open" else ~is_open)
    for name, wanted in (("role", role), ("kind", kind)):
        if wanted is not None:
            query = query.where(task.c.state[name].astext == wanted)
    return list(await connection.execute(BY_TASK.apply(query, after=window.after, limit=window.limit)))


async def agreements(
    connection: AsyncConnection,
    window: Window,
    *,
    company: str,
    kind: str | None,
    is_open: bool | None,
    customer: str | None,
) -> list[Any]:
    """Promises, plans, disputes and hand-overs of a company, the last made first, one more than the page."""
    query = select(agreement).where(agreement.c.company == company)
    if kind is not None:
        query = query.where(agreement.c.kind == kind)
    if is_open is not None:
        query = query.where(agreement.c.state == "open" if is_open else agreement.c.state != "open")
    if customer is not None:
        query = query.where(agreement.c.told["customer"].astext == customer)
    return list(await connection.execute(BY_AGREEMENT.apply(query, after=window.after, limit=window.limit)))


async def irreversible_ahead(connection: AsyncConnection, *, company: str, on: date) -> list[Any]:
    """What cannot be taken back from a debtor and comes to its day, or waits for a person.

    Of the accounts' standing decisions: steps with an irreversible effect whose day is at most `on`.
    """
    rows = await connection.execute(
        text(
            """
            SELECT d.customer, d.currency, i->>'number' AS invoice, c->>'step' AS step, s->>'effect' AS effect,
                CAST(c->>'on' AS date) AS on_date
            FROM account a JOIN decision d ON d.decision_id = a.decision_id
            JOIN collection_case k ON k.account_id = a.account_id AND k.closed_on IS NULL
            CROSS JOIN jsonb_array_elements(d.reasoning->'items') i CROSS JOIN jsonb_array_elements(i->'candidates') c
            JOIN policy_version p ON p.company = d.company AND p.policy = d.policy AND p.version = d.policy_version
            CROSS JOIN jsonb_array_elements(p.document->'steps') s
            WHERE a.company = :company AND s->>'id' = c->>'step'
                AND s->>'effect' = ANY(CAST(:effects AS text[]))
                AND CAST(c->>'on' AS date) <= :on
            ORDER BY on_date, d.customer, invoice LIMIT 500
            """
        ),
        {"company": company, "on": on, "effects": sorted(IRREVERSIBLE)},
    )
    return list(rows)


async def trials(connection: AsyncConnection, *, company: str, kind: str | None = None) -> list[Any]:
    """Previews and back-tests that are kept, the newest first, without their results."""
    query = (
        select(*(column for column in policy_trial.c if column.name != "result"))
        .where(policy_trial.c.company == company)
        .order_by(policy_trial.c.trial_id.desc())
    )
    return list(await connection.execute(query if kind is None else query.where(policy_trial.c.kind == kind)))


async def one_trial(connection: AsyncConnection, *, company: str, trial_id: UUID) -> Any | None:
    """One of them with its result, or None."""
    result = await connection.execute(
        select(policy_trial).where(policy_trial.c.company == company, policy_trial.c.trial_id == trial_id)
    )
    return result.one_or_none()


def _cases() -> Any:
    open_now = (
        select(
            func.coalesce(func.sum(receivable.c.open), 0).label("open"),
            func.count().label("items"),
            func.min(receivable.c.due_on).label("oldest_due_on"),
            func.array_agg(aggregate_order_by(receivable.c.number, receivable.c.due_on), type_=ARRAY(Text))[1].label(
                "oldest_number"
            ),
            func.coalesce(func.max(receivable.c.level), 0).label("level"),
        )
        .where(receivable.c.open > 0, receivable.c.account_id == collection_case.c.account_id)
        .lateral("open_now")
    )
    return select(
        collection_case,
        account.c.reason,
        account.c.next_check_on,
        account.c.last_contact_on,
        open_now.c.open,
        open_now.c["items"],
        open_now.c.oldest_due_on,
        open_now.c.oldest_number,
        open_now.c.level,
    ).select_from(
        collection_case.join(account, account.c.account_id == collection_case.c.account_id).join(open_now, true())
    )


def _values(row: Any) -> dict[str, Any]:
    """A row as JSON shows it."""
    plain: dict[str, Any] = _PLAIN.dump_python(dict(row._mapping), mode="json")  # noqa: SLF001 - public name
    return plain
