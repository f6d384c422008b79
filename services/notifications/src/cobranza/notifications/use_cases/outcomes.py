"""Telling what became of a notice: its state and the event about it, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.logs import logger
from cobranza.contracts.money import Money
from cobranza.contracts.notifications import GrantedLine, NoticeFailed, NoticeSent, NoticeSuppressed
from cobranza.contracts.payments import PermitLine, PermitRefusal
from cobranza.contracts.reasons import Reason
from cobranza.notifications import metrics, repository
from cobranza.notifications.domain.errors import UnknownCompanyError
from cobranza.notifications.domain.notice import State, back_off_seconds
from cobranza.notifications.gateways.letters import TEMPLATE_VERSION

_BATCH: Final = 50


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Writes outcomes and tells them.

    `unknown_seconds` is the real time after which an unknown outcome is decided by the step's rule.
    """

    database: Database
    companies: Companies
    evaluation_hour: int
    unknown_seconds: float = 24 * 3600.0

    async def sent(
        self,
        tx: Transaction,
        notice: repository.StoredNotice,
        *,
        handed_at: datetime,
        outcome: Literal["known", "assumed"],
    ) -> None:
        """The provider took it, or is assumed to have; what another process thought unknown is known now."""
        before = (State.SENDING, State.UNKNOWN) if outcome == "known" else (State.UNKNOWN,)
        on = self.business_date(tx.now, notice.company)
        moved = await repository.move(tx, notice, State.SENT, before=before, handed_at=handed_at, told_on=on)
        if moved is not None:
            self._tell(
                tx, moved, NoticeSent(**_told(moved, self.companies), handed_at=handed_at, sent_on=on, outcome=outcome)
            )

    async def failed(self, tx: Transaction, notice: repository.StoredNotice, *, reason: str, detail: str) -> None:
        """It cannot be sent on this channel."""
        on = self.business_date(tx.now, notice.company)
        before = (State.QUEUED, State.SENDING)
        moved = await repository.move(tx, notice, State.FAILED, before=before, reason=reason, detail=detail, told_on=on)
        if moved is not None:
            self._tell(tx, moved, NoticeFailed(**_told(moved, self.companies), reason=reason, failed_on=on))

    async def suppressed(
        self,
        tx: Transaction,
        notice: repository.StoredNotice,
        *,
        reason: str,
        asked: bool = False,
        refusals: Sequence[PermitRefusal] = (),
    ) -> None:
        """It was not sent and will not be."""
        on = self.business_date(tx.now, notice.company)
        after = State.EXPIRED if reason == Reason.EXPIRED else State.SUPPRESSED
        moved = await repository.move(tx, notice, after, before=(State.QUEUED,), reason=reason, told_on=on)
        if moved is not None:
            told = NoticeSuppressed(
                **{**_told(moved, self.companies), "attempt": moved.attempt if asked else None},
                reason=reason,
                refusals=tuple(refusals),
                suppressed_on=on,
            )
            self._tell(tx, moved, told)

    async def deferred(
        self,
        tx: Transaction,
        notice: repository.StoredNotice,
        *,
        reason: str | None,
        detail: str,
        before: State = State.QUEUED,
    ) -> None:
        """Not now: try again after a while."""
        await repository.wait(
            tx, notice, before=before, seconds=back_off_seconds(notice.attempt), reason=reason, detail=detail
        )

    async def unknown(self, tx: Transaction, notice: repository.StoredNotice, *, detail: str) -> None:
        """Nobody can tell whether it was sent; nothing is told until that is decided."""
        await repository.move(
            tx, notice, State.UNKNOWN, before=(State.SENDING,), reason=Reason.OUTCOME_UNKNOWN, detail=detail
        )

    async def recover(self) -> bool:
        """Find notices whose sender died, and decide those that have been unknown for long enough."""
        async with self.database.transaction() as tx:
            interrupted = await repository.interrupted(tx, limit=_BATCH)
            for notice in interrupted:
                await self.unknown(tx, notice, detail="the sender ended between intent and outcome")
        async with self.database.transaction() as tx:
            unresolved = await repository.unresolved(tx, after_seconds=self.unknown_seconds, limit=_BATCH)
            for notice in unresolved:
                if notice.on_unknown == "resend":
                    await self.deferred(
                        tx, notice, reason=None, detail="unknown, sent again by rule", before=State.UNKNOWN
                    )
                else:
                    await self.sent(tx, notice, handed_at=notice.handed_at or notice.changed_at, outcome="assumed")
        return len(interrupted) == _BATCH or len(unresolved) == _BATCH

    async def gauge(self) -> bool:
        """Export how long the oldest notice has waited and how many are unknown."""
        async with self.database.transaction() as tx:
            oldest, unknown = await repository.waiting(tx)
        metrics.gauge_waiting(oldest_seconds=oldest, unknown=unknown)
        return False

    def _tell(
        self, tx: Transaction, moved: repository.StoredNotice, told: NoticeSent | NoticeFailed | NoticeSuppressed
    ) -> None:
        tx.publish(told, sequence=moved.version, cause=moved.cause)
        metrics.count_notice(channel=moved.channel, outcome=moved.state)
        logger().info(
            "notice settled", notice_id=str(moved.notice_id), company=moved.company, state=moved.state,
            reason=getattr(told, "reason", None),
        )  # fmt: skip

    def business_date(self, now: datetime, company: str) -> date:
        """The company's date at the business instant `now`.

        Raises:
            UnknownCompanyError: the company is no longer in the companies file.
        """
        profile = self.companies.get(company)
        if profile is None:
            raise UnknownCompanyError(f"no company {company!r} here any more", company=company)
        return evaluation_date(now, profile.zone, from_hour=self.evaluation_hour)


def _told(notice: repository.StoredNotice, companies: Companies) -> dict[str, Any]:
    """What every event about a notice says; lines only of what was about to leave."""
    permit, profile = notice.permit, companies.get(notice.company)
    delivery = notice.delivery or (profile.delivery if profile is not None else "sandbox")
    return {
        "company": notice.company,
        "notice_id": notice.notice_id,
        "customer": notice.customer,
        "purpose": notice.purpose,
        "channel": notice.channel,
        "case_id": notice.case_id,
        "step": notice.step,
        "run": notice.run,
        "attempt": None if permit is None else permit.attempt,
        "lines": () if permit is None else tuple(_granted(line) for line in permit.lines),
        "claimed": None if permit is None else permit.claimed,
        "template": notice.template,
        "template_version": TEMPLATE_VERSION,
        "language": notice.language,
        "contact_point_id": notice.contact_point_id,
        "contact_decision": notice.contact_decision,
        "delivery": delivery,
    }


def _granted(line: PermitLine) -> GrantedLine:
    return GrantedLine(
        receivable_id=line.receivable_id,
        open=Money(amount=line.open, currency=line.currency),
        claimed=Money(amount=line.claimable, currency=line.currency),
    )
