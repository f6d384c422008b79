"""Whether the debtor may be contacted now; the place where the rules of each country will be asked."""

from __future__ import annotations

from typing import Final

from cobranza.contracts.notifications import ContactDecision

#: No rules are loaded yet: contact is allowed, and the record says that nothing was asked.
NO_RULES: Final = ContactDecision(verdict="allow", rule="none", version=1)


def contact_decision() -> ContactDecision:
    """Decide whether the debtor may be contacted.

    Asked when a notice is scheduled and again just before its permit.
    """
    return NO_RULES
