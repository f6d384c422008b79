"""Charging lateness: what a step asks for is computed on dated balances, booked once, and kept right afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.contracts import dunning, identifiers, payments
from cobranza.contracts.identifiers import CaseId, Company, Customer, ReceivableId
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Payload
from cobranza.contracts.reasons import Reason
from cobranza.payments import repository
from cobranza.payments.domain.errors import PaymentsError, RateMissingError, RulesMissingError
from cobranza.payments.domain.late_charges import (
    Accrual,
    Fee,
    LateChargeRule,
    OpenPrincipal,
    accrue,
    compensation,
    fee_due,
    posted_difference,
    principal_of,
)
from cobranza.payments.domain.ledger import Receivable
from cobranza.payments.repository import Facts, Needs
from cobranza.payments.use_cases.bookkeeping import Desk
from cobranza.payments.use_cases.charge_rules import InForce, as_activated, in_force

#: Who withdraws and waives by rule.
BY_RULE: Final = "payments"
#: More than any cap allows, in minor units: what a fee may be at most by law.
_UNBOUNDED: Final = 10**15
_AGAIN_AFTER_SECONDS: Final = 60.0
#: Debts that one event names.
_MOST_TOLD: Final = 1000
#: Why a request is tried again when rules or rates are added.
_WAITING: Final = frozenset({Reason.RATE_REQUIRED, Reason.RULES_REQUIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What became of one debt of a request: an amount that was booked, or why nothing was; minor units."""

    receivable_id: UUID | None
    code: str
    amount: int = 0
    reason: Reason | None = None
    detail: str = ""

    def as_values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "receivable_id": None if self.receivable_id is None else str(self.receivable_id),
            "code": self.code,
            "amount": self.amount,
            "reason": self.reason,
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One charge on its way into the ledger; amounts in minor units."""

    receivable_id: UUID
    kind: str
    code: str
    amount: int
    number: str
    rule: str
    on: date
    debt: Receivable | None
    debts: tuple[UUID, ...]
    settle: str = "enforce"
    from_on: date | None = None
    through_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrued:
    """What lateness costs of one debt by a day, beside what was posted; amounts in minor units.

    `posted` is net of what was withdrawn; `waived` is a part of it.
    """

    debt: Receivable
    rules: InForce
    accrual: Accrual
    through_on: date
    posted: int
    waived: int

    @property
    def difference(self) -> int:
        """Accrued and not posted; below zero where too much was posted and is paid."""
        return self.accrual.interest - self.posted


@dataclass(slots=True, kw_only=True)
class _Opened:
    """A customer's debts with the charges on them, under the customer's lock."""

    facts: Facts
    charges: list[Any]
    movements: dict[UUID, list[tuple[date, int]]]
    lines: list[Line] = field(default_factory=list)

    def debt(self, debt_id: UUID) -> Receivable | None:
        return self.facts.books.receivables.get(debt_id)

    def principal(self, debt: Receivable) -> tuple[OpenPrincipal, ...]:
        return principal_of(
            issued=debt.issued, issued_on=debt.issued_on, movements=self.movements.get(debt.receivable_id, ())
        )

    def interest_on(self, debt_id: UUID) -> list[Any]:
        return [charge for charge in self.charges if charge.kind == "interest" and charge.debt_id == debt_id]


@dataclass(frozen=True, slots=True)
class Charger:
    """Books late charges; each request and each look in a transaction of its own."""

    database: Database
    companies: Companies

    # ------------------------------------------------------------------ steps

    async def follow(self, tx: Transaction, told: Payload, cause: Cause) -> None:
        """Note that a step asks for a charge; the same step again has no effect.

        It is charged in a transaction of its own: a batch of steps would lock many customers, in no order.
        """
        if not isinstance(told, dunning.StepReached) or told.effect not in ("fee", "interest"):
            return
        await repository.ask_charge(
            tx,
            company=told.company,
            case_id=told.case_id,
            step=told.step,
            run=told.run,
            customer=told.customer,
            currency=told.currency,
            effect=told.effect,
            reached_on=told.reached_on,
            told=told.model_dump_json(),
            event_id=cause.causation_id,
            correlation_id=cause.correlation_id,
        )

    async def run(self) -> bool:
        """Look at the next debt whose charges may differ, or charge the next request; False when none is due."""
        async with self.database.transaction() as tx:
            look = await repository.next_look(tx)
            request = None if look is not None else await repository.next_charge(tx)
        if look is not None:
            await self._run_look(look)
        elif request is not None:
            await self._run_request(request)
        return look is not None or request is not None

    async def _run_look(self, look: Any) -> None:
        try:
            async with self.database.transaction() as tx:
                await self.look(tx, company=look.company, debt_id=look.debt_id)
                # Last, as writers note debts while they hold the customer's lock: the other order would deadlock.
                await repository.end_look(tx, company=look.company, debt_id=look.debt_id, since=look.not_before)
        except (RateMissingError, RulesMissingError) as missing:
            async with self.database.transaction() as tx:
                await repository.put_look_off(
                    tx, company=look.company, debt_id=look.debt_id, reason=missing.detail, seconds=None
                )
        except Exception:  # noqa: BLE001 - whatever it is, the others go on
            logger().exception("the charges on a debt could not be looked at", receivable_id=str(look.debt_id))
            async with self.database.transaction() as tx:
                await repository.put_look_off(
                    tx, company=look.company, debt_id=look.debt_id, reason=None, seconds=_AGAIN_AFTER_SECONDS
                )

    async def _run_request(self, request: Any) -> None:
        told = dunning.StepReached.model_validate(request.told)
        try:
            async with self.database.transaction() as tx:
                cause = Cause.event(request.event_id, correlation_id=request.correlation_id)
                await self._charge(tx, told, cause)
        except Exception:  # noqa: BLE001 - whatever it is, the others go on
            logger().exception("a late charge could not be booked", case_id=str(told.case_id), step=told.step)
            async with self.database.transaction() as tx:
                await repository.put_charge_off(
                    tx,
                    company=told.company,
                    case_id=told.case_id,
                    step=told.step,
                    run=told.run,
                    seconds=_AGAIN_AFTER_SECONDS,
                )

    async def _charge(self, tx: Transaction, told: dunning.StepReached, cause: Cause) -> None:
        opened = await _open(tx, company=told.company, customer=told.customer, debts=told.receivable_ids)
        before = await repository.lock_charge(
            tx, company=told.company, case_id=told.case_id, step=told.step, run=told.run
        )
        if before is None:
            # Another worker was faster.
            return
        rules = await in_force(tx.connection, company=told.company, on=told.reached_on)
        debts = []
        for receivable_id in told.receivable_ids:
            debt = opened.debt(receivable_id)
            if debt is None or debt.customer != told.customer or debt.currency != told.currency:
                opened.lines.append(_nothing(receivable_id, told.fee or "interest", Reason.UNKNOWN_RECEIVABLE))
            elif debt.kind == "invoice":
                # Lateness of a charge costs nothing: interest is not compounded, a fee is not on a fee.
                debts.append(debt)
        if told.effect == "fee":
            charges = await self._fees(tx, told, opened, rules, debts)
        else:
            charges = await self._interest(tx, told, opened, rules, debts)
        await self._book(tx, opened, charges, case=(told.case_id, told.step, told.run), cause=cause)
        answer = _answer(before, opened.lines)
        await repository.answer_charge(
            tx, company=told.company, case_id=told.case_id, step=told.step, run=told.run, **answer
        )
        if answer["state"] == "refused":
            tx.publish(_refused(told, opened.lines), sequence=1, cause=cause)

    # ------------------------------------------------------------------ fees

    async def _fees(
        self,
        tx: Transaction,
        told: dunning.StepReached,
        opened: _Opened,
        rules: dict[str, InForce],
        debts: Sequence[Receivable],
    ) -> list[Charge]:
        terms, code = told.fee_terms, told.fee or "fee"
        if terms is None:
            detail = "the step names no terms of its fee; dunning's version is older than this one"
            opened.lines.append(_nothing(None, code, Reason.RULES_REQUIRED, detail))
            return []
        groups = [tuple(debts)] if terms.per == "case" else [(debt,) for debt in debts]
        charges = []
        for group in groups:
            if not group:
                continue
            subject = None if terms.per == "case" else group[0].receivable_id
            charge_id = _charge_id(told, subject, code)
            late = [debt for debt in group if debt.open and debt.due_on < told.reached_on]
            if charge_id in opened.facts.books.receivables:
                opened.lines.append(_nothing(subject, code, Reason.CHARGED_BEFORE))
            elif not late:
                opened.lines.append(_nothing(subject, code, Reason.SETTLED))
            else:
                try:
                    amount, rule = await self._fee(tx, told, opened, rules, late)
                except RateMissingError as missing:
                    opened.lines.append(_nothing(subject, code, Reason.RATE_REQUIRED, missing.detail))
                    continue
                if not amount:
                    opened.lines.append(_nothing(subject, code, Reason.CAP_REACHED, rule))
                    continue
                charges.append(
                    Charge(
                        receivable_id=charge_id,
                        kind="fee",
                        code=code,
                        amount=amount,
                        number=f"{told.step if subject is None else group[0].number}/{code}",
                        rule=f"{told.policy.id}@{told.policy.version}",
                        on=told.reached_on,
                        debt=None if subject is None else group[0],
                        debts=tuple(debt.receivable_id for debt in late),
                        settle=terms.settle,
                    )
                )
        return charges

    async def _fee(
        self,
        tx: Transaction,
        told: dunning.StepReached,
        opened: _Opened,
        rules: dict[str, InForce],
        late: Sequence[Receivable],
    ) -> tuple[int, str]:
        """The policy's wish within every legal cap, less what was charged on the same debts, and which cap decided."""
        terms = told.fee_terms
        assert terms is not None
        base = sum(debt.open for debt in late)
        days_late = max((told.reached_on - debt.due_on).days for debt in late)
        due = fee_due(
            Fee(
                code=told.fee or "fee",
                amount=None if terms.amount is None else terms.amount.minor,
                percent=terms.percent,
                most=None if terms.max is None else terms.max.minor,
            ),
            base=base,
            cap=None,
            days_late=days_late,
        )
        ids = {debt.receivable_id for debt in late}
        charged = sum(
            charge.amount - charge.waived - charge.withdrawn
            for charge in opened.charges
            if charge.kind == "fee" and ids & set(charge.debts)
        )
        decided = ""
        for found in rules.values():
            cap = found.cap(told.reached_on) if found.rules.currency == told.currency else None
            if cap is None:
                continue
            stated = found.rules.fee_cap
            missed = bool(cap.reduction) and stated is not None and stated.notice_within_days is not None
            if missed and stated is not None and stated.notice_within_days is not None:
                oldest = min(debt.due_on for debt in late)
                last_on = oldest + timedelta(days=stated.notice_within_days)
                given = await repository.noticed(
                    tx, company=told.company, customer=told.customer, first_on=oldest, last_on=last_on
                )
                missed = not ids <= given
            most = fee_due(
                Fee(code="", amount=_UNBOUNDED), base=base, cap=cap, days_late=days_late, notice_was_missed=missed
            )
            if most - charged < due:
                due = max(0, most - charged)
                decided = f"{found.rule.name}: at most {Money.from_minor(most, told.currency)} on day {days_late}"
        return due, decided

    # ------------------------------------------------------------------ interest

    async def _interest(
        self,
        tx: Transaction,
        told: dunning.StepReached,
        opened: _Opened,
        rules: dict[str, InForce],
        debts: Sequence[Receivable],
    ) -> list[Charge]:
        try:
            found = choose(rules, named=told.charge_rules, currency=told.currency)
        except RulesMissingError as missing:
            opened.lines.extend(
                _nothing(debt.receivable_id, "interest", Reason.RULES_REQUIRED, missing.detail) for debt in debts
            )
            return []
        late = []
        charges = []
        for debt in debts:
            if not debt.open or debt.due_on >= told.reached_on:
                opened.lines.append(_nothing(debt.receivable_id, "interest", Reason.SETTLED))
                continue
            late.append(debt)
            try:
                charge = _difference(
                    opened,
                    debt,
                    found.rule,
                    through_on=told.reached_on,
                    on=told.reached_on,
                    charge_id=_charge_id(told, debt.receivable_id, "interest"),
                )
            except RateMissingError as missing:
                opened.lines.append(_nothing(debt.receivable_id, "interest", Reason.RATE_REQUIRED, missing.detail))
                continue
            if charge is None:
                opened.lines.append(_nothing(debt.receivable_id, "interest", Reason.NOTHING_DUE))
            elif charge.receivable_id in opened.facts.books.receivables:
                opened.lines.append(_nothing(debt.receivable_id, "interest", Reason.CHARGED_BEFORE))
            else:
                charges.append(charge)
        return [*charges, *await self._compensations(tx, told, opened, found.rule, late)]

    async def _compensations(
        self,
        tx: Transaction,
        told: dunning.StepReached,
        opened: _Opened,
        rule: LateChargeRule,
        late: Sequence[Receivable],
    ) -> list[Charge]:
        """The fixed sum of the law, once per invoice however many of its instalments are late."""
        if not rule.tiers and rule.compensation_percent is None:
            return []
        by_invoice: dict[UUID, list[Receivable]] = {}
        for debt in late:
            if debt.invoice_id is not None:
                by_invoice.setdefault(debt.invoice_id, []).append(debt)
        done = await repository.compensated(tx, company=told.company, invoices=list(by_invoice))
        charges = []
        for invoice_id, parts in by_invoice.items():
            whole = [r for r in opened.facts.books.of_invoice(invoice_id) if r.kind == "invoice"]
            amount = compensation(
                rule, invoiced=sum(r.issued for r in whole), open_amount=sum(part.open for part in parts)
            )
            if invoice_id in done or not amount:
                continue
            charges.append(
                Charge(
                    receivable_id=_charge_id(told, parts[0].receivable_id, "compensation"),
                    kind="compensation",
                    code="compensation",
                    amount=amount,
                    number=f"{parts[0].number}/compensation",
                    rule=rule.name,
                    on=told.reached_on,
                    debt=parts[0],
                    debts=tuple(part.receivable_id for part in parts),
                )
            )
        return charges

    # ------------------------------------------------------------------ afterwards

    async def look(self, tx: Transaction, *, company: str, debt_id: UUID) -> None:
        """Keep the charges on a debt right after it changed.

        Charges that end with their principal are waived once it is paid. Interest that was posted beyond what accrued
        is withdrawn, as far as it is unpaid; what accrued beyond what was posted is posted once the debt is settled.

        Raises:
            RateMissingError: some day that bears interest has no published rate.
        """
        customer = await repository.customer_of(tx, company=company, receivable_id=debt_id)
        profile = self.companies.get(company)
        if customer is None or profile is None:
            return
        opened = await _open(tx, company=company, customer=customer, debts=[debt_id])
        debt = opened.debt(debt_id)
        assert debt is not None  # it has a customer
        today = _today(tx, profile)
        desk = Desk(opened.facts, self.companies, tx.now)
        credits_: list[tuple[Any, str, int, str]] = [
            (charge, "waiver", charge.open, "principal_paid")
            for charge in opened.charges
            if charge.settle == "waive_on_principal"
            and charge.open
            and all(known is not None and not known.payable for known in map(opened.debt, charge.debts))
        ]
        charges = []
        if interest := opened.interest_on(debt_id):
            found = await as_activated(tx.connection, company=company, name=interest[-1].rule)
            if found is None:
                raise RulesMissingError(f"the rules {interest[-1].rule} of a charge are not kept")
            last = max(charge.through_on for charge in interest)
            principal = opened.principal(debt)
            through_on = last if debt.open else max(last, principal[-1].from_on)
            accrual = accrue(found.rule, principal, due_on=debt.due_on, through_on=through_on)
            excess = sum(charge.amount - charge.withdrawn for charge in interest) - accrual.interest
            for charge in reversed(interest):
                amount = min(excess, charge.open)
                if amount > 0:
                    credits_.append((charge, "withdrawal", amount, "recomputed"))
                    excess -= amount
            if not debt.payable and excess < 0:
                known = interest[-1]
                charge_id = identifiers.late_charge_receivable_id(
                    company=company,
                    case_id=known.case_id,
                    step=known.step,
                    run=known.run,
                    receivable=debt_id,
                    code=f"interest-{len(interest) + 1}",
                )
                made = _difference(
                    opened,
                    debt,
                    found.rule,
                    through_on=through_on,
                    on=max(today, accrual.segments[-1].last_on),
                    charge_id=charge_id,
                    accrual=accrual,
                )
                charges = [] if made is None else [made]
        for charge, kind, amount, reason in credits_:
            await give_back(
                tx, desk, charge, kind=kind, amount=amount, reason=reason, by=BY_RULE, on=today, cause=tx.cause
            )
        if charges:
            case = (interest[-1].case_id, interest[-1].step, interest[-1].run)
            await self._book(tx, opened, charges, case=case, cause=tx.cause, desk=desk)
        else:
            await repository.save(tx, opened.facts)
            await desk.publish(tx)

    # ------------------------------------------------------------------ booking

    async def _book(
        self,
        tx: Transaction,
        opened: _Opened,
        charges: Sequence[Charge],
        *,
        case: tuple[UUID, str, int],
        cause: Cause,
        desk: Desk | None = None,
    ) -> None:
        """Book charges in the ledger, keep what they are, and tell both."""
        desk = desk or Desk(opened.facts, self.companies, tx.now)
        books = opened.facts.books
        tellings = []
        for charge in charges:
            first = charge.debt or books.receivables[charge.debts[0]]
            receivable = Receivable(
                company=first.company,
                receivable_id=charge.receivable_id,
                customer=first.customer,
                invoice_id=None if charge.debt is None else charge.debt.invoice_id,
                instalment=None if charge.debt is None else charge.debt.instalment,
                number=charge.number[:200],
                kind="late_charge",
                currency=first.currency,
                issued=charge.amount,
                issued_on=charge.on,
                due_on=charge.on,
            )
            posting = books.posting(
                company=first.company,
                cause_id=charge.receivable_id,
                kind="late-charge-assessed",
                effective_on=charge.on,
            )
            posting.issue(receivable)
            desk.tell_posted(cause, posting.close())
            tellings.append((charge, receivable))
            opened.lines.append(
                Line(
                    receivable_id=None if charge.debt is None else charge.debt.receivable_id,
                    code=charge.code,
                    amount=charge.amount,
                )
            )
        await repository.save(tx, opened.facts)
        await desk.publish(tx)
        case_id, step, run = case
        for charge, receivable in tellings:
            await repository.add_late_charge(
                tx,
                company=receivable.company,
                receivable_id=charge.receivable_id,
                customer=receivable.customer,
                currency=receivable.currency,
                case_id=case_id,
                step=step,
                run=run,
                code=charge.code,
                kind=charge.kind,
                debt_id=None if charge.debt is None else charge.debt.receivable_id,
                invoice_id=receivable.invoice_id,
                amount=charge.amount,
                settle=charge.settle,
                rule=charge.rule,
                from_on=charge.from_on,
                through_on=charge.through_on,
                assessed_on=charge.on,
                debts=charge.debts,
            )
            tx.publish(
                payments.LateChargeAssessed(
                    company=Company(receivable.company),
                    receivable_id=ReceivableId(charge.receivable_id),
                    customer=Customer(receivable.customer),
                    case_id=CaseId(case_id),
                    step=step,
                    run=run,
                    code=charge.code,
                    kind=charge.kind,
                    principal_receivable_id=None if charge.debt is None else ReceivableId(charge.debt.receivable_id),
                    amount=Money.from_minor(charge.amount, receivable.currency),
                    rule=charge.rule[:64],
                    from_on=charge.from_on,
                    through_on=charge.through_on,
                    assessed_on=charge.on,
                    due_on=charge.on,
                ),
                sequence=1,
                cause=cause,
            )
        owing = {
            (receivable.company, receivable.customer)
            for _, receivable in tellings
            if (credit := books.credits.get((receivable.company, receivable.customer, receivable.currency)))
            and credit.unapplied
        }
        if owing:
            await repository.enqueue_matching(tx, receipts=(), customers=sorted(owing))


async def give_back(
    tx: Transaction,
    desk: Desk,
    charge: Any,
    *,
    kind: str,
    amount: int,
    reason: str,
    by: str,
    on: date,
    cause: Cause,
    credit_id: UUID | None = None,
    approved_by: str | None = None,
) -> None:
    """Forgive (`waiver`) or withdraw (`withdrawal`) a part of what is open of a charge; saved with the desk's facts.

    Args:
        amount: in minor units, at most what is open.
        credit_id: the decision that gives it; None: the next of the charge by rule.
    """
    credit_id = credit_id or identifiers.derived(charge.receivable_id, kind, charge.version, charge.open)
    posting = desk.books.posting(
        company=charge.company, cause_id=credit_id, kind="late-charge-waived", effective_on=max(on, charge.assessed_on)
    )
    posting.credit(charge.receivable_id, amount, kind="waiver", of=credit_id)
    desk.tell_posted(cause, posting.close())
    version = await repository.credit_late_charge(
        tx,
        credit_id=credit_id,
        company=charge.company,
        receivable_id=charge.receivable_id,
        kind=kind,
        amount=amount,
        reason=reason,
        actor=by,
        approved_by=approved_by,
        credited_on=on,
    )
    tx.publish(
        payments.LateChargeWaived(
            company=Company(charge.company),
            receivable_id=ReceivableId(charge.receivable_id),
            customer=Customer(charge.customer),
            case_id=CaseId(charge.case_id),
            step=charge.step,
            run=charge.run,
            code=charge.code,
            kind=charge.kind,
            principal_receivable_id=None if charge.debt_id is None else ReceivableId(charge.debt_id),
            amount=Money.from_minor(charge.amount, charge.currency),
            waived=Money.from_minor(charge.waived + charge.withdrawn + amount, charge.currency),
            reason=reason,
            approved_by=approved_by,
            waived_on=on,
        ),
        sequence=version,
        cause=cause,
    )


def choose(rules: dict[str, InForce], *, named: str | None, currency: str) -> InForce:
    """The rules that decide about a debt: those that are named, else the only ones in force for its currency.

    Raises:
        RulesMissingError: there are none, or several and none is named.
    """
    if named is not None:
        found = rules.get(named)
        if found is None:
            raise RulesMissingError(
                f"the policy names the rules {named!r}, in force are {', '.join(rules) or 'none'};"
                " activate them with: cobranza payments rules activate"
            )
        if found.rules.is_in_one_currency and found.rules.currency != currency:
            raise RulesMissingError(f"the rules {named!r} state amounts in {found.rules.currency}, not in {currency}")
        return found
    fitting = [found for found in rules.values() if found.rules.currency == currency]
    if len(fitting) != 1:
        names = ", ".join(found.rules.rules for found in fitting) or "none"
        raise RulesMissingError(
            f"rules in force for {currency}: {names}; exactly one must be, or the policy must name one"
        )
    return fitting[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAccrued:
    """Why the cost of one debt's lateness cannot be told."""

    debt: Receivable
    why: PaymentsError


async def accrued(
    connection: AsyncConnection, *, company: str, debts: Sequence[Receivable], on: date, named: str | None
) -> list[Accrued | NotAccrued]:
    """What lateness of debts costs by a day, with its intervals, beside what was posted; reads only.

    Args:
        named: rules to use; None: those of the debt's last charge, else the only ones in force for its currency.
    """
    ids = [debt.receivable_id for debt in debts]
    rules = await in_force(connection, company=company, on=on)
    charges = await repository.charges_on(connection, company=company, debts=ids)
    movements = await repository.movements_of(connection, company=company, debts=ids)
    found: list[Accrued | NotAccrued] = []
    for debt in debts:
        mine = [charge for charge in charges if charge.kind == "interest" and charge.debt_id == debt.receivable_id]
        name = named or (mine[-1].rule.partition("@")[0] if mine else None)
        principal = principal_of(issued=debt.issued, issued_on=debt.issued_on, movements=movements[debt.receivable_id])
        try:
            chosen = choose(rules, named=name, currency=debt.currency)
            accrual = accrue(chosen.rule, principal, due_on=debt.due_on, through_on=on)
        except (RulesMissingError, RateMissingError) as missing:
            found.append(NotAccrued(debt=debt, why=missing))
            continue
        found.append(
            Accrued(
                debt=debt,
                rules=chosen,
                accrual=accrual,
                through_on=on,
                posted=sum(charge.amount - charge.withdrawn for charge in mine if charge.assessed_on <= on),
                waived=sum(charge.waived for charge in mine if charge.assessed_on <= on),
            )
        )
    return found


async def excess_of_interest(connection: AsyncConnection, *, company: str, debts: Sequence[UUID]) -> dict[UUID, int]:
    """What was charged on debts beyond their interest by its last day, as far as it is unpaid; minor units."""
    charges = await repository.charges_on(connection, company=company, debts=debts)
    movements = await repository.movements_of(connection, company=company, debts=debts)
    rules: dict[str, InForce | None] = {}
    found = {}
    for debt in await repository.receivables_of(connection, company=company, ids=debts):
        mine = [charge for charge in charges if charge.kind == "interest" and charge.debt_id == debt.receivable_id]
        name = mine[-1].rule
        if name not in rules:
            rules[name] = await as_activated(connection, company=company, name=name)
        known = rules[name]
        posted = sum(charge.amount - charge.withdrawn for charge in mine)
        due = 0
        if known is not None:
            principal = principal_of(
                issued=debt.issued, issued_on=debt.issued_on, movements=movements[debt.receivable_id]
            )
            last_on = max(charge.through_on for charge in mine)
            due = accrue(known.rule, principal, due_on=debt.due_on, through_on=last_on).interest
        found[debt.receivable_id] = min(posted - due, sum(charge.open for charge in mine))
    return found


def _difference(
    opened: _Opened,
    debt: Receivable,
    rule: LateChargeRule,
    *,
    through_on: date,
    on: date,
    charge_id: UUID,
    accrual: Accrual | None = None,
) -> Charge | None:
    """The charge that posts what accrued beyond what was posted before (D13); None when that is nothing."""
    before = opened.interest_on(debt.receivable_id)
    accrual = accrual or accrue(rule, opened.principal(debt), due_on=debt.due_on, through_on=through_on)
    posted = sum(charge.amount - charge.withdrawn for charge in before)
    amount = posted_difference(accrual, posted=posted, rule=rule)
    if not amount:
        return None
    last_on = accrual.segments[-1].last_on
    first_on = accrual.segments[0].first_on
    told = max((charge.through_on for charge in before), default=None)
    return Charge(
        receivable_id=charge_id,
        kind="interest",
        code="interest",
        amount=amount,
        number=f"{debt.number}/interest",
        rule=rule.name,
        on=on,
        debt=debt,
        debts=(debt.receivable_id,),
        from_on=first_on if told is None or told >= last_on else max(first_on, told + timedelta(days=1)),
        through_on=last_on,
    )


async def _open(tx: Transaction, *, company: str, customer: str, debts: Iterable[UUID]) -> _Opened:
    """Lock the customer, and load debts with the charges on them and what else those are on."""
    ids = list(debts)
    await repository.lock_for_permit(tx, company=company, customer=customer)
    charges = await repository.charges_on(tx.connection, company=company, debts=ids)
    known = await repository.receivables_of(tx.connection, company=company, ids=ids)
    facts = await repository.open_books(
        tx,
        Needs(
            customers={(company, customer)},
            receivables={
                *((company, debt) for debt in ids),
                *((company, charge.receivable_id) for charge in charges),
                *((company, debt) for charge in charges for debt in charge.debts),
            },
            # All instalments: the law's compensation is for the whole invoice.
            invoices={(company, debt.invoice_id) for debt in known if debt.invoice_id is not None},
        ),
    )
    movements = await repository.movements_of(tx.connection, company=company, debts=ids)
    return _Opened(facts=facts, charges=charges, movements=movements)


def _charge_id(told: dunning.StepReached, subject: UUID | None, code: str) -> UUID:
    return identifiers.late_charge_receivable_id(
        company=told.company, case_id=told.case_id, step=told.step, run=told.run, receivable=subject, code=code
    )


def _nothing(receivable_id: UUID | None, code: str, reason: Reason, detail: str = "") -> Line:
    return Line(receivable_id=receivable_id, code=code, reason=reason, detail=detail)


def _refused(told: dunning.StepReached, lines: Sequence[Line]) -> payments.LateChargeRefused:
    """Nothing was charged, and why: of each debt, and of the step as a whole."""
    return payments.LateChargeRefused.model_validate(
        {
            **told.model_dump(include={"company", "customer", "case_id", "step", "run"}),
            "reason": lines[0].reason if lines else Reason.NOTHING_DUE,
            "debts": [
                {"receivable_id": line.receivable_id, "code": line.code, "reason": line.reason}
                for line in lines[:_MOST_TOLD]
            ],
            "refused_on": told.reached_on,
        }
    )


def _answer(before: Sequence[dict[str, Any]], lines: Sequence[Line]) -> dict[str, str]:
    """What became of a request; one that waits for rules or rates is tried again, and keeps what was booked before."""
    kept = [line for line in before if line["amount"]]
    places = {(line["receivable_id"], line["code"]) for line in kept}
    fresh = [line.as_values() for line in lines]
    told = [*kept, *(line for line in fresh if (line["receivable_id"], line["code"]) not in places)]
    booked = sum(1 for line in told if line["amount"])
    if any(line["reason"] in _WAITING for line in told):
        state = "waits"
    elif not booked:
        state = "refused"
    else:
        state = "booked" if booked == len(told) else "partly"
    return {"state": state, "lines": json.dumps(told)}


def _today(tx: Transaction, profile: CompanyProfile) -> date:
    return tx.now.astimezone(profile.zone).date()
