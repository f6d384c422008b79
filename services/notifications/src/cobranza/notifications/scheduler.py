"""Everything time-driven in notifications: sending, recovering what was interrupted, gauges, what is in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cobranza.chassis.service import Context, Job
from cobranza.notifications.gateways.letters import Letters
from cobranza.notifications.gateways.mail import Server, SmtpMail
from cobranza.notifications.gateways.permits import HttpPermits
from cobranza.notifications.settings import NotificationsSettings
from cobranza.notifications.use_cases.announcing import Announcer
from cobranza.notifications.use_cases.outcomes import Outcomes
from cobranza.notifications.use_cases.sending import MailServers, Sender

#: Two, so that the slow server of one company does not hold up everybody's mail.
_SENDERS: Final = 2


def jobs(context: Context[NotificationsSettings]) -> Sequence[Job]:
    """The senders, and what looks after notices without an outcome."""
    settings = context.settings
    outcomes = Outcomes(context.database, context.companies, settings.evaluation_hour)
    letters = Letters()
    announcer = Announcer(context.database, context.companies, settings.evaluation_hour, letters.written())
    sender = Sender(
        database=context.database,
        outcomes=outcomes,
        permits=HttpPermits(
            settings.payments_url,
            token=None if settings.payments_token is None else settings.payments_token.get_secret_value(),
        ),
        mail=SmtpMail(),
        letters=letters,
        servers=servers(settings),
    )
    return (
        *(Job(f"sender-{number}", 0.1, sender.run) for number in range(1, _SENDERS + 1)),
        Job("outcomes", 1.0, outcomes.recover),
        Job("gauges", 5.0, outcomes.gauge, one_at_a_time=True),
        # They change with the program alone.
        Job("templates", 86400.0, announcer.announce, one_at_a_time=True),
    )


def servers(settings: NotificationsSettings) -> MailServers:
    """The mailbox, and the provider of live companies: in local mode the mailbox too."""
    mailbox = Server(settings.mailbox_host, settings.mailbox_port)
    if settings.smtp_host is None:
        return MailServers(mailbox, mailbox if settings.local_mode else None)
    password = None if settings.smtp_password is None else settings.smtp_password.get_secret_value()
    provider = Server(settings.smtp_host, settings.smtp_port, settings.smtp_user, password, settings.smtp_tls)
    return MailServers(mailbox, provider)
