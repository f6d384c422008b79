"""Sending each notice once: claim, address, connection, permit, letter, intent, hand-over, outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from cobranza.chassis import clock
from cobranza.chassis.companies import CompanyProfile
from cobranza.chassis.database import Database, Transaction, is_transient
from cobranza.chassis.logs import logger
from cobranza.contracts import identifiers
from cobranza.contracts.identifiers import Company, Customer, NoticeId
from cobranza.contracts.invoicing import Contact, CustomerChanged
from cobranza.contracts.payloads import Channel
from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest
from cobranza.contracts.reasons import Reason
from cobranza.notifications import repository
from cobranza.notifications.domain.channel_plan import choose_contact
from cobranza.notifications.domain.contact_rules import contact_decision
from cobranza.notifications.domain.errors import LetterError
from cobranza.notifications.domain.letter import HowToPay, LetterFacts, Party, Person, demand_of, reference_of
from cobranza.notifications.domain.notice import Deferred, Granted, State, Suppressed, judge, needs_permit
from cobranza.notifications.gateways.letters import Letter, LetterNotWrittenError, Letters
from cobranza.notifications.gateways.mail import (
    Mail,
    MailConnection,
    MailDeferredError,
    MailGateway,
    MailRefusedError,
    OutcomeUnknownError,
    Server,
    compose,
    headers_of,
    usable_address,
)
from cobranza.notifications.gateways.permits import PermitGateway, PermitUnavailableError
from cobranza.notifications.use_cases.outcomes import Outcomes

#: Longer than connecting, asking and sending may take together, so a live claim is never taken over.
LEASE_SECONDS: Final = 60.0
#: Life of what needs no permit, from the start of its turn.
_WITHOUT_PERMIT_SECONDS: Final = 15.0
#: Less than this left of a permit: too little to send in.
_LEAST_SECONDS: Final = 1.0
#: Customers travel on another topic than requests; this long one that is unknown is waited for.
_CUSTOMER_WAIT: Final = timedelta(seconds=60)
_OUTCOME_WAITS_SECONDS: Final = (0.1, 0.5, 2.0, 5.0)
_TEST_MARK: Final = {"es": "[PRUEBA]", "en": "[TEST]"}


class _EndedError(Exception):
    """The notice's turn ends here; `settle` writes how."""

    def __init__(self, settle: Callable[[Transaction], Awaitable[None]]) -> None:
        self.settle = settle
        super().__init__()


@dataclass(frozen=True, slots=True)
class MailServers:
    """Where mail goes: the mailbox for all that must not leave, and the provider of live companies."""

    mailbox: Server
    provider: Server | None

    def of(self, profile: CompanyProfile) -> Server | None:
        """The server for a company's notices; None when it has none."""
        if profile.delivery == "sandbox":
            return self.mailbox
        if profile.smtp is not None:
            return Server(profile.smtp.host, profile.smtp.port)
        return self.provider


@dataclass(frozen=True, slots=True)
class _Permit:
    """What may be sent until `deadline`, an instant of this process' own clock."""

    answer: NoticePermitAnswer | None
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - clock.monotonic()


class _Ready(NamedTuple):
    """A notice with everything that is known before anybody outside is asked."""

    notice: repository.StoredNotice
    profile: CompanyProfile
    server: Server
    customer: CustomerChanged
    contact: Contact
    recipient: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends the notices whose turn it is."""

    database: Database
    outcomes: Outcomes
    permits: PermitGateway
    mail: MailGateway
    letters: Letters
    servers: MailServers
    batch: int = 8

    async def run(self) -> bool:
        """Claim a few notices and send them side by side; True when there may be more."""
        async with self.database.transaction() as tx:
            claimed = await repository.claim(tx, limit=self.batch, lease_seconds=LEASE_SECONDS)
            customers = await repository.customers_of(tx, [(notice.company, notice.customer) for notice in claimed])
        await self._send_all(claimed, customers)
        return len(claimed) == self.batch

    async def _send_all(
        self,
        claimed: Sequence[repository.StoredNotice],
        customers: Mapping[repository.CustomerKey, CustomerChanged],
    ) -> None:
        ready: list[_Ready] = []
        ended: list[_EndedError] = []
        for notice in claimed:
            try:
                ready.append(self._ready(notice, customers.get((notice.company, notice.customer))))
            except _EndedError as end:
                ended.append(end)
        await self._end(ended)
        for result in await asyncio.gather(*map(self._turn, ready), return_exceptions=True):
            if isinstance(result, BaseException):
                # Its lease runs out and it is claimed again, or found interrupted.
                logger().error("notice's turn failed", error=type(result).__name__, exc_info=result)

    async def _end(self, ended: Sequence[_EndedError]) -> None:
        """Write how turns end that never began, together; what one of them meets is that one's own."""
        if not ended:
            return
        try:
            async with self.database.transaction() as tx:
                for end in ended:
                    await end.settle(tx)
        except Exception:  # noqa: BLE001 - found out one by one
            if len(ended) == 1:
                logger().error("notice's turn failed", exc_info=True)
                return
            for end in ended:
                await self._end([end])

    async def _turn(self, ready: _Ready) -> None:
        try:
            await self._send(ready)
        except _EndedError as ended:
            async with self.database.transaction() as tx:
                await ended.settle(tx)

    def _ready(self, notice: repository.StoredNotice, customer: CustomerChanged | None) -> _Ready:
        if notice.expires_at <= self.database.clock.now():
            raise self._suppressed(notice, Reason.EXPIRED)
        profile = self.outcomes.companies.get(notice.company)
        server = None if profile is None else self.servers.of(profile)
        if profile is None or server is None or notice.channel != Channel.EMAIL:
            raise self._suppressed(notice, Reason.CHANNEL_UNAVAILABLE)
        if customer is None:
            if clock.utc_now() - notice.created_at < _CUSTOMER_WAIT:
                raise self._deferred(notice, Reason.NO_ADDRESS, "the customer is not known yet")
            raise self._suppressed(notice, Reason.NO_ADDRESS)
        contact = choose_contact(
            customer.contacts, channel=notice.channel, is_usable=lambda value: usable_address(value) is not None
        )
        if isinstance(contact, Reason):
            raise self._suppressed(notice, contact)
        recipient = usable_address(contact.value)
        assert recipient is not None
        return _Ready(notice, profile, server, customer, contact, recipient)

    async def _send(self, ready: _Ready) -> None:
        notice, profile, server, customer, contact, recipient = ready
        try:
            connection = await self.mail.connect(server)
        except MailDeferredError as error:
            raise self._deferred(notice, None, str(error)) from error
        try:
            decision = contact_decision()
            permit = await self._permit(notice)
            letter = await self._letter(notice, permit, customer, profile, language=contact.language)
            mail = Mail(
                notice_id=notice.notice_id,
                sender_name=profile.sender.name,
                sender=profile.sender.email,
                reply_to=profile.contact.email,
                recipient_name=contact.name,
                recipient=recipient,
                subject=_subject(letter, profile),
                text=letter.text,
                html=letter.html,
                language=letter.language,
                delivery=profile.delivery,
                written_at=clock.utc_now(),
            )
            try:
                message = compose(mail)
            except ValueError as error:
                raise self._failed(notice, Reason.RENDER_FAILED, str(error)) from error
            try:
                await connection.address(sender=mail.sender, recipient=recipient)
            except MailDeferredError as error:
                raise self._deferred(notice, None, str(error)) from error
            except MailRefusedError as error:
                raise self._failed(notice, error.reason, str(error)) from error
            if permit.seconds_left < _LEAST_SECONDS:
                raise self._deferred(notice, None, "the permit ran out before the message was ready")
            intent = repository.Intent(
                permit=permit.answer,
                delivery=profile.delivery,
                contact_point_id=identifiers.contact_point_id(
                    company=notice.company, customer=notice.customer, channel=notice.channel, value=contact.value
                ),
                language=letter.language,
                contact_decision=decision,
                subject=mail.subject,
                text=mail.text,
                html=mail.html,
                headers=headers_of(message),
            )
            # A process told to stop ends what it has begun, so that no outcome is lost by it.
            crossing = asyncio.ensure_future(self._hand_over(notice, intent, connection, bytes(message), permit))
            try:
                await asyncio.shield(crossing)
            except asyncio.CancelledError:
                await crossing
                raise
            if profile.delivery == "copy":
                await self._copy(bytes(message), mail)
        finally:
            await connection.close()

    async def _permit(self, notice: repository.StoredNotice) -> _Permit:
        # The grant is later than this instant, so the life counted from here can only be too short.
        started = clock.monotonic()
        if not needs_permit(notice.purpose):
            return _Permit(None, started + _WITHOUT_PERMIT_SECONDS)
        try:
            answer = await self.permits.ask(
                NoticePermitRequest(
                    notice_id=NoticeId(notice.notice_id),
                    attempt=notice.attempt,
                    company=Company(notice.company),
                    customer=Customer(notice.customer),
                    purpose=notice.purpose,
                    conditions=notice.conditions,
                    receivable_ids=tuple(line.receivable_id for line in notice.lines),
                )
            )
        except PermitUnavailableError as error:
            raise self._deferred(notice, Reason.PAYMENTS_UNREACHABLE, str(error)) from error
        match judge(answer, step=notice.step, lines=notice.lines):
            case Granted():
                return _Permit(answer, started + answer.ttl_seconds)
            case Deferred(reason=reason):
                raise self._deferred(notice, reason, "the permit was refused for now")
            case Suppressed(reason=reason):
                raise _EndedError(
                    lambda tx: self.outcomes.suppressed(tx, notice, reason=reason, asked=True, refusals=answer.refusals)
                )

    async def _letter(
        self,
        notice: repository.StoredNotice,
        permit: _Permit,
        customer: CustomerChanged,
        profile: CompanyProfile,
        *,
        language: str | None,
    ) -> Letter:
        try:
            return self.letters.write(
                await self._facts(notice, permit, customer, profile),
                template=notice.template,
                tone=notice.tone,
                language=language or notice.language,
            )
        except LetterNotWrittenError as error:
            raise self._failed(notice, error.reason, str(error)) from error
        except LetterError as error:
            raise self._failed(notice, Reason.RENDER_FAILED, str(error)) from error

    async def _facts(
        self, notice: repository.StoredNotice, permit: _Permit, customer: CustomerChanged, profile: CompanyProfile
    ) -> LetterFacts:
        answer, demand, currency = permit.answer, None, None
        now = self.database.clock.now().astimezone(profile.zone)
        if answer is not None:
            invoice_ids = {line.invoice_id for line in answer.lines if line.invoice_id is not None}
            async with self.database.transaction() as tx:
                documents = await repository.documents(tx, notice.company, sorted(invoice_ids))
            demand = demand_of(answer, documents=documents, as_of=self.outcomes.business_date(now, notice.company))
            currency = demand.claimed.currency
        instructions = None if currency is None else profile.instructions_for(currency)
        return LetterFacts(
            reference=reference_of(notice.notice_id),
            as_of=now,
            creditor=Party(profile.name, profile.tax_id),
            country=profile.country,
            debtor=Party(customer.name, customer.customer),
            contact=Person(profile.contact.name, profile.contact.email, profile.contact.phone),
            how_to_pay=None
            if instructions is None
            else HowToPay(
                bank=instructions.bank,
                holder=instructions.holder,
                account=instructions.account,
                reference=instructions.reference.replace("{customer}", customer.customer),
                link=instructions.link,
            ),
            demand=demand,
            receipt=notice.receipt,
        )

    async def _hand_over(
        self,
        notice: repository.StoredNotice,
        intent: repository.Intent,
        connection: MailConnection,
        content: bytes,
        permit: _Permit,
    ) -> None:
        """Keep the intent, let the message go, write the outcome."""
        async with self.database.transaction() as tx:
            sending = await repository.keep_intent(tx, notice, intent, lease_seconds=LEASE_SECONDS)
        if sending is None:
            # The lease ran out and another sender has it now.
            return
        left = permit.seconds_left
        if left < _LEAST_SECONDS:
            await self._settle(
                lambda tx: self.outcomes.deferred(
                    tx, sending, reason=None, detail="the permit ran out before the first byte", before=State.SENDING
                )
            )
            return
        try:
            await connection.deliver(content, within_seconds=left)
        except MailDeferredError as error:
            detail = str(error)
            await self._settle(
                lambda tx: self.outcomes.deferred(tx, sending, reason=None, detail=detail, before=State.SENDING)
            )
        except MailRefusedError as error:
            reason, detail = error.reason, str(error)
            await self._settle(lambda tx: self.outcomes.failed(tx, sending, reason=reason, detail=detail))
        except OutcomeUnknownError as error:
            detail = str(error)
            await self._settle(lambda tx: self.outcomes.unknown(tx, sending, detail=detail))
        else:
            handed_at = clock.utc_now()
            await self._settle(lambda tx: self.outcomes.sent(tx, sending, handed_at=handed_at, outcome="known"))

    async def _settle(self, write: Callable[[Transaction], Awaitable[None]]) -> None:
        """Write an outcome; a passing fault of the database must not turn what is known into unknown."""
        for wait in (*_OUTCOME_WAITS_SECONDS, None):
            try:
                async with self.database.transaction() as tx:
                    await write(tx)
            except Exception as error:
                if wait is None or not is_transient(error):
                    raise
                await asyncio.sleep(wait)
            else:
                return

    async def _copy(self, content: bytes, mail: Mail) -> None:
        """Leave a copy in the mailbox; the notice has been sent, so a fault here changes nothing."""
        try:
            connection = await self.mail.connect(self.servers.mailbox)
            try:
                await connection.address(sender=mail.sender, recipient=mail.recipient)
                await connection.deliver(content, within_seconds=_WITHOUT_PERMIT_SECONDS)
            finally:
                await connection.close()
        except (MailDeferredError, MailRefusedError, OutcomeUnknownError) as error:
            logger().warning("no copy kept", notice_id=str(mail.notice_id), error=str(error))

    def _suppressed(self, notice: repository.StoredNotice, reason: Reason) -> _EndedError:
        return _EndedError(lambda tx: self.outcomes.suppressed(tx, notice, reason=reason))

    def _failed(self, notice: repository.StoredNotice, reason: Reason, detail: str) -> _EndedError:
        return _EndedError(lambda tx: self.outcomes.failed(tx, notice, reason=reason, detail=detail))

    def _deferred(self, notice: repository.StoredNotice, reason: str | None, detail: str) -> _EndedError:
        return _EndedError(lambda tx: self.outcomes.deferred(tx, notice, reason=reason, detail=detail))


def _subject(letter: Letter, profile: CompanyProfile) -> str:
    if profile.delivery != "sandbox":
        return letter.subject
    return f"{_TEST_MARK[letter.language.partition('-')[0]]} {letter.subject}"
