"""Which channels a notice takes and which of the customer's addresses it goes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cobranza.contracts.dunning import PlannedChannel
from cobranza.contracts.invoicing import Contact
from cobranza.contracts.reasons import Reason

_PAYABLES: Final = ("accounts_payable", "payables")
_REFUSED: Final = ("withdrawn", "denied")


def main_channels(plan: Sequence[PlannedChannel]) -> tuple[str, ...]:
    """The channels a notice starts on, each once."""
    return tuple(dict.fromkeys(planned.channel for planned in plan if planned.role == "main"))


def choose_contact(contacts: Sequence[Contact], *, channel: str, is_usable: Callable[[str], bool]) -> Contact | Reason:
    """The one contact a notice goes to, or why there is none.

    Whoever handles payables comes first, then the order in which the ERP states them. An address
    whose consent was taken back is never chosen.
    """
    of_channel = [contact for contact in contacts if contact.channel == channel and is_usable(contact.value)]
    allowed = [contact for contact in of_channel if contact.consent not in _REFUSED]
    if not allowed:
        return Reason.OPTED_OUT if of_channel else Reason.NO_ADDRESS
    return min(allowed, key=lambda contact: contact.role not in _PAYABLES)
