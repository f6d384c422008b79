"""Promises, plans, disputes and hand-overs: what people agree with a debtor is kept, told and evaluated at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from cobranza.chassis.calendars import company_calendar
from cobranza.chassis.database import Transaction
from cobranza.chassis.ids import new_id
from cobranza.contracts import dunning
from cobranza.contracts.calendar import BusinessCalendar
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Payload
from cobranza.dunning import repository
from cobranza.dunning.domain.agreements import broken_in_a_year
from cobranza.dunning.domain.errors import (
    AgreementEndedError,
    AgreementRefusedError,
    TaskRefusedError,
    UnknownAgreementError,
)
from cobranza.dunning.domain.policy import Disputes, Plans, Promises
from cobranza.dunning.repository import StoredAccount, StoredCase, StoredItem
from cobranza.dunning.use_cases.application import MOST_TOLD, Trigger
from cobranza.dunning.use_cases.evaluation import Desk

#: The task that a promise beyond the policy's limits waits for; it is about the promise.
PROMISE_APPROVAL: Final = "promise_approval"
_APPROVED_IN_BUSINESS_DAYS: Final = 3
#: An upheld dispute stays stopped until its credit note arrives, at most so many business days.
CREDIT_NOTE_BUSINESS_DAYS: Final = 10

Told = TypeVar("Told", bound=Payload)
Resolution = Literal["upheld", "partly", "rejected", "withdrawn"]


@dataclass(frozen=True, slots=True)
class _Subject:
    """The account an agreement is about, locked, with the rules and days that hold for it."""

    account: StoredAccount
    as_of: date
    calendar: BusinessCalendar
    promises: Promises
    plans: Plans
    disputes: Disputes

    @property
    def case(self) -> StoredCase:
        """The open case; promises, plans and hand-overs need one."""
        if self.account.case is None:
            raise AgreementRefusedError(
                "nothing is being collected from this customer in this currency: there is no open case",
                pointer="/customer",
            )
        return self.account.case

    def identity(self) -> dict[str, object]:
        """Company, customer and case as events carry them."""
        return {
            "company": self.account.company,
            "customer": self.account.customer,
            "case_id": self.account.case.case_id if self.account.case is not None else None,
        }

    def item(self, receivable_id: UUID, amount: Money, pointer: str) -> StoredItem:
        """An open receivable of the account of which an amount may be stopped.

        Raises:
            AgreementRefusedError: it is not open, in another currency, or less is open.
        """
        item = next((i for i in self.account.items if i.receivable_id == receivable_id and i.open), None)
        if item is None:
            raise AgreementRefusedError(f"receivable {receivable_id} has nothing open", pointer=pointer)
        if amount.currency != self.account.currency:
            raise AgreementRefusedError(
                f"the receivable is in {self.account.currency}, the amount in {amount.currency}", pointer=pointer
            )
        taken = sum(stop.amounts.get(receivable_id, 0) for stop in self.account.stops if stop.is_in_force(self.as_of))
        if amount.minor > item.open - taken:
            left = Money.from_minor(max(0, item.open - taken), self.account.currency)
            raise AgreementRefusedError(
                f"at most {left.amount} {left.currency} of {item.number} is open and neither promised, planned nor"
                f" disputed; {amount.amount} was given",
                pointer=pointer,
            )
        return item


async def make_promise(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    customer: str,
    lines: Sequence[dunning.ReceivableAmount],
    promised_on: date,
    channel: str,
    method: str | None,
    by: str,
    approved_by: str | None,
) -> dunning.PromiseMade | dunning.TaskCreated:
    """Keep a promise to pay; what it covers is not asked for until its limit (D10).

    Args:
        approved_by: who allowed a later day, or one more promise after those that were broken.

    Returns:
        The promise; or, beyond the policy's first limits, the supervisor's task to approve it: contact goes on meanwhile.

    Raises:
        AgreementRefusedError: it breaks the policy's last limit, or names what is not open.
        UnknownCompanyError: this deployment does not collect for the company.
    """
    subject = await _subject(desk, tx, company, customer, [line.receivable_id for line in lines])
    rules = subject.promises
    last_on = subject.as_of + timedelta(days=max(rules.max_days, rules.max_days_approved))
    if not subject.as_of <= promised_on <= last_on:
        raise AgreementRefusedError(
            f"a promise is for a day from {subject.as_of} to {last_on}, and from"
            f" {subject.as_of + timedelta(days=rules.max_days + 1)} on a supervisor approves it",
            pointer="/promised_on",
        )
    made = dunning.PromiseMade.model_validate(
        {
            **subject.identity(),
            "case_id": subject.case.case_id,
            "promise_id": new_id(),
            "lines": lines,
            "amount": _sum(lines),
            "promised_on": promised_on,
            "limit_on": subject.calendar.add(promised_on, rules.grace_business_days),
            "made_on": subject.as_of,
            "captured_by": by,
            "channel": channel,
            "method": method,
        }
    )
    _require_promisable(subject, made)
    is_within = (
        promised_on <= subject.as_of + timedelta(days=rules.max_days)
        and broken_in_a_year(subject.account.promises, subject.as_of) < rules.max_broken
    )
    if approved_by is None and not is_within:
        return await _propose(tx, subject, made, by=by)
    await _add(tx, subject, made.promise_id, "promise", made, by=by, approved_by=approved_by)
    await _evaluate(desk, tx, subject, Trigger("promise-made", str(subject.case.case_id), tx.cause), [made])
    return made


async def decide_proposal(
    desk: Desk, tx: Transaction, *, company: str, promise_id: UUID, is_approved: bool, by: str
) -> None:
    """A second person approves a proposed promise, which is made then, or refuses it.

    Raises:
        TaskRefusedError: whoever proposed it cannot approve it.
        AgreementRefusedError: its day is over, or what it names is not open any more.
    """
    row, subject = await _of(desk, tx, company, promise_id, "promise")
    proposed = dunning.PromiseMade.model_validate(row.told)
    if not is_approved:
        await repository.change_agreement(tx, promise_id, state="refused", told=proposed.model_dump_json())
        return
    if by == row.recorded_by:
        raise TaskRefusedError(f"{by} asked for it; a second person must approve it")
    if proposed.promised_on < subject.as_of:
        raise AgreementRefusedError(f"it was for {proposed.promised_on}, which is over: refuse it")
    _require_promisable(subject, proposed)
    made = proposed.model_copy(update={"case_id": subject.case.case_id, "made_on": subject.as_of})
    version = await repository.change_agreement(
        tx, promise_id, state="open", told=made.model_dump_json(), approved_by=by
    )
    tx.publish(made, sequence=version)
    await _evaluate(desk, tx, subject, Trigger("promise-made", str(promise_id), tx.cause), [made])


async def _propose(tx: Transaction, subject: _Subject, promise: dunning.PromiseMade, *, by: str) -> dunning.TaskCreated:
    await repository.add_agreement(
        tx,
        agreement_id=promise.promise_id,
        company=subject.account.company,
        account_id=subject.account.account_id,
        kind="promise",
        told=promise.model_dump_json(),
        by=by,
        is_proposal=True,
    )
    task = dunning.TaskCreated.model_validate(
        {
            **subject.identity(),
            "task_id": new_id(),
            "kind": PROMISE_APPROVAL,
            "role": "supervisor",
            "due_on": subject.calendar.add(subject.as_of, _APPROVED_IN_BUSINESS_DAYS),
            "created_on": subject.as_of,
            "receivable_ids": [line.receivable_id for line in promise.lines],
        }
    )
    about = f"{PROMISE_APPROVAL}|{promise.promise_id}"
    await repository.add_task(tx, task_id=task.task_id, company=task.company, about=about, state=task.model_dump_json())
    tx.publish(task, sequence=1)
    return task


async def withdraw_promise(
    desk: Desk, tx: Transaction, *, company: str, promise_id: UUID, reason: str, by: str
) -> dunning.PromiseWithdrawn:
    """Cancel a promise; it does not count as broken. Withdrawing it again changes nothing.

    Raises:
        UnknownAgreementError: there is no such promise.
        AgreementEndedError: it was kept or broken already.
    """
    row, subject = await _of(desk, tx, company, promise_id, "promise")
    if row.told.get("plan_id") is not None:
        raise AgreementRefusedError("it is an instalment of a plan: end the plan")
    told = dunning.PromiseWithdrawn.model_validate(
        {"reason": reason, "by": by, "withdrawn_on": subject.as_of, **row.told}
        if row.state == "withdrawn"
        else {**row.told, "reason": reason, "by": by, "withdrawn_on": subject.as_of}
    )
    return await _end(desk, tx, subject, row, told, "withdrawn")


async def agree_plan(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    customer: str,
    lines: Sequence[dunning.ReceivableAmount],
    instalments: Sequence[tuple[date, Money]],
    accelerates: bool,
    evidence_sha256: str | None,
    by: str,
) -> dunning.PlanAgreed:
    """Keep a payment plan; each instalment is a promise, the invoices stay as they are.

    Args:
        instalments: due dates in order, with their amounts; their sum is the sum of the lines.

    Raises:
        AgreementRefusedError: the sums differ, the days are not in order, or it names what is not open.
    """
    subject = await _subject(desk, tx, company, customer, [line.receivable_id for line in lines])
    case, total = subject.case, _sum(lines)
    if len(instalments) > subject.plans.max_instalments:
        raise AgreementRefusedError(
            f"expected at most {subject.plans.max_instalments} instalments, got {len(instalments)}",
            pointer="/instalments",
        )
    days = [due_on for due_on, _ in instalments]
    if days[0] < subject.as_of or days != sorted(set(days)):
        raise AgreementRefusedError(f"expected days in order from {subject.as_of} on", pointer="/instalments")
    _require_lines(subject, lines)
    amounts = [amount for _, amount in instalments]
    if any(amount.currency != total.currency for amount in amounts) or sum(a.minor for a in amounts) != total.minor:
        raise AgreementRefusedError(
            f"the instalments must sum to what the lines do: {total.amount} {total.currency}", pointer="/instalments"
        )
    plan_id = new_id()
    made = [
        dunning.PromiseMade.model_validate(
            {
                **subject.identity(),
                "promise_id": new_id(),
                "plan_id": plan_id,
                "lines": part,
                "amount": amount,
                "promised_on": due_on,
                "limit_on": subject.calendar.add(due_on, subject.promises.grace_business_days),
                "made_on": subject.as_of,
                "captured_by": by,
                "channel": "plan",
            }
        )
        for (due_on, amount), part in zip(instalments, _sliced(lines, amounts), strict=True)
    ]
    agreed = dunning.PlanAgreed.model_validate(
        {
            **subject.identity(),
            "plan_id": plan_id,
            "lines": lines,
            "total": total,
            "instalments": [
                {"number": number, "due_on": due_on, "amount": amount, "promise_id": promise.promise_id}
                for number, ((due_on, amount), promise) in enumerate(zip(instalments, made, strict=True), 1)
            ],
            "accelerates": accelerates,
            "agreed_on": subject.as_of,
            "by": by,
            "evidence_sha256": evidence_sha256,
        }
    )
    await _add(tx, subject, plan_id, "plan", agreed, by=by)
    for promise in made:
        await _add(tx, subject, promise.promise_id, "promise", promise, by=by)
    await _evaluate(desk, tx, subject, Trigger("plan-agreed", str(case.case_id), tx.cause), [agreed, *made])
    return agreed


async def end_plan(desk: Desk, tx: Transaction, *, company: str, plan_id: UUID, by: str) -> dunning.PlanEnded:
    """Cancel a plan: what is open is asked for again. Cancelling it again changes nothing.

    Raises:
        UnknownAgreementError: there is no such plan.
        AgreementEndedError: it was completed or defaulted already.
    """
    row, subject = await _of(desk, tx, company, plan_id, "plan")
    promises = [promise for promise in subject.account.promises if promise.plan_id == plan_id]
    paid = max(0, sum(amount for _, amount in promises[0].paid)) if promises else 0
    told = dunning.PlanEnded.model_validate(
        row.told
        if row.state == "cancelled"
        else {
            **row.told,
            "outcome": "cancelled",
            "paid": Money.from_minor(paid, subject.account.currency),
            "ended_on": subject.as_of,
        }
    )
    is_first = row.state == "open"
    ended = await _end(desk, tx, subject, row, told, "cancelled")
    if is_first:
        open_now = [promise.promise_id for promise in promises if promise.verdict == "open"]
        for promise_id, known in (await repository.agreements(tx, open_now)).items():
            values = {**known.told, "reason": "plan_ended", "by": by, "withdrawn_on": subject.as_of}
            withdrawn = dunning.PromiseWithdrawn.model_validate(values)
            await _change(tx, promise_id, withdrawn, "withdrawn")
    return ended


async def open_dispute(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    customer: str,
    receivable_id: UUID,
    amount: Money,
    kind: str,
    owner: str | None,
    by: str,
) -> dunning.DisputeOpened:
    """Keep that the debtor contests an amount; it is not asked for until it is decided (D9).

    Raises:
        AgreementRefusedError: less is open.
    """
    subject = await _subject(desk, tx, company, customer, [receivable_id])
    subject.item(receivable_id, amount, "/amount")
    days = subject.disputes.sla_business_days
    opened = dunning.DisputeOpened.model_validate(
        {
            **subject.identity(),
            "dispute_id": new_id(),
            "receivable_id": receivable_id,
            "amount": amount,
            "kind": kind,
            "opened_on": subject.as_of,
            "deadline_on": subject.calendar.add(subject.as_of, days.get(kind, days.get("default", 10))),
            "owner": owner,
        }
    )
    await _add(tx, subject, opened.dispute_id, "dispute", opened, by=by)
    await _evaluate(desk, tx, subject, Trigger("dispute-opened", str(opened.dispute_id), tx.cause), [opened])
    return opened


async def resolve_dispute(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    dispute_id: UUID,
    outcome: Resolution,
    upheld: Money | None,
    by: str,
) -> dunning.DisputeResolved:
    """Decide a dispute: what is upheld waits for its credit note, the rest returns after its grace.

    Args:
        upheld: of the outcome partly, the part the debtor is right about.

    Raises:
        UnknownAgreementError: there is no such dispute.
        AgreementEndedError: it was decided otherwise already.
        AgreementRefusedError: the part is not a part of what is disputed.
    """
    row, subject = await _of(desk, tx, company, dispute_id, "dispute")
    if row.state == outcome:
        return dunning.DisputeResolved.model_validate(row.told)
    opened = dunning.DisputeOpened.model_validate(row.told)
    disputed = opened.amount.minor
    stopped = {"upheld": disputed, "partly": upheld.minor if upheld is not None else 0}.get(outcome, 0)
    if (outcome == "partly") != (upheld is not None) or (
        upheld is not None and (upheld.currency != opened.amount.currency or not 0 < stopped < disputed)
    ):
        raise AgreementRefusedError(
            "the outcome partly names in upheld a part of the disputed amount, the others none", pointer="/upheld"
        )
    returning = disputed - stopped
    grace = timedelta(days=0 if outcome == "withdrawn" else subject.disputes.grace_days)
    until = subject.calendar.add(subject.as_of, CREDIT_NOTE_BUSINESS_DAYS)
    currency = opened.amount.currency
    told = dunning.DisputeResolved.model_validate(
        {
            **row.told,
            "outcome": outcome,
            "stopped": Money.from_minor(stopped, currency),
            "stopped_until": until if stopped else None,
            "returning": Money.from_minor(returning, currency),
            "returns_on": subject.as_of + grace if returning else None,
            "by": by,
            "resolved_on": subject.as_of,
        }
    )
    return await _end(desk, tx, subject, row, told, outcome)


async def hand_over(
    desk: Desk,
    tx: Transaction,
    *,
    company: str,
    case_id: UUID,
    to: str,
    kind: str,
    package_sha256: str,
    receivable_ids: Sequence[UUID],
    by: str,
) -> dunning.CaseHandedOver:
    """An agency or a lawyer collects from now on; own contact stops.

    Args:
        receivable_ids: what is in the package; empty: all that is open.

    Raises:
        AgreementRefusedError: there is no such open case, it was handed over already, or it names what is not open.
    """
    found = await repository.open_case(tx, company, case_id)
    if found is None:
        raise AgreementRefusedError("no such open case", pointer="/case_id")
    subject = await _locked(desk, tx, found.account_id)
    case, account = subject.case, subject.account
    if await repository.open_hand_over(tx, account.account_id) is not None:
        raise AgreementRefusedError("the case was handed over already: recall it first", pointer="/case_id")
    open_now = {item.receivable_id for item in account.items if item.open}
    package = set(receivable_ids) or open_now
    if not package <= open_now:
        raise AgreementRefusedError("the package names what is not open", pointer="/receivable_ids")
    told = dunning.CaseHandedOver.model_validate(
        {
            **subject.identity(),
            "currency": account.currency,
            "to": to,
            "kind": kind,
            "package_sha256": package_sha256,
            "receivable_ids": sorted(package)[:MOST_TOLD],
            "handed_on": subject.as_of,
        }
    )
    await repository.add_agreement(
        tx,
        agreement_id=new_id(),
        company=company,
        account_id=account.account_id,
        kind="hand_over",
        told=told.model_dump_json(),
        by=by,
    )
    tx.publish(told, sequence=await repository.next_case_version(tx, case.case_id))
    await _evaluate(desk, tx, subject, Trigger("case-handed-over", str(case_id), tx.cause), [told])
    return told


async def recall(
    desk: Desk, tx: Transaction, *, company: str, case_id: UUID, reason: str, by: str
) -> dunning.CaseRecalled:
    """A case comes back from whom it was handed to and goes on at its level.

    Raises:
        AgreementRefusedError: there is no such open case, or it was not handed over.
    """
    found = await repository.open_case(tx, company, case_id)
    if found is None:
        raise AgreementRefusedError("no such open case", pointer="/case_id")
    subject = await _locked(desk, tx, found.account_id)
    row = await repository.open_hand_over(tx, found.account_id)
    if row is None:
        raise AgreementRefusedError("the case was not handed over", pointer="/case_id")
    told = dunning.CaseRecalled.model_validate(
        {
            **subject.identity(),
            "currency": subject.account.currency,
            "reason": reason,
            "by": by,
            "recalled_on": subject.as_of,
        }
    )
    await repository.change_agreement(tx, row.agreement_id, state="recalled", told=told.model_dump_json())
    tx.publish(told, sequence=await repository.next_case_version(tx, case_id))
    await _evaluate(desk, tx, subject, Trigger("case-recalled", str(case_id), tx.cause), [told])
    return told


async def keep_evidence(
    desk: Desk, tx: Transaction, *, company: str, case_id: UUID, documents: Sequence[str]
) -> tuple[str, ...]:
    """Note which documents are at hand for a hand-over; all that are, afterwards.

    Raises:
        AgreementRefusedError: there is no such open case.
    """
    found = await repository.open_case(tx, company, case_id)
    if found is None:
        raise AgreementRefusedError("no such open case", pointer="/case_id")
    subject = await _locked(desk, tx, found.account_id)
    await repository.save_evidence(tx, found.account_id, documents)
    await _evaluate(desk, tx, subject, Trigger("evidence", str(case_id), tx.cause), [])
    return tuple(sorted(subject.account.evidence.union(documents)))


# Small parts.


async def _subject(
    desk: Desk, tx: Transaction, company: str, customer: str, receivable_ids: Sequence[UUID]
) -> _Subject:
    """The one account of the customer that all of the receivables are in."""
    desk.profile(company)
    known = await repository.accounts_of_receivables(tx, [(company, UUID(int=i.int)) for i in receivable_ids])
    own = set(await repository.accounts_of_customer(tx, company, customer))
    accounts = set(known.values())
    if set(known) != set(receivable_ids) or not accounts <= own:
        raise AgreementRefusedError("name receivables of this customer", pointer="/lines")
    if len(accounts) != 1:
        raise AgreementRefusedError("name receivables of one currency", pointer="/lines")
    return await _locked(desk, tx, accounts.pop())


async def _locked(desk: Desk, tx: Transaction, account_id: UUID) -> _Subject:
    [account] = await repository.lock_accounts(tx, [account_id])
    profile = desk.profile(account.company)
    loaded = await desk.policy_of(tx, account)
    policy = None if loaded is None else loaded.policy
    return _Subject(
        account,
        desk.as_of(tx, profile),
        company_calendar(profile) if loaded is None else loaded.calendar,
        Promises() if policy is None else policy.promises,
        Plans() if policy is None else policy.plans,
        Disputes() if policy is None else policy.disputes,
    )


async def _of(desk: Desk, tx: Transaction, company: str, agreement_id: UUID, kind: str) -> tuple[Any, _Subject]:
    """An agreement as it stands once its account is locked."""
    desk.profile(company)
    row = await repository.agreement(tx, company=company, agreement_id=agreement_id, kind=kind)
    if row is None:
        raise UnknownAgreementError(f"no {kind} {agreement_id} of {company}")
    subject = await _locked(desk, tx, row.account_id)
    return await repository.agreement(tx, company=company, agreement_id=agreement_id, kind=kind), subject


async def _add(
    tx: Transaction,
    subject: _Subject,
    agreement_id: UUID,
    kind: str,
    told: Payload,
    *,
    by: str,
    approved_by: str | None = None,
) -> None:
    await repository.add_agreement(
        tx,
        agreement_id=agreement_id,
        company=subject.account.company,
        account_id=subject.account.account_id,
        kind=kind,
        told=told.model_dump_json(),
        by=by,
        approved_by=approved_by,
    )
    tx.publish(told, sequence=1)


async def _end(desk: Desk, tx: Transaction, subject: _Subject, row: Any, told: Told, state: str) -> Told:
    """End an agreement once; ending it the same way again changes nothing."""
    if row.state == state:
        return told
    if row.state == "proposed":
        raise AgreementEndedError("it waits for its approval: refuse the task")
    if row.state != "open":
        raise AgreementEndedError(f"it ended already: {row.state}")
    await _change(tx, row.agreement_id, told, state)
    await _evaluate(desk, tx, subject, Trigger(f"{row.kind}-ended", str(row.agreement_id), tx.cause), [told])
    return told


async def _change(tx: Transaction, agreement_id: UUID, told: Payload, state: str) -> None:
    version = await repository.change_agreement(tx, agreement_id, state=state, told=told.model_dump_json())
    tx.publish(told, sequence=version)


async def _evaluate(desk: Desk, tx: Transaction, subject: _Subject, trigger: Trigger, told: Sequence[Payload]) -> None:
    account_id = subject.account.account_id
    await desk.evaluate(tx, {account_id: trigger}, {account_id: told})


def _require_lines(subject: _Subject, lines: Sequence[dunning.ReceivableAmount]) -> None:
    if len({line.receivable_id for line in lines}) != len(lines):
        raise AgreementRefusedError("each receivable is named once", pointer="/lines")
    for place, line in enumerate(lines):
        subject.item(line.receivable_id, line.amount, f"/lines/{place}/amount")


def _require_promisable(subject: _Subject, promise: dunning.PromiseMade) -> None:
    """All that is promised is open, and no other promise is open on it."""
    _require_lines(subject, promise.lines)
    open_on = {r for known in subject.account.promises if known.verdict == "open" for r in known.amounts}
    if any(line.receivable_id in open_on for line in promise.lines):
        raise AgreementRefusedError("there is an open promise on a receivable: withdraw it first", pointer="/lines")


def _sum(lines: Sequence[dunning.ReceivableAmount]) -> Money:
    currency = lines[0].amount.currency
    return Money.from_minor(sum(line.amount.minor for line in lines), currency)


def _sliced(lines: Sequence[dunning.ReceivableAmount], amounts: Sequence[Money]) -> list[list[Mapping[str, object]]]:
    """The lines of each instalment: the receivables are paid in the order they are named."""
    left = [(line.receivable_id, line.amount.minor) for line in lines]
    parts: list[list[Mapping[str, object]]] = []
    for amount in amounts:
        part: list[Mapping[str, object]] = []
        wanted = amount.minor
        while wanted:
            receivable_id, minor = left[0]
            taken = min(wanted, minor)
            part.append({"receivable_id": receivable_id, "amount": Money.from_minor(taken, amount.currency)})
            wanted -= taken
            left = left[1:] if taken == minor else [(receivable_id, minor - taken), *left[1:]]
        parts.append(part)
    return parts
