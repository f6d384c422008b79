"""Refusals of notifications.

NotificationsError
├── UnknownCompanyError   this deployment does not collect for the company
└── LetterError           the permit's figures do not add up, so no letter may show them
"""

from __future__ import annotations

from typing import ClassVar


class NotificationsError(Exception):
    """Something asked of notifications is refused; `facts` say with which values."""

    code: ClassVar[str] = "notifications_refused"
    status: ClassVar[int] = 422

    def __init__(self, detail: str, **facts: str) -> None:
        self.facts = facts
        super().__init__(detail)


class UnknownCompanyError(NotificationsError):
    """This deployment does not collect for the company."""

    code = "company_unknown"


class LetterError(NotificationsError):
    """The permit's figures do not add up, so no letter may show them."""

    code = "letter_inconsistent"
