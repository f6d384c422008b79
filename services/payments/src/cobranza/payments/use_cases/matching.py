"""Applying what no reference applied: the rules where they are certain, people where they are not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

from rapidfuzz import fuzz

from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.logs import logger
from cobranza.contracts import dunning
from cobranza.contracts.money import to_minor
from cobranza.contracts.payloads import Payload
from cobranza.contracts.reasons import Reason
from cobranza.payments import repository
from cobranza.payments.domain import matching
from cobranza.payments.domain.errors import MatchRefusedError, MatchUnknownError
from cobranza.payments.domain.ledger import NOBODY, UNDONE_RULE, Posting, Receipt, Receivable
from cobranza.payments.domain.matching import Debt, Identity, Incoming, MadeClaim, Promise, Proposal
from cobranza.payments.domain.references import Invoice, normalised
from cobranza.payments.repository import Facts, Needs, Unapplied
from cobranza.payments.use_cases.bookkeeping import Desk, tolerance_of

#: A person chose the debts.
BY_HAND: Final = "by-hand@1"
#: Identified by one of these, money is the customer's even before it is applied.
_CERTAIN: Final = frozenset({"virtual_account", "reference", "account", "tax_id", "name"})
_MOST_SUGGESTED: Final = 5
_AGAIN_AFTER_SECONDS: Final = 60.0

Verb = Literal["apply", "move", "undo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So much of a receipt to one receivable, in minor units."""

    receivable_id: UUID
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of a person's action; `is_repeat` when it was done before and nothing changed."""

    receipt_id: UUID
    unapplied: int
    currency: str
    is_repeat: bool = False


async def follow_promise(tx: Transaction, told: Payload) -> None:
    """Know which promises wait for money, so that it is found by its amount."""
    match told:
        case dunning.PromiseMade():
            promise = Promise(
                told.promise_id,
                told.amount.minor,
                told.made_on,
                told.limit_on,
                tuple(sorted(line.receivable_id for line in told.lines)),
            )
            await repository.await_promise(
                tx, company=told.company, customer=told.customer, currency=told.amount.currency, promise=promise
            )
        case dunning.PromiseKept() | dunning.PromiseBroken() | dunning.PromiseWithdrawn():
            await repository.end_promise(tx, company=told.company, promise_id=told.promise_id)
        case _:
            # Only promises name an amount and its days.
            return


async def follow_claim(tx: Transaction, told: Payload) -> None:
    """Look for what a debtor says to have paid, until the hold that it brought ends."""
    match told:
        case dunning.HoldPlaced(reason="payment_claim", claim=claim) if claim is not None:
            await repository.keep_claim(
                tx,
                company=told.company,
                currency=claim.amount.currency,
                claim=MadeClaim(
                    told.hold_id,
                    told.customer,
                    claim.amount.minor,
                    claim.paid_on,
                    claim.reference,
                    tuple(sorted(told.receivable_ids)),
                ),
            )
            await repository.enqueue_matching(tx, receipts=(), customers=[(told.company, told.customer)])
            await repository.enqueue_suspense(tx, [told.company])
        case dunning.HoldReleased(reason="payment_claim"):
            await repository.end_claim(tx, company=told.company, claim_id=told.hold_id)
        case _:
            # Other holds name no money.
            return


@dataclass(frozen=True, slots=True)
class Matcher:
    """Applies unapplied money, each receipt in a transaction of its own."""

    database: Database
    companies: Companies

    async def run(self, company: str | None = None) -> bool:
        """Look at the next receipt in the queue; False when none is due."""
        async with self.database.transaction() as tx:
            found = await repository.next_in_queue(tx, company=company)
        if found is None:
            return False
        of, receipt_id, since = found
        try:
            async with self.database.transaction() as tx:
                await self.match(tx, company=of, receipt_id=receipt_id)
                # Last, as writers note receipts while they hold the customer's lock: the other order would deadlock.
                await repository.leave_queue(tx, company=of, receipt_id=receipt_id, since=since)
        except Exception:  # noqa: BLE001 - whatever it is, the others go on
            # One receipt that cannot be looked at must not hold up the others.
            logger().exception("a receipt could not be matched", receipt_id=str(receipt_id))
            async with self.database.transaction() as tx:
                await repository.put_off(tx, company=of, receipt_id=receipt_id, seconds=_AGAIN_AFTER_SECONDS)
        return True

    async def enqueue_all(self, company: str | None) -> int:
        """Look at all unapplied money again; returns how many receipts wait.

        Raises:
            MatchUnknownError: no such company here.
        """
        if company is not None and company not in self.companies:
            raise MatchUnknownError(f"no company {company!r} here; deploy/companies.yaml lists them")
        async with self.database.transaction() as tx:
            return await repository.enqueue_all(tx, company)

    async def match(self, tx: Transaction, *, company: str, receipt_id: UUID) -> None:
        """Identify the payer, apply the best certain proposal, or keep what is proposed as suggestions."""
        known = await repository.unapplied(tx, company=company, receipt_id=receipt_id)
        profile = self.companies.get(company)
        if known is None or profile is None:
            return
        if not known.unapplied:
            await repository.replace_suggestions(tx, company=company, receipt_id=receipt_id, proposals=(), state="open")
            return
        incoming = _incoming(known, profile)
        payer = await _identify(tx, known, incoming)
        claims = await repository.claims(
            tx, company=company, currency=known.currency, amount=known.unapplied, on=tx.now.date()
        )
        facts, named, in_text = await _open(tx, known, incoming, payer, claims)
        receipt = facts.books.receipts[receipt_id]
        if (receipt.unapplied, receipt.customer) != (known.unapplied, known.customer):
            # It changed before it was locked: once more from the start.
            await repository.enqueue_matching(tx, receipts=[(company, receipt_id)], customers=())
            return
        desk = Desk(facts, self.companies, tx.now)
        today = tx.now.astimezone(profile.zone).date()
        proposals = await _propose(
            tx, known, incoming, payer, facts, named, in_text, claims, profile=profile, today=today
        )
        proposals = [p for p in proposals if (p.rule, _shares(p)) not in known.rejected][:_MOST_SUGGESTED]
        verdict = matching.decide(
            proposals,
            threshold=profile.match_threshold,
            fifo_auto=profile.fifo_auto,
            is_unresolved=_is_unresolved(known, facts, incoming, payer),
            by_people=known.by_people,
        )
        posting = facts.books.posting(
            company=company, cause_id=new_id(), kind="payment-allocated", effective_on=receipt.value_on
        )
        if verdict.applied is not None:
            _apply(posting, receipt, verdict.applied)
        elif receipt.customer is None and payer is not None and payer.basis in _CERTAIN:
            posting.identify(receipt_id, payer.customer)
        _explain(posting, receipt_id, facts, verdict)
        desk.tell_posted(tx.cause, posting.close())
        await repository.save(tx, facts)
        await desk.publish(tx)
        await repository.replace_suggestions(
            tx,
            company=company,
            receipt_id=receipt_id,
            proposals=[verdict.applied] if verdict.applied else verdict.suggested,
            state="applied" if verdict.applied else "open",
        )
        if payer is not None and payer.basis != "similar_name":
            await _learn(tx, known, payer.customer, why=payer.basis)

    # ------------------------------------------------------------------ people

    async def accept(self, tx: Transaction, *, company: str, suggestion_id: UUID, by: str, reason: str) -> Done:
        """Apply a suggestion as it was made; once more has no effect.

        Raises:
            MatchUnknownError: no such suggestion of the company.
            MatchRefusedError: it is no longer open, or the money or a debt has changed since.
        """
        kept = await self._suggestion(tx, company, suggestion_id)
        if kept.state == "accepted":
            return await _done(tx, company, kept.receipt_id, is_repeat=True)
        shares = {UUID(i): minor for i, minor in kept.shares.items()}
        facts, receipt = await _open_for_people(tx, company, kept.receipt_id, shares, undoing=False)
        kept = await self._suggestion(tx, company, suggestion_id)
        if kept.state == "accepted":
            return await _done(tx, company, kept.receipt_id, is_repeat=True)
        if kept.state != "open":
            raise MatchRefusedError(f"the suggestion is {kept.state}; look at the receipt's newest suggestions")
        proposal = Proposal(
            rule=kept.rule,
            confidence=kept.confidence,
            shares=shares,
            inputs=kept.inputs,
            customer=kept.customer,
            differences=tuple((UUID(i), why, minor) for i, why, minor in kept.differences),
        )
        _require_possible(facts, receipt, proposal.shares)
        for receivable_id, _, minor in proposal.differences:
            if facts.books.receivables[receivable_id].open < shares[receivable_id] + minor:
                raise MatchRefusedError(
                    f"less is open of {facts.books.receivables[receivable_id].number} than was seen"
                )
        desk = Desk(facts, self.companies, tx.now)
        posting = facts.books.posting(
            company=company, cause_id=suggestion_id, kind="payment-allocated", effective_on=receipt.value_on
        )
        _apply(posting, receipt, proposal)
        if not facts.books.receipts[receipt.receipt_id].unapplied:
            posting.explain(receipt.receipt_id, None)
        desk.tell_posted(tx.cause, posting.close())
        await repository.save(tx, facts)
        await desk.publish(tx)
        await repository.decide_suggestion(tx, suggestion_id=suggestion_id, state="accepted", by=by, reason=reason)
        await repository.note_action(
            tx,
            action_id=suggestion_id,
            company=company,
            receipt_id=receipt.receipt_id,
            verb="accept",
            actor=by,
            reason=reason,
            lines=json.dumps(_shares(proposal)),
        )
        await repository.replace_suggestions(
            tx, company=company, receipt_id=receipt.receipt_id, proposals=(), state="open"
        )
        known = await repository.unapplied(tx, company=company, receipt_id=receipt.receipt_id)
        if known is not None and proposal.customer is not None:
            await _learn(tx, known, proposal.customer, why="confirmed")
        await repository.enqueue_matching(tx, receipts=[(company, receipt.receipt_id)], customers=())
        return await _done(tx, company, receipt.receipt_id)

    async def reject(self, tx: Transaction, *, company: str, suggestion_id: UUID, by: str, reason: str) -> Done:
        """Never suggest this again for this receipt; from now on people decide about it.

        Raises:
            MatchUnknownError: no such suggestion of the company.
            MatchRefusedError: it is no longer open.
        """
        kept = await self._suggestion(tx, company, suggestion_id)
        is_new = await repository.decide_suggestion(
            tx, suggestion_id=suggestion_id, state="rejected", by=by, reason=reason
        )
        if not is_new:
            kept = await self._suggestion(tx, company, suggestion_id)
            if kept.state != "rejected":
                raise MatchRefusedError(f"the suggestion is {kept.state}; look at the receipt's newest suggestions")
            return await _done(tx, company, kept.receipt_id, is_repeat=True)
        await repository.note_action(
            tx,
            action_id=suggestion_id,
            company=company,
            receipt_id=kept.receipt_id,
            verb="reject",
            actor=by,
            reason=reason,
            lines=json.dumps(kept.shares),
        )
        return await _done(tx, company, kept.receipt_id)

    async def act(
        self,
        tx: Transaction,
        verb: Verb,
        *,
        company: str,
        receipt_id: UUID,
        shares: Sequence[Share] = (),
        action_id: UUID,
        by: str,
        reason: str,
    ) -> Done:
        """Apply a receipt to the debts a person chose, move it there from all others, or take it back.

        Args:
            action_id: made by the caller; the same again has no effect.

        Raises:
            MatchUnknownError: no such receipt or receivable of the company.
            MatchRefusedError: there is not so much to apply, the currencies differ, nothing is applied
                that could be undone, or the id belongs to another action.
        """
        wanted = {share.receivable_id: share.amount for share in shares}
        if len(wanted) != len(shares):
            raise MatchRefusedError("a receivable is named twice; state one amount for it", pointer="/lines")
        facts, receipt = await _open_for_people(tx, company, receipt_id, wanted, undoing=verb != "apply")
        repeat = await repository.note_action(
            tx,
            action_id=action_id,
            company=company,
            receipt_id=receipt_id,
            verb=verb,
            actor=by,
            reason=reason,
            lines=json.dumps({str(i): minor for i, minor in wanted.items()}),
        )
        if repeat is not None:
            if not repeat.is_same:
                raise MatchRefusedError(
                    "this action_id was used for another action; make a new one", pointer="/action_id"
                )
            return await _done(tx, company, receipt_id, is_repeat=True)
        desk = Desk(facts, self.companies, tx.now)
        profile = self.companies.get(company)
        assert profile is not None  # a company without profile has no receipts
        effective_on = receipt.value_on if verb == "apply" else tx.now.astimezone(profile.zone).date()
        posting = facts.books.posting(
            company=company,
            cause_id=action_id,
            kind="payment-allocated" if verb == "apply" else f"allocation-{'moved' if verb == 'move' else 'undone'}",
            effective_on=effective_on,
        )
        if verb != "apply":
            live = facts.books.live_of_receipt(receipt_id)
            if not live:
                raise MatchRefusedError("nothing of this receipt is applied, so there is nothing to take back")
            for allocation in live:
                posting.undo(allocation, rule=UNDONE_RULE)
        _require_possible(facts, facts.books.receipts[receipt_id], wanted)
        customers = {facts.books.receivables[i].customer for i in wanted}
        if receipt.customer is None and len(customers) == 1:
            posting.identify(receipt_id, customers.pop())
        for receivable_id, amount in wanted.items():
            posting.allocate(receipt_id, receivable_id, amount, rule=BY_HAND)
        if not facts.books.receipts[receipt_id].unapplied:
            posting.explain(receipt_id, None)
        desk.tell_posted(tx.cause, posting.close())
        await repository.save(tx, facts)
        await desk.publish(tx)
        # What was suggested was about the money as it stood before.
        await repository.replace_suggestions(tx, company=company, receipt_id=receipt_id, proposals=(), state="open")
        await repository.enqueue_matching(tx, receipts=[(company, receipt_id)], customers=())
        return await _done(tx, company, receipt_id)

    async def _suggestion(self, tx: Transaction, company: str, suggestion_id: UUID) -> Any:
        kept = await repository.suggestion(tx, company=company, suggestion_id=suggestion_id)
        if kept is None:
            raise MatchUnknownError(f"no suggestion {suggestion_id} of {company}")
        return kept


def _incoming(known: Unapplied, profile: CompanyProfile) -> Incoming:
    told = known.details
    references = (*(line["reference"] for line in told.get("remittance") or ()), *(told.get("references") or ()))
    return Incoming(
        amount=known.unapplied,
        value_on=known.value_on,
        customer=known.customer,
        references=tuple(references),
        texts=(*known.texts, *references),
        payer_name=known.payer.get("name"),
        payer_account=known.payer.get("account"),
        payer_tax_id=known.payer.get("tax_id"),
        to_account=known.payer.get("to_account"),
        check=profile.reference_check,
    )


async def _identify(tx: Transaction, known: Unapplied, incoming: Incoming) -> Identity | None:
    if known.customer is not None:
        return matching.identify(incoming, (), similarity=_alike)
    found = await repository.parties(
        tx,
        company=known.company,
        codes=matching.reference_codes(incoming.references, incoming.check),
        account=matching.key_of(incoming.payer_account or ""),
        paid_to=matching.key_of(incoming.to_account or ""),
        tax_id=matching.key_of(incoming.payer_tax_id or ""),
        name=matching.name_key(incoming.payer_name or ""),
    )
    if not found and incoming.payer_name:
        found = await repository.all_parties(tx, company=known.company)
    return matching.identify(incoming, found, similarity=_alike)


def _alike(a: str, b: str) -> float:
    return max(fuzz.token_sort_ratio(a, b), fuzz.WRatio(a, b))


async def _open(
    tx: Transaction, known: Unapplied, incoming: Incoming, payer: Identity | None, claims: Sequence[MadeClaim]
) -> tuple[Facts, list[Invoice], list[Invoice]]:
    """Lock and load the receipt, the payer's debts, and the invoices that references and texts name."""
    company, customer = known.company, None if payer is None else payer.customer
    structured = [normalised(reference) for reference in incoming.references]
    words = matching.words_of(incoming.texts)
    needs = Needs(
        customers={(company, customer or NOBODY), (company, known.customer or NOBODY)},
        receipts={(company, known.receipt_id)},
        naming={(company, name) for name in (*structured, *words)},
    )
    if customer is not None:
        needs.spread.add((company, customer))
    else:
        needs.spread |= {(company, claim.customer) for claim in claims}
    facts = await repository.open_books(tx, needs)
    named = _resolved(facts, company, structured, customer)
    in_text = [i for i in _resolved(facts, company, words, customer) if i not in named]
    return facts, named, in_text


def _resolved(facts: Facts, company: str, names: Sequence[str], customer: str | None) -> list[Invoice]:
    found = (facts.directory.resolve(company, name, customer=customer) for name in names)
    return list(dict.fromkeys(invoice for invoice in found if isinstance(invoice, Invoice)))


async def _propose(
    tx: Transaction,
    known: Unapplied,
    incoming: Incoming,
    payer: Identity | None,
    facts: Facts,
    named: Sequence[Invoice],
    in_text: Sequence[Invoice],
    claims: Sequence[MadeClaim],
    *,
    profile: CompanyProfile,
    today: date,
) -> list[Proposal]:
    company, currency = known.company, known.currency
    books = facts.books

    def open_of(invoices: Sequence[Invoice]) -> list[Receivable]:
        return [r for i in invoices for r in books.of_invoice(i.invoice_id) if r.open and r.currency == currency]

    candidates = {r.receivable_id: r for r in (*open_of(named), *open_of(in_text))}
    promises: list[Promise] = []
    if payer is not None:
        candidates |= {r.receivable_id: r for r in books.open_of(company, payer.customer, currency)}
        promises = await repository.promises(tx, company=company, customer=payer.customer, currency=currency)
    else:
        found = await repository.of_amount(tx, company=company, currency=currency, amount=known.unapplied)
        candidates |= {r.receivable_id: r for r in found}
        for claim in claims:
            candidates |= {r.receivable_id: r for r in books.open_of(company, claim.customer, currency)}
    given = await repository.discounts(
        tx, company=company, invoices=[r.invoice_id for r in candidates.values() if r.invoice_id is not None]
    )
    grace = timedelta(days=profile.discount_grace_days)

    def debt(r: Receivable) -> Debt:
        discount, until_on = given.get(r.invoice_id, (0, date.min)) if r.invoice_id else (0, date.min)
        is_earned = known.value_on <= until_on + grace if discount else False
        is_whole = r.open == r.issued and discount < r.open
        return Debt(
            receivable_id=r.receivable_id,
            customer=r.customer,
            number=r.number,
            open=r.open,
            due_on=r.due_on,
            is_charge=r.kind == "late_charge",
            discount=discount if is_earned and is_whole and r.kind == "invoice" else 0,
            place=r.instalment or 0,
        )

    named_now = tuple(r.receivable_id for r in open_of(named))
    return matching.propose(
        Incoming(**{**_fields(incoming), "named": named_now, "advised": _advised(known, facts, named, currency)}),
        [debt(r) for r in candidates.values()],
        payer=payer,
        in_text={r.receivable_id for r in open_of(in_text)},
        promises=promises,
        claims=claims,
        tolerance=tolerance_of(profile, currency),
        today=today,
    )


def _fields(incoming: Incoming) -> dict[str, Any]:
    return {name: getattr(incoming, name) for name in Incoming.__dataclass_fields__}


def _advised(known: Unapplied, facts: Facts, named: Sequence[Invoice], currency: str) -> tuple[tuple[UUID, int], ...]:
    """What a remittance advice says for each debt, where every line names one open debt."""
    told = known.details.get("remittance") or ()
    ids = {invoice.invoice_id for invoice in named}
    lines = []
    for line in told:
        found = facts.directory.resolve(known.company, normalised(line["reference"]), customer=known.customer)
        if not isinstance(found, Invoice) or found.invoice_id not in ids:
            return ()
        debts = (r for r in facts.books.of_invoice(found.invoice_id) if r.kind == "invoice")
        open_ = [r for r in debts if r.open and r.currency == currency]
        if len(open_) != 1:
            return ()
        lines.append((open_[0].receivable_id, to_minor(Decimal(line["amount"]["amount"]), currency)))
    return tuple(lines)


def _is_unresolved(known: Unapplied, facts: Facts, incoming: Incoming, payer: Identity | None) -> bool:
    """Whether the payer named something that nothing here is called."""
    meant = {payer.customer, known.customer} if payer is not None else {known.customer}
    for reference in incoming.references:
        found = facts.directory.resolve(
            known.company, normalised(reference), customer=payer.customer if payer is not None else None
        )
        if isinstance(found, Reason) and not any(
            code in {matching.key_of(c) for c in meant if c}
            for code in matching.reference_codes([reference], incoming.check)
        ):
            return True
    return False


def _apply(posting: Posting, receipt: Receipt, proposal: Proposal) -> None:
    if receipt.customer is None and proposal.customer is not None:
        posting.identify(receipt.receipt_id, proposal.customer)
    given: dict[UUID, dict[str, int]] = {}
    for receivable_id, why, minor in proposal.differences:
        given[receivable_id] = {"discount" if why == "discount" else "written_off": minor}
    for receivable_id, amount in proposal.shares.items():
        posting.allocate(
            receipt.receipt_id,
            receivable_id,
            amount,
            rule=proposal.rule,
            confidence=proposal.confidence,
            **given.get(receivable_id, {}),
        )


def _explain(posting: Posting, receipt_id: UUID, facts: Facts, verdict: matching.Verdict) -> None:
    receipt = facts.books.receipts[receipt_id]
    if not receipt.unapplied:
        posting.explain(receipt_id, None)
    elif receipt.customer is not None and receipt.reason in {None, Reason.PAYER_UNKNOWN, Reason.BELOW_THRESHOLD}:
        waits = verdict.applied is None and verdict.suggested
        reason = Reason.BELOW_THRESHOLD if waits else None
        if reason != receipt.reason:
            posting.explain(receipt_id, reason)


async def _learn(tx: Transaction, known: Unapplied, customer: str, *, why: str) -> None:
    account = matching.key_of(known.payer.get("account") or "")
    if account:
        await repository.learn_accounts(tx, [(known.company, account, customer, why, known.receipt_id)])


async def _open_for_people(
    tx: Transaction, company: str, receipt_id: UUID, shares: Mapping[UUID, int], *, undoing: bool
) -> tuple[Facts, Receipt]:
    needs = Needs(receipts={(company, receipt_id)}, receivables={(company, i) for i in shares})
    if undoing:
        needs.undone_receipts.add((company, receipt_id))
    facts = await repository.open_books(tx, needs)
    receipt = facts.books.receipts.get(receipt_id)
    if receipt is None:
        raise MatchUnknownError(f"no receipt {receipt_id} of {company}", pointer="/receipt_id")
    for receivable_id in shares:
        if receivable_id not in facts.books.receivables:
            raise MatchUnknownError(f"no receivable {receivable_id} of {company}", pointer="/lines")
    return facts, receipt


def _require_possible(facts: Facts, receipt: Receipt, shares: Mapping[UUID, int]) -> None:
    if sum(shares.values()) > receipt.unapplied:
        raise MatchRefusedError(
            f"{sum(shares.values())} minor units of {receipt.currency} are to be applied, {receipt.unapplied} are left",
            pointer="/lines",
        )
    for receivable_id, amount in shares.items():
        debt = facts.books.receivables[receivable_id]
        if debt.currency != receipt.currency:
            raise MatchRefusedError(
                f"{debt.number} is owed in {debt.currency}, the money is {receipt.currency}; there is no implicit exchange",
                pointer="/lines",
            )
        if not 0 < amount <= debt.payable:
            raise MatchRefusedError(
                f"{debt.payable} minor units of {debt.number} are open, {amount} are to be applied", pointer="/lines"
            )


def _shares(proposal: Proposal) -> dict[str, int]:
    return {str(receivable_id): minor for receivable_id, minor in proposal.shares.items()}


async def _done(tx: Transaction, company: str, receipt_id: UUID, *, is_repeat: bool = False) -> Done:
    known = await repository.unapplied(tx, company=company, receipt_id=receipt_id)
    if known is None:
        raise MatchUnknownError(f"no payment {receipt_id} of {company}")
    return Done(receipt_id=receipt_id, unapplied=known.unapplied, currency=known.currency, is_repeat=is_repeat)
