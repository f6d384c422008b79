"""What an invoice must be, and which changes of it are allowed."""

from __future__ import annotations

from cobranza.contracts.ingress import CreditNoteIssued
from cobranza.contracts.invoicing import InvoiceTerms
from cobranza.contracts.money import Money
from cobranza.invoicing.domain.errors import (
    CreditExceedsError,
    CurrencyMismatchError,
    InstalmentsMismatchError,
    RevisionConflictError,
)


def check_invoice(terms: InvoiceTerms) -> None:
    """Check what the shape alone cannot tell.

    Raises:
        CurrencyMismatchError: an instalment or the discount is in another currency.
        InstalmentsMismatchError: the instalments do not sum to `payable`, or a number comes twice.
    """
    currency = terms.payable.currency
    amounts = [instalment.amount for instalment in terms.instalments]
    if terms.discount is not None:
        amounts.append(terms.discount.amount)
    for amount in amounts:
        if amount.currency != currency:
            raise CurrencyMismatchError(
                f"payable is in {currency}, an amount in {amount.currency}", pointer="/instalments"
            )
    total = sum((instalment.amount for instalment in terms.instalments), Money.zero(currency))
    if total != terms.payable:
        raise InstalmentsMismatchError(
            f"instalments sum to {total}, payable is {terms.payable}",
            pointer="/instalments",
            instalments_sum=str(total.amount),
            payable=str(terms.payable.amount),
        )
    numbers = [instalment.number for instalment in terms.instalments]
    if len(set(numbers)) != len(numbers):
        raise InstalmentsMismatchError("two instalments have the same number", pointer="/instalments")


def check_change(before: InvoiceTerms, after: InvoiceTerms) -> None:
    """Check that `after` changes dates or texts of `before` and nothing that is owed.

    Raises:
        RevisionConflictError: amount, currency, customer or the amount of an instalment differs.
    """
    if before.customer != after.customer:
        raise _owed("customer", before.customer, after.customer)
    if before.payable != after.payable:
        raise _owed("payable", before.payable, after.payable)
    if _parts(before) != _parts(after):
        raise _owed("instalments", len(before.instalments), len(after.instalments))


def _parts(terms: InvoiceTerms) -> dict[int, Money]:
    return {instalment.number: instalment.amount for instalment in terms.instalments}


def _owed(field: str, before: object, after: object) -> RevisionConflictError:
    return RevisionConflictError(
        f"{field} changed from {before} to {after}: a credit note or a replacement is needed",
        pointer=f"/{field}",
    )


def check_credit_note(note: CreditNoteIssued) -> None:
    """Check that a credit note does not give more to invoices than it has.

    Raises:
        CurrencyMismatchError: a part is in another currency.
        CreditExceedsError: the parts exceed the amount.
    """
    total = Money.zero(note.amount.currency)
    for part in note.applies_to:
        if part.amount.currency != note.amount.currency:
            raise CurrencyMismatchError(
                f"the note is in {note.amount.currency}, a part in {part.amount.currency}", pointer="/applies_to"
            )
        total += part.amount
    if total > note.amount:
        raise CreditExceedsError(f"the parts sum to {total}, the note is over {note.amount}", pointer="/applies_to")
