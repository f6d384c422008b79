"""Granting or refusing a notice permit, under the lock that every payment of the customer needs too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cobranza.chassis import clock
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Transaction
from cobranza.contracts.identifiers import InvoiceId, ReceivableId
from cobranza.contracts.money import Money, to_decimal
from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest, PermitLine, PermitRefusal
from cobranza.contracts.reasons import Reason
from cobranza.payments import metrics, repository
from cobranza.payments.domain.errors import MixedCurrenciesError, PermitConflictError, UnknownCompanyError
from cobranza.payments.domain.permit import FRESH_SECONDS, TTL_SECONDS, Claimable, Question, Verdict, judge
from cobranza.payments.repository import PermitFacts


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Answers permit requests for the companies of this deployment."""

    companies: Companies
    evaluation_hour: int

    async def ask(self, tx: Transaction, request: NoticePermitRequest) -> NoticePermitAnswer:
        """Answer a request; the same notice and attempt again gets the same answer with its old expiry.

        Raises:
            UnknownCompanyError: this deployment does not collect for the company.
            PermitConflictError: the notice and attempt were asked for somebody else.
            MixedCurrenciesError: the receivables are not all in one currency.
        """
        profile = self.companies.get(request.company)
        if profile is None:
            raise UnknownCompanyError(f"no company {request.company!r} here", pointer="/company")
        asked_at = clock.utc_now()
        await repository.lock_for_permit(tx, company=request.company, customer=request.customer)
        stored = await repository.stored_permit(tx, notice_id=request.notice_id, attempt=request.attempt)
        if stored is not None:
            company, customer, before = stored
            if (company, customer) != (request.company, request.customer):
                raise PermitConflictError("this notice and attempt were asked for somebody else", pointer="/notice_id")
            return before
        facts = await repository.permit_facts(
            tx, company=request.company, customer=request.customer, receivable_ids=request.receivable_ids
        )
        currencies = {receivable.currency for receivable in facts.receivables.values()}
        if len(currencies) > 1:
            raise MixedCurrenciesError(f"a notice is in one currency, not {', '.join(sorted(currencies))}")
        currency = currencies.pop() if currencies else profile.currencies[0]
        verdict = judge(
            Question(
                purpose=request.purpose,
                receivable_ids=request.receivable_ids,
                receivables=facts.receivables,
                stops=facts.stops,
                unapplied=facts.credits.get(currency, 0),
                credit_stops=request.conditions.unapplied == "hold",
                proposed=facts.proposed,
                doubts=await self._doubts(tx, request, profile, facts, currency),
                on=evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour),
            )
        )
        given = NoticePermitAnswer(
            notice_id=request.notice_id,
            attempt=request.attempt,
            granted=verdict.granted,
            asked_at=asked_at,
            expires_at=asked_at + timedelta(seconds=TTL_SECONDS) if verdict.granted else None,
            ttl_seconds=TTL_SECONDS if verdict.granted else 0,
            lines=tuple(_line(line) for line in verdict.lines),
            credit=Money.from_minor(verdict.credit, currency) if verdict.granted else None,
            claimed=Money.from_minor(verdict.claimed, currency) if verdict.granted else None,
            refusals=_refusals(verdict),
        )
        await repository.save_permit(tx, company=request.company, customer=request.customer, answer=given)
        metrics.count_permit(granted=given.granted, reason="" if given.granted else given.refusals[0].reason)
        return given

    async def _doubts(
        self,
        tx: Transaction,
        request: NoticePermitRequest,
        profile: CompanyProfile,
        facts: PermitFacts,
        currency: str,
    ) -> frozenset[Reason]:
        """Why the facts of this customer are not fresh or not trusted right now."""
        doubts = set()
        if facts.ledger_stopped:
            doubts.add(Reason.LEDGER_STOPPED)
        if facts.holds_age_seconds is None or facts.holds_age_seconds > FRESH_SECONDS:
            doubts.add(Reason.HOLDS_STALE)
        if facts.input_parked:
            doubts.add(Reason.INPUT_PARKED)
        needed = request.conditions.cash_through
        if (
            profile.cash_feed == "watermark"
            and needed is not None
            and (facts.cash_through is None or facts.cash_through < needed)
        ):
            doubts.add(Reason.CASH_STALE)
        if request.conditions.control_total == "required":
            standing = await repository.control_standing(tx, company=request.company, currency=currency)
            # None: the company sends none, and none was due.
            if standing not in (None, "matched"):
                doubts.add(Reason.CONTROL_MISMATCH)
        return frozenset(doubts)


def _line(line: Claimable) -> PermitLine:
    receivable = line.receivable
    currency = receivable.currency
    return PermitLine(
        currency=currency,
        receivable_id=ReceivableId(receivable.receivable_id),
        invoice_id=None if receivable.invoice_id is None else InvoiceId(receivable.invoice_id),
        instalment=receivable.instalment,
        number=receivable.number,
        kind=receivable.kind,
        issued_on=receivable.issued_on,
        due_on=receivable.due_on,
        issued=to_decimal(receivable.issued, currency),
        open=to_decimal(receivable.open, currency),
        disputed=to_decimal(line.disputed, currency),
        promised=to_decimal(line.promised, currency),
        planned=to_decimal(line.planned, currency),
        claimable=to_decimal(line.amount, currency),
        version=receivable.version,
    )


def _refusals(verdict: Verdict) -> tuple[PermitRefusal, ...]:
    return tuple(
        PermitRefusal(
            reason=refusal.reason,
            receivable_id=None if refusal.receivable_id is None else ReceivableId(refusal.receivable_id),
            hold=refusal.hold,
        )
        for refusal in verdict.refusals
    )
