"""Which invoice a payer means by a number, a fiscal id or an external id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from cobranza.contracts.invoicing import InvoiceState
from cobranza.contracts.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What payments needs to know of an invoice."""

    company: str
    invoice_id: UUID
    customer: str
    number: str
    system: str
    cancelled: bool = False


def normalised(reference: str) -> str:
    """A reference as it is compared: payers do not keep to upper and lower case."""
    return " ".join(reference.split()).casefold()


def references_of(told: InvoiceState) -> frozenset[str]:
    """Everything a payer, or a credit note, may call an invoice."""
    names = (told.number, told.fiscal_id, told.external.id, str(told.invoice_id))
    return frozenset(normalised(name) for name in names if name)


class Directory:
    """The invoices of a batch by what they are called."""

    def __init__(self, invoices: Iterable[Invoice], names: Iterable[tuple[str, str, UUID]]) -> None:
        """Args: `names` are (company, normalised reference, invoice id)."""
        self._invoices = {invoice.invoice_id: invoice for invoice in invoices}
        self._named: dict[tuple[str, str], set[UUID]] = defaultdict(set)
        for company, reference, invoice_id in names:
            self._named[company, reference].add(invoice_id)

    def get(self, invoice_id: UUID) -> Invoice | None:
        """An invoice by its id."""
        return self._invoices.get(invoice_id)

    def learn(self, invoice: Invoice, references: Iterable[str]) -> None:
        """Know an invoice by these references from now on."""
        self._invoices[invoice.invoice_id] = invoice
        for reference in references:
            self._named[invoice.company, reference].add(invoice.invoice_id)

    def cancel(self, invoice_id: UUID) -> None:
        """A cancelled invoice is not what a payer means."""
        self._invoices[invoice_id] = replace(self._invoices[invoice_id], cancelled=True)

    def resolve(self, company: str, reference: str, *, customer: str | None) -> Invoice | Reason:
        """The one invoice that is meant, or why there is none.

        Args:
            reference: normalised.
            customer: decides between several invoices of that name.
        """
        found = [self._invoices[i] for i in sorted(self._named.get((company, reference), ()))]
        if not found:
            return Reason.REFERENCE_UNKNOWN
        alive = [invoice for invoice in found if not invoice.cancelled]
        if not alive:
            return Reason.CANCELLED
        if len(alive) > 1:
            alive = [invoice for invoice in alive if invoice.customer == customer]
        return alive[0] if len(alive) == 1 else Reason.AMBIGUOUS_MATCH
