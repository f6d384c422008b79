"""What is known of an account, folded from what others tell and from what was decided; pure.

One account is one debtor of one company in one currency. Production, simulation and back-test change
what they know by these functions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from cobranza.contracts import dunning, invoicing, notifications, payments
from cobranza.contracts.payloads import Payload, Purpose
from cobranza.contracts.reasons import Reason
from cobranza.dunning.domain.agreements import ended_before, judged, paid_on
from cobranza.dunning.domain.decision import Closing, Decision, Telling
from cobranza.dunning.domain.facts import (
    UNDER_WAY,
    AccountFacts,
    CashNeed,
    Correction,
    EffectInForce,
    Issued,
    Item,
    PartPayment,
    Promise,
    PromiseVerdict,
    Run,
    Stop,
)
from cobranza.dunning.domain.ladder import DAY, Ladder
from cobranza.dunning.domain.policy import HARDNESS, Step

#: Outcomes of a call that reached the right person, or ended the matter another way: the step is issued.
_ISSUED_BY: Final = frozenset({"done", "confirmed", "approved", "dispute", "claims_paid", "opt_out", "insolvency"})
#: Outcomes of an attempt that reached nobody who could answer.
_ATTEMPTS: Final = frozenset(
    {"no_answer", "busy", "voicemail", "wrong_number", "third_party", "callback_requested", "language_barrier"}
)
_DEFAULT_ATTEMPTS: Final = 3
#: Contacts that a limit may still ask for; older ones are forgotten.
_CONTACT_DAYS: Final = 730
_PAYMENTS_KEPT: Final = 10

_NO_ITEMS: Final[Mapping[UUID, Item]] = MappingProxyType({})
_NO_REPLACED: Final[Mapping[UUID, tuple[Item, ...]]] = MappingProxyType({})
_NO_RECEIPTS: Final[Mapping[UUID, int]] = MappingProxyType({})
_NO_LINES: Final[Mapping[UUID, str]] = MappingProxyType({})


class Account(NamedTuple):
    """The facts of an account, and what may come back to it.

    Args:
        settled: receivables with nothing open, as they were last open; a reversal finds its level here.
        replaced: receivables of invoices that gave way to another, by the other's id (D15).
        closed_tone: the hardest tone of the case before; a reversal is not softer.
        closed_runs: of the case before; their outcome may still come.
        receipts: amounts of receipts of the company whose payer is not known.
        product_lines: of invoices whose receivables are not known yet.
        cancelled: invoices that are no more; a balance of theirs is told late.
    """

    facts: AccountFacts
    settled: Mapping[UUID, Item] = _NO_ITEMS
    replaced: Mapping[UUID, tuple[Item, ...]] = _NO_REPLACED
    closed_tone: str | None = None
    closed_runs: tuple[Run, ...] = ()
    receipts: Mapping[UUID, int] = _NO_RECEIPTS
    product_lines: Mapping[UUID, str] = _NO_LINES
    cancelled: frozenset[UUID] = frozenset()

    def with_facts(self, **changes: object) -> Account:
        """The account with some facts changed."""
        return self._replace(facts=self.facts._replace(**changes))  # type: ignore[arg-type]

    def item(self, receivable_id: UUID) -> Item | None:
        """An open receivable."""
        return next((item for item in self.facts.items if item.receivable_id == receivable_id), None)


def follow(account: Account, told: Payload, ladder: Ladder | None) -> Account:
    """The account after a published event; events it does not concern change nothing.

    Args:
        ladder: the policy of the case; None: no step was taken yet.
    """
    match told:
        case payments.ReceivableChanged():
            return _balance(account, told)
        case payments.CreditChanged(customer=None):
            # Nobody's money is nobody's credit; once none is left, every receipt has found its payer.
            return account if told.unapplied_minor or not account.receipts else _with_receipts(account, {})
        case payments.CreditChanged():
            return account.with_facts(unapplied=told.unapplied_minor)
        case payments.CashWatermark(all_through_on=date() as through_on):
            return account.with_facts(cash=CashNeed(through_on))
        case payments.ControlTotalChecked():
            return account.with_facts(control=told.standing_now)
        case payments.PaymentReceived():
            if told.customer is not None or told.amount.currency != account.facts.currency:
                return account
            return _with_receipts(account, {**account.receipts, told.payment_id: told.amount.minor})
        case payments.PaymentAllocated() | payments.PaymentReversed() | payments.PaymentRefunded():
            if told.payment_id not in account.receipts:
                return account
            # Whose money it is has been found, or it is gone.
            return _with_receipts(account, {k: v for k, v in account.receipts.items() if k != told.payment_id})
        case invoicing.CustomerChanged():
            return _customer(account, told)
        case invoicing.InvoiceIssued() | invoicing.InvoiceChanged():
            return _invoice(account, told)
        case invoicing.InvoiceAcknowledged():
            return _of_invoice(account, told.invoice_id, lambda item: replace(item, acknowledged=True))
        case invoicing.InvoiceCancelled():
            return _cancelled(account, told.invoice_id, told.replaced_by, told.cancelled_on)
        case invoicing.InvoiceReplaced():
            return _cancelled(account, told.invoice_id, told.replaced_by, told.replaced_on)
        case notifications.NoticeSent() | notifications.NoticeDelivered() | notifications.NoticeFailed():
            return _notice(account, told, ladder)
        case notifications.NoticeSuppressed():
            return _notice(account, told, ladder)
        case payments.LateChargeAssessed():
            # Payments is the executor of fees and interest; this is its confirmation.
            return answer_task(
                account, ladder, step=told.step, run=told.run, disposition="confirmed", on=told.assessed_on
            )
        case payments.LateChargeRefused():
            return answer_task(
                account,
                ladder,
                step=told.step,
                run=told.run,
                disposition="refused",
                on=told.refused_on,
                refusal=told.reason,
            )
        case dunning.TaskCompleted(step=str(step), run=int(run)):
            # The day is the company's: a call late in the evening belongs to it.
            zone = UTC if ladder is None else ZoneInfo(ladder.policy.timezone)
            on = told.completed_at.astimezone(zone).date()
            return answer_task(account, ladder, step=step, run=run, disposition=told.disposition, on=on)
        case _:
            return _agreement(account, told)


def _with_receipts(account: Account, receipts: Mapping[UUID, int]) -> Account:
    return account.with_facts(unidentified=frozenset(receipts.values()))._replace(receipts=receipts)


def _agreement(account: Account, told: Payload) -> Account:
    """Holds, promises, plans, disputes and hand-overs."""
    match told:
        case dunning.HoldPlaced():
            held = frozenset[UUID](told.receivable_ids) if told.scope == "receivable" else frozenset[UUID]()
            stop = Stop(Reason.ON_HOLD, told.reason, told.placed_on, told.until_on, held, stop_id=told.hold_id)
            return _stopped(account, stop)
        case dunning.HoldReleased():
            return _resumed(account, told.hold_id, told.released_on)
        case dunning.PromiseMade():
            amounts = {UUID(int=line.receivable_id.int): line.amount.minor for line in told.lines}
            promise = Promise(told.promise_id, told.made_on, told.limit_on, amounts, told.plan_id)
            others = tuple(known for known in account.facts.promises if known.promise_id != told.promise_id)
            account = account.with_facts(promises=(*others, promise))
            if told.plan_id is not None:
                # What its plan stops already.
                return account
            return _stopped(
                account,
                Stop(Reason.PROMISED, "promise", told.made_on, told.limit_on, amounts=amounts, stop_id=told.promise_id),
            )
        case dunning.PromiseKept():
            return _verdict(account, told.promise_id, "kept", told.judged_on, paid=told.paid.minor)
        case dunning.PromiseBroken():
            if all(known.promise_id != told.promise_id for known in account.facts.promises):
                broken = replace(account.facts.debtor, broken_promises=account.facts.debtor.broken_promises + 1)
                account = account.with_facts(debtor=broken)
            return _verdict(account, told.promise_id, "broken", told.judged_on)
        case dunning.PromiseWithdrawn():
            return _verdict(account, told.promise_id, "withdrawn", told.withdrawn_on)
        case dunning.PlanAgreed():
            amounts = {UUID(int=line.receivable_id.int): line.amount.minor for line in told.lines}
            return _stopped(
                account, Stop(Reason.PLANNED, "plan", told.agreed_on, None, amounts=amounts, stop_id=told.plan_id)
            )
        case dunning.PlanEnded():
            account = account.with_facts(
                promises=tuple(
                    replace(known, verdict="withdrawn", judged_on=told.ended_on)
                    if known.plan_id == told.plan_id and known.verdict == "open"
                    else known
                    for known in account.facts.promises
                )
            )
            return _resumed(account, told.plan_id, told.ended_on)
        case dunning.DisputeOpened():
            amounts = {UUID(int=told.receivable_id.int): told.amount.minor}
            return _stopped(
                account,
                Stop(
                    Reason.DISPUTED,
                    told.kind,
                    told.opened_on,
                    None,
                    amounts=amounts,
                    stop_id=told.dispute_id,
                    deadline_on=told.deadline_on,
                ),
            )
        case dunning.DisputeResolved():
            return _resolved(account, told)
        case dunning.CaseHandedOver():
            return account.with_facts(handed_over=account.facts.handed_over | set(told.receivable_ids))
        case dunning.CaseRecalled():
            handed = account.facts.handed_over
            items = tuple(
                replace(item, reopened_on=told.recalled_on) if item.receivable_id in handed else item
                for item in account.facts.items
            )
            return account.with_facts(handed_over=frozenset(), items=items)
        case _:
            return account


# What is owed.


def _balance(account: Account, told: payments.ReceivableChanged) -> Account:
    if told.invoice_id in account.cancelled:
        return account
    known = account.item(told.receivable_id)
    before = known or account.settled.get(told.receivable_id)
    if before is None and told.open_minor:
        before = _inherited(account, told) or Item(
            receivable_id=told.receivable_id,
            number=told.number,
            due_on=told.due_on,
            issued=told.issued_minor,
            open=told.open_minor,
            allocated=told.allocated_minor,
        )
    if before is None:
        return account
    line = account.product_lines.get(told.invoice_id) if told.invoice_id is not None else None
    item = changed_item(before, told, was_open=told.receivable_id not in account.settled)
    if line is not None:
        item = replace(item, product_line=line)
    corrections = account.facts.corrections
    if is_wrongful(before, told):
        corrections = (*corrections, Correction("paid_before", told.receivable_id, told.recorded_on))
    others = tuple(known for known in account.facts.items if known.receivable_id != told.receivable_id)
    settled = {key: value for key, value in account.settled.items() if key != told.receivable_id}
    if not told.open_minor:
        settled[told.receivable_id] = item
    tone = account.facts.heard_tone
    if known is None and item.level and tone is None:
        tone = account.closed_tone
    paid = told.allocated_minor - before.allocated
    if paid and account.facts.promises:
        promises = paid_on(account.facts, told.receivable_id, told.effective_on, paid)
        account = account.with_facts(promises=promises)
    if known is not None and account.facts.stops:
        account = _credited(account, told.receivable_id, known.open - told.open_minor - paid)
    return account.with_facts(
        items=(*others, item) if told.open_minor else others, corrections=corrections, heard_tone=tone
    )._replace(
        settled=settled,
    )


def _credited(account: Account, receivable_id: UUID, credited: int) -> Account:
    """A credit note that came for a decided dispute: so much less stays stopped for it (§4.4, upheld)."""
    if credited <= 0:
        return account
    stops: list[Stop] = []
    for stop in account.facts.stops:
        awaited = stop.amounts.get(receivable_id, 0) if stop.reason == Reason.DISPUTED and stop.until_on else 0
        less = min(credited, awaited)
        credited -= less
        if less < awaited:
            stops.append(replace(stop, amounts={**stop.amounts, receivable_id: awaited - less}) if less else stop)
        elif not awaited:
            stops.append(stop)
    return account.with_facts(stops=tuple(stops))


def changed_item(before: Item, told: payments.ReceivableChanged, *, was_open: bool) -> Item:
    """The receivable with a new balance; of a settled one what it was last, so that it may come back.

    Args:
        was_open: whether something was open just before.
    """
    paid = told.allocated_minor - before.allocated
    part_payments = before.payments
    if paid > 0 and was_open and told.open_minor:
        part_payments = (*part_payments, PartPayment(told.effective_on, paid, before.open))[-_PAYMENTS_KEPT:]
    is_reopened = bool(told.open_minor) and (paid < 0 or (not was_open and before.level > 0))
    return replace(
        before,
        number=told.number,
        due_on=told.due_on,
        issued_on=told.issued_on,
        invoice_id=told.invoice_id,
        issued=told.issued_minor,
        open=told.open_minor or before.open,
        allocated=told.allocated_minor,
        payments=part_payments,
        reopened_on=told.recorded_on if is_reopened else before.reopened_on,
        told_reversal=before.told_reversal and not is_reopened,
    )


def is_wrongful(before: Item, told: payments.ReceivableChanged) -> bool:
    """Whether money recorded now was there before a notice asked for it (D20)."""
    return (
        before.last_notice_on is not None
        and told.allocated_minor > before.allocated
        and told.effective_on < before.last_notice_on <= told.recorded_on
    )


def _inherited(account: Account, told: payments.ReceivableChanged) -> Item | None:
    """The replaced receivable whose level the new one takes over, being due the same day for no more (D15)."""
    candidates = account.replaced.get(told.invoice_id, ()) if told.invoice_id is not None else ()
    return next(
        (
            replace(old, receivable_id=told.receivable_id, allocated=told.allocated_minor, payments=())
            for old in candidates
            if inherits(old, due_on=told.due_on, issued=told.issued_minor)
        ),
        None,
    )


def inherits(old: Item, *, due_on: date, issued: int) -> bool:
    """Whether a receivable that replaces another takes over its level (D15)."""
    return old.due_on == due_on and issued <= old.issued


def _invoice(account: Account, told: invoicing.InvoiceIssued | invoicing.InvoiceChanged) -> Account:
    if told.product_line is None:
        return account
    line = told.product_line
    account = _of_invoice(account, told.invoice_id, lambda item: replace(item, product_line=line))
    return account._replace(product_lines={**account.product_lines, told.invoice_id: line})


def _of_invoice(account: Account, invoice_id: UUID, change: Callable[[Item], Item]) -> Account:
    return account.with_facts(
        items=tuple(change(item) if item.invoice_id == invoice_id else item for item in account.facts.items)
    )


def _cancelled(account: Account, invoice_id: UUID, replaced_by: UUID | None, on: date) -> Account:
    gone = tuple(item for item in account.facts.items if item.invoice_id == invoice_id)
    reason = "cancelled" if replaced_by is None else "replaced"
    corrections = tuple(Correction(reason, item.receivable_id, on) for item in gone if item.level)  # type: ignore[arg-type]
    replaced = account.replaced if replaced_by is None or not gone else {**account.replaced, replaced_by: gone}
    return account.with_facts(
        items=tuple(item for item in account.facts.items if item.invoice_id != invoice_id),
        corrections=(*account.facts.corrections, *corrections),
    )._replace(
        replaced=replaced,
        cancelled=account.cancelled | {invoice_id},
    )


def _customer(account: Account, told: invoicing.CustomerChanged) -> Account:
    return account.with_facts(
        debtor=replace(
            account.facts.debtor,
            segment=told.segment,
            country=told.country,
            language=told.language,
            protected_party=told.protected_party,
            risk=told.risk,
            tags=frozenset(told.tags),
            since=told.customer_since,
            reachable=bool(told.contacts),
            revision=told.revision,
        )
    )


# What stops contact.


def _stopped(account: Account, stop: Stop) -> Account:
    others = tuple(known for known in account.facts.stops if known.stop_id != stop.stop_id)
    return account.with_facts(stops=(*others, stop))


def _verdict(
    account: Account, promise_id: UUID, verdict: PromiseVerdict, on: date, *, paid: int | None = None
) -> Account:
    """A promise that somebody else judged.

    Args:
        paid: what was paid towards it in time, minor units; None: as the balances say.
    """

    def told(known: Promise) -> Promise:
        money = known.paid if paid is None else ((known.limit_on, paid),)
        return replace(known, verdict=verdict, judged_on=on, paid=money)

    promises = tuple(told(known) if known.promise_id == promise_id else known for known in account.facts.promises)
    return _resumed(account.with_facts(promises=promises), promise_id, on)


def _resumed(account: Account, stop_id: UUID, on: date) -> Account:
    """The stop ends on the day before `on`."""
    return account.with_facts(
        stops=tuple(ended_before(stop, on) if stop.stop_id == stop_id else stop for stop in account.facts.stops)
    )


def _resolved(account: Account, told: dunning.DisputeResolved) -> Account:
    """A part stays stopped until its credit note, a part comes back after its grace."""
    known = next((stop for stop in account.facts.stops if stop.stop_id == told.dispute_id), None)
    if known is None:
        return account
    ends = [
        (told.stopped.minor, told.stopped_until),
        (told.returning.minor, (told.returns_on or told.resolved_on) - DAY),
    ]
    others = tuple(stop for stop in account.facts.stops if stop.stop_id != told.dispute_id)
    parts = tuple(
        replace(known, amounts={told.receivable_id: amount}, until_on=until, deadline_on=None)
        for amount, until in ends
        if amount
    )
    return account.with_facts(stops=(*others, *parts))


# What became of what was decided.


def _notice(
    account: Account,
    told: notifications.NoticeSent
    | notifications.NoticeDelivered
    | notifications.NoticeFailed
    | notifications.NoticeSuppressed,
    ladder: Ladder | None,
) -> Account:
    if told.purpose != Purpose.DUNNING or told.step is None or told.run is None:
        return account
    rung = ladder.by_id.get(told.step) if ladder is not None else None
    if rung is not None and told.channel in rung.step.also:
        # Part of the same contact: the main channel says what became of it.
        return account
    match told:
        case notifications.NoticeSent():
            granted = frozenset[UUID](line.receivable_id for line in told.lines)
            return answer_sent(account, ladder, step=told.step, run=told.run, granted=granted, on=told.sent_on)
        case notifications.NoticeDelivered():
            return answer_delivered(account, ladder, step=told.step, run=told.run, on=told.delivered_on)
        case notifications.NoticeFailed():
            if told.next_channel is not None:
                return account
            return answer_not_sent(
                account, step=told.step, run=told.run, state="failed", reason=told.reason, on=told.failed_on
            )
        case notifications.NoticeSuppressed():
            return answer_not_sent(
                account, step=told.step, run=told.run, state="suppressed", reason=told.reason, on=told.suppressed_on
            )


def answer_sent(
    account: Account, ladder: Ladder | None, *, step: str, run: int, granted: frozenset[UUID], on: date
) -> Account:
    """A notice left: what it claimed rises to its step, unless that waits for delivery (D19).

    Args:
        granted: the receivables that the permit let it claim.
    """
    runs = _runs_of(account, step, run)
    if not runs:
        return account
    waits = _needs_delivery(ladder, step)
    account = _with_runs(
        account,
        [
            r._replace(
                state="undelivered" if waits else "sent", answered_on=on, receivable_ids=r.receivable_ids & granted
            )
            for r in runs
        ],
    )
    items = {item.receivable_id: item for item in account.facts.items}
    settled = dict(account.settled)
    for known in (items, settled):
        for receivable_id in granted & known.keys():
            item = known[receivable_id]
            last = on if item.last_notice_on is None else max(on, item.last_notice_on)
            known[receivable_id] = replace(item, last_notice_on=last)
    account = account.with_facts(items=tuple(items.values()))._replace(settled=settled)
    if not waits:
        account = _raised(account, ladder, runs, granted, on=on)
    tones = [r.tone for r in runs if r.tone is not None]
    return _contacted(account, on, max(tones, key=lambda tone: HARDNESS.get(tone, 0), default=None))


def answer_delivered(account: Account, ladder: Ladder | None, *, step: str, run: int, on: date) -> Account:
    """A notice arrived: what waited for that rises, and its term starts."""
    runs = _runs_of(account, step, run)
    waiting = [r for r in runs if r.state == "undelivered"]
    if waiting:
        account = _with_runs(account, [r._replace(state="sent", answered_on=on) for r in waiting])
        account = _raised(account, ladder, waiting, frozenset().union(*(r.receivable_ids for r in waiting)), on=on)
    for r in runs:
        account = _each(account, r.receivable_ids, lambda item, step=r.step: _delivered(item, step, on))  # type: ignore[misc]
    return account


def answer_not_sent(account: Account, *, step: str, run: int, state: str, reason: str, on: date) -> Account:
    """A notice did not reach the debtor; its receivables may take the step again."""
    runs = _runs_of(account, step, run)
    return _with_runs(account, [r._replace(state=state, reason=reason, answered_on=on) for r in runs])  # type: ignore[arg-type]


def answer_task(
    account: Account,
    ladder: Ladder | None,
    *,
    step: str,
    run: int,
    disposition: str,
    on: date,
    refusal: str = Reason.EXECUTION_REFUSED,
) -> Account:
    """What a person, or an effect's executor, made of a step run.

    Args:
        refusal: why it was refused, when it was.
    """
    runs = [r for r in _runs_of(account, step, run) if r.state in ("proposed", "requested")]
    if not runs:
        return account
    top = next((r for r in runs if r.step == step), runs[0])
    if top.state == "proposed":
        match disposition:
            case "approved":
                return _with_runs(account, [r._replace(state="approved", expires_on=None) for r in runs])
            case "expired":
                return _skipped(account, ladder, runs, Reason.APPROVAL_EXPIRED, on)
            case _:
                return _skipped(account, ladder, runs, Reason.APPROVAL_REFUSED, on)
    if top.kind == "notice":
        return account
    if disposition.startswith("right_party") or disposition in _ISSUED_BY:
        return _done(account, ladder, runs, on)
    if disposition in _ATTEMPTS:
        rung = ladder.by_id.get(step) if ladder is not None else None
        task = rung.step.task if rung is not None else None
        attempts = top.attempts + 1
        if attempts >= (task.attempts if task is not None else _DEFAULT_ATTEMPTS):
            return _skipped(account, ladder, runs, Reason.UNREACHABLE, on)
        return _with_runs(account, [r._replace(attempts=attempts) for r in runs])
    return _skipped(account, ladder, runs, refusal if disposition == "refused" else Reason.TASK_EXPIRED, on)


def _done(account: Account, ladder: Ladder | None, runs: Sequence[Run], on: date) -> Account:
    account = _with_runs(account, [r._replace(state="sent", answered_on=on) for r in runs])
    account = _raised(account, ladder, runs, frozenset().union(*(r.receivable_ids for r in runs)), on=on)
    if runs[0].kind == "call":
        account = _contacted(account, on, None)
    for r in runs:
        rung = ladder.by_id.get(r.step) if ladder is not None else None
        effect = rung.step.effect if rung is not None else None
        if rung is not None and effect is not None and (rung.step.undo is not None or effect == "credit_hold"):
            in_force = EffectInForce(r.step, r.number, effect, r.receivable_ids)
            account = account.with_facts(effects=(*account.facts.effects, in_force))
    return account


def applied(account: Account, ladder: Ladder | None, decision: Decision, as_of: date) -> Account:
    """The account after a decision took effect: runs opened and closed, steps passed over."""
    opened = openings(account.facts, decision, as_of)
    for item in decision.items:
        if item.skipped:
            position = item.skipped[-1][0].position
            account = _each(account, {item.receivable_id}, lambda known, p=position: _passed(known, p))  # type: ignore[misc]
    for closing in decision.closings:
        account = _closed(account, ladder, closing, as_of)
    account = _with_runs(account, opened)
    for undoing in decision.undoings:
        effects = tuple(effect for effect in account.facts.effects if effect != undoing.effect)
        account = account.with_facts(effects=effects)
    for telling in decision.tellings:
        account = _told(account, telling)
    facts = judged(account.facts, decision.judgings, decision.plan_endings, as_of)
    account = account._replace(
        facts=facts._replace(
            evaluated_on=as_of, promised_on=decision.next_check_on, caught_up_on=facts.catches_up_on(as_of)
        )
    )
    if decision.case_state == "closed":
        account = account.with_facts(heard_tone=None, runs=())._replace(
            closed_tone=account.facts.heard_tone or account.closed_tone,
            closed_runs=account.facts.runs or account.closed_runs,
        )
    return account


def at_hand(account: Account) -> Account:
    """The account with the runs that the next evaluation needs: those under way, and the last of each step.

    Whoever stores runs does so before: one that has just ended may be neither.
    """
    if not account.facts.runs:
        return account
    last = dict(sorted((run.step, run.number) for run in account.facts.runs))
    return account.with_facts(
        runs=tuple(run for run in account.facts.runs if run.state in UNDER_WAY or last[run.step] == run.number)
    )


def follow_closed(account: Account, told: Payload, ladder: Ladder | None) -> Account:
    """The account after the outcome of a run of the case before."""
    after = follow(account.with_facts(runs=account.closed_runs), told, ladder)
    facts = after.facts._replace(runs=account.facts.runs, heard_tone=account.facts.heard_tone)
    return after._replace(facts=facts, closed_runs=after.facts.runs)


def migrated(account: Account, old: Ladder, new: Ladder, mapping: Mapping[str, str]) -> Account:
    """The account under another version: what was issued keeps its place by the name of its step (D16).

    Args:
        mapping: the new step of each old one whose name changed.
    """

    def moved(item: Item) -> Item:
        history = {mapping.get(step, step): done for step, done in item.history.items()}
        level = _place(item.level, old, new, mapping)
        return replace(item, level=level, passed=max(level, _place(item.passed, old, new, mapping)), history=history)

    items = tuple(moved(item) for item in account.facts.items)
    return account.with_facts(items=items)._replace(settled={key: moved(item) for key, item in account.settled.items()})


def _place(position: int, old: Ladder, new: Ladder, mapping: Mapping[str, str]) -> int:
    if not position:
        return 0
    step = old.rungs[position - 1].step.id
    rung = new.by_id.get(mapping.get(step, step))
    return 0 if rung is None else rung.position


def openings(facts: AccountFacts, decision: Decision, as_of: date) -> list[Run]:
    """The step runs that a decision opens: first those passed over, then those of its actions."""
    numbers: dict[str, int] = {}

    def number(step: Step) -> int:
        before = numbers.get(step.id) or max((run.number for run in facts.runs if run.step == step.id), default=0)
        numbers[step.id] = before + 1
        return before + 1

    digest = facts.digest() if decision.changes_facts else ""
    skipped: dict[tuple[Step, Reason], list[UUID]] = {}
    for item in decision.items:
        for step, why in item.skipped:
            skipped.setdefault((step, why), []).append(item.receivable_id)
    opened = [
        Run(
            step.id,
            number(step),
            "skipped",
            frozenset(receivable_ids),
            kind=step.kind,
            answered_on=as_of,
            reason=str(why),
            facts_hash=digest,
        )
        for (step, why), receivable_ids in skipped.items()
    ]
    for action in decision.actions:
        approved = {run.step: run.number for run in facts.runs if run.state == "approved"}
        moving = action.moving
        own = {step: approved.get(step.id) or number(step) for step in moving}
        opened += [
            Run(
                step=step.id,
                number=own[step],
                state="requested" if action.approval is None else "proposed",
                receivable_ids=frozenset(receivable_ids),
                kind=step.kind,
                notice=(action.step.id, own[action.step]),
                tone=action.tone,
                expires_on=action.expires_on,
                facts_hash=digest,
            )
            for step, receivable_ids in moving.items()
        ]
    return opened


def _closed(account: Account, ladder: Ladder | None, closing: Closing, as_of: date) -> Account:
    run = closing.run
    if closing.rises:
        rung = ladder.by_id.get(run.step) if ladder is not None else None
        days = 2 if rung is None else rung.due_business_days
        expires_on = as_of + days * DAY if ladder is None else ladder.calendar.add(as_of, days)
        return _with_runs(account, [run._replace(has_risen=True, expires_on=expires_on)])
    if closing.reason == Reason.OUTCOME_UNKNOWN:
        return _with_runs(account, [run._replace(state="failed", reason=str(closing.reason), answered_on=as_of)])
    return _skipped(account, ladder, [run], closing.reason, as_of)


def _skipped(account: Account, ladder: Ladder | None, runs: Sequence[Run], reason: str, on: date) -> Account:
    account = _with_runs(account, [r._replace(state="skipped", reason=str(reason), answered_on=on) for r in runs])
    for r in runs:
        rung = ladder.by_id.get(r.step) if ladder is not None else None
        if rung is not None:
            account = _each(account, r.receivable_ids, lambda known, p=rung.position: _passed(known, p))  # type: ignore[misc]
    return account


def _told(account: Account, telling: Telling) -> Account:
    if telling.purpose == "reversal":
        return _each(account, telling.receivable_ids, lambda item: replace(item, told_reversal=True))
    left = tuple(known for known in account.facts.corrections if known not in telling.corrections)
    return account.with_facts(corrections=left)


def _runs_of(account: Account, step: str, number: int) -> list[Run]:
    """The runs that one notice or task carries."""
    return [
        run
        for run in account.facts.runs
        if (run.notice == (step, number) if run.notice is not None else (run.step, run.number) == (step, number))
        and (run.state in UNDER_WAY or run.state == "sent")
    ]


def _with_runs(account: Account, runs: Iterable[Run]) -> Account:
    known = {(run.step, run.number): run for run in account.facts.runs}
    known |= {(run.step, run.number): run for run in runs}
    return account.with_facts(runs=tuple(known.values()))


def _needs_delivery(ladder: Ladder | None, step: str) -> bool:
    rung = ladder.by_id.get(step) if ladder is not None else None
    return rung is not None and rung.step.requires_delivery


def _contacted(account: Account, on: date, tone: str | None) -> Account:
    facts = account.facts
    last = on if facts.last_contact_on is None else max(on, facts.last_contact_on)
    heard = max((facts.heard_tone, tone), key=lambda known: HARDNESS.get(known or "", -1))
    kept = tuple(day for day in facts.contacts if (on - day).days < _CONTACT_DAYS)
    return account.with_facts(last_contact_on=last, contacts=(*kept, on), heard_tone=heard)


def _raised(
    account: Account, ladder: Ladder | None, runs: Sequence[Run], granted: frozenset[UUID], *, on: date
) -> Account:
    for run in runs:
        rung = ladder.by_id.get(run.step) if ladder is not None else None
        if rung is not None:
            account = _each(
                account,
                run.receivable_ids & granted,
                lambda item, step=rung.step: _issued(item, step, on),  # type: ignore[misc]
            )
    return account


def _issued(item: Item, step: Step, on: date) -> Item:
    done = item.history.get(step.id)
    history = {**item.history, step.id: Issued(on, 1 if done is None else done.times + 1)}
    level = max(item.level, step.position)
    return replace(item, level=level, passed=max(item.passed, level), history=history)


def _delivered(item: Item, step: str, on: date) -> Item:
    done = item.history.get(step)
    if done is None:
        return item
    return replace(item, history={**item.history, step: replace(done, delivered_on=on)})


def _passed(item: Item, position: int) -> Item:
    return replace(item, passed=max(item.passed, position))


def _each(account: Account, receivable_ids: Iterable[UUID], change: Callable[[Item], Item]) -> Account:
    """The account with a change to some receivables, open or settled."""
    concerned = frozenset(receivable_ids)
    items = tuple(change(item) if item.receivable_id in concerned else item for item in account.facts.items)
    settled = {key: change(item) if key in concerned else item for key, item in account.settled.items()}
    return account.with_facts(items=items)._replace(settled=settled)
