"""Invoicing's refusals.

InvoicingError
├── InstalmentsMismatchError   instalments do not sum to what is payable
├── CurrencyMismatchError      two currencies in one document
├── RevisionConflictError      the same revision with other content, or a forbidden change
├── UnknownInvoiceError        the document names an invoice that was never issued
├── UnknownCompanyError        this deployment does not collect for the company
└── CreditExceedsError         a credit note applies more than it is worth
"""

from __future__ import annotations

from typing import ClassVar


class InvoicingError(Exception):
    """An input is refused; `facts` say with which values."""

    code: ClassVar[str] = "invoicing_refused"
    status: ClassVar[int] = 422

    def __init__(self, detail: str, *, pointer: str | None = None, **facts: str) -> None:
        self.pointer = pointer
        self.facts = facts
        super().__init__(detail)


class InstalmentsMismatchError(InvoicingError):
    """The instalments do not sum to what is payable."""

    code = "instalments_mismatch"


class CurrencyMismatchError(InvoicingError):
    """Two currencies meet in one document."""

    code = "currency_mismatch"


class RevisionConflictError(InvoicingError):
    """The content contradicts what was accepted: a credit note or a replacement is needed."""

    code = "conflict"
    status = 409


class UnknownInvoiceError(InvoicingError):
    """The named invoice was never issued here."""

    code = "invoice_unknown"


class UnknownCompanyError(InvoicingError):
    """This deployment does not collect for the company."""

    code = "company_unknown"


class CreditExceedsError(InvoicingError):
    """A credit note applies more to invoices than its own amount."""

    code = "credit_exceeds_amount"
