"""Handing a message to a mail server, with every outcome told apart: not sent, sent, nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import Final, Literal, Protocol
from uuid import UUID

import aiosmtplib
from email_validator import EmailNotValidError, validate_email

from cobranza.contracts.reasons import Reason

_CONNECT_TIMEOUT_SECONDS: Final = 10.0


class MailDeferredError(Exception):
    """It was certainly not sent; trying again later makes sense."""


class MailRefusedError(Exception):
    """It was certainly not sent and never will be, for `reason`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class OutcomeUnknownError(Exception):
    """Nobody can tell whether it was sent."""


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server and how to sign in; `tls` as the provider says."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    tls: Literal["none", "starttls", "tls"] = "none"


class MailConnection(Protocol):
    """An open, authenticated connection that carries one message."""

    async def address(self, *, sender: str, recipient: str) -> None:
        """Name the two ends; nothing of the message leaves yet.

        Raises:
            MailDeferredError: not now.
            MailRefusedError: the server refuses one of them for good.
        """
        ...

    async def deliver(self, content: bytes, *, within_seconds: float) -> None:
        """Hand the message over; returns once the server has taken it.

        Raises:
            MailDeferredError: the server did not take it, for now.
            MailRefusedError: the server will never take it.
            OutcomeUnknownError: it may have been taken.
        """
        ...

    async def close(self) -> None:
        """End the connection, whatever its state."""
        ...


class MailGateway(Protocol):
    """Whoever carries mail."""

    async def connect(self, server: Server) -> MailConnection:
        """Open an authenticated connection.

        Raises:
            MailDeferredError: the server is not to be had.
        """
        ...


class SmtpMail:
    """Mail over SMTP."""

    async def connect(self, server: Server) -> MailConnection:
        """Open an authenticated connection.

        Raises:
            MailDeferredError: the server is not to be had.
        """
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            timeout=_CONNECT_TIMEOUT_SECONDS,
            # Also spares a look-up of this machine's name for every connection.
            local_hostname="localhost",
        )
        try:
            await client.connect()
            if server.user is not None:
                await client.login(server.user, server.password or "")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise MailDeferredError(f"no connection to {server.host}:{server.port}: {_told(error)}") from error
        return _SmtpConnection(client)


class _SmtpConnection:
    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self._client = client

    async def address(self, *, sender: str, recipient: str) -> None:
        await self._command(self._client.mail(sender), Reason.PROVIDER_REFUSED)
        await self._command(self._client.rcpt(recipient), Reason.BOUNCED)

    async def _command(self, command: Awaitable[object], refusal: Reason) -> None:
        try:
            await command
        except aiosmtplib.SMTPResponseException as error:
            if _is_final(error.code):
                raise MailRefusedError(refusal, _told(error)) from error
            raise MailDeferredError(_told(error)) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailDeferredError(_told(error)) from error

    async def deliver(self, content: bytes, *, within_seconds: float) -> None:
        try:
            # The limit is for the whole exchange; the client's own is for each reply.
            async with asyncio.timeout(within_seconds):
                await self._client.data(content, timeout=within_seconds)
        except aiosmtplib.SMTPDataError as error:
            if _is_final(error.code):
                raise MailRefusedError(Reason.PROVIDER_REFUSED, _told(error)) from error
            if _is_temporary(error.code):
                raise MailDeferredError(_told(error)) from error
            raise OutcomeUnknownError(_told(error)) from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            # The client cannot say whether the last byte had left, so it may have.
            raise OutcomeUnknownError(_told(error)) from error

    async def close(self) -> None:
        self._client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A letter with its envelope."""

    notice_id: UUID
    sender_name: str
    sender: str
    reply_to: str
    recipient_name: str
    recipient: str
    subject: str
    text: str
    html: str
    language: str
    delivery: str
    written_at: datetime


def compose(mail: Mail) -> EmailMessage:
    """The message as it leaves; the same notice has the same Message-ID at every try.

    Raises:
        ValueError: a header would hold a line break, or an address is none.
    """
    message = EmailMessage(policy=SMTP_POLICY)
    message["Message-ID"] = f"<{mail.notice_id}@{mail.sender.rpartition('@')[2]}>"
    message["Date"] = format_datetime(mail.written_at)
    message["From"] = Address(display_name=mail.sender_name, addr_spec=mail.sender)
    message["Reply-To"] = mail.reply_to
    message["To"] = Address(display_name=mail.recipient_name, addr_spec=mail.recipient)
    message["Subject"] = mail.subject
    message["Content-Language"] = mail.language
    message["Auto-Submitted"] = "auto-generated"
    message["X-Cobranza-Delivery"] = mail.delivery
    message["X-Cobranza-Notice"] = str(mail.notice_id)
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    return message


def headers_of(message: EmailMessage) -> Mapping[str, str]:
    """The message's headers, readable."""
    return {name: str(value) for name, value in message.items()}


def usable_address(value: str) -> str | None:
    """The address as it goes into an envelope, or None when it is no e-mail address.

    Whether it exists is the provider's to say; the test domains of RFC 2606 pass.
    """
    try:
        return validate_email(value, check_deliverability=False, test_environment=True).ascii_email
    except EmailNotValidError:
        return None


def _is_final(code: int) -> bool:
    return 500 <= code < 600  # noqa: PLR2004 - RFC 5321 section 4.2.1


def _is_temporary(code: int) -> bool:
    return 400 <= code < 500  # noqa: PLR2004 - RFC 5321 section 4.2.1


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
