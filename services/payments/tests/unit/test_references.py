"""Which invoice a payer means."""

from __future__ import annotations

from uuid import UUID

import pytest

from cobranza.contracts.reasons import Reason
from cobranza.payments.domain.references import Directory, Invoice, normalised

ONE, TWO = UUID(int=1), UUID(int=2)


def invoice(invoice_id: UUID = ONE, *, customer: str = "C1", cancelled: bool = False) -> Invoice:
    return Invoice(
        company="acme-mx", invoice_id=invoice_id, customer=customer, number="F-1", system="sap", cancelled=cancelled
    )


def directory(*invoices: Invoice) -> Directory:
    return Directory(invoices, [("acme-mx", "f-1", known.invoice_id) for known in invoices])


@pytest.mark.parametrize("text", ["F-1", " f-1 ", "\tF-1\n"])
def test_case_and_spaces_around_do_not_matter(text: str) -> None:
    assert normalised(text) == "f-1"


def test_spaces_within_count_as_one() -> None:
    assert normalised("Factura   F-1") == "factura f-1"


@pytest.mark.parametrize("customer", ["C1", "C2", None])
def test_a_name_that_only_one_invoice_has_names_it_whoever_pays(customer: str | None) -> None:
    assert directory(invoice()).resolve("acme-mx", "f-1", customer=customer) == invoice()


def test_an_unknown_name_and_another_company_s_name_are_unknown() -> None:
    known = directory(invoice())

    assert known.resolve("acme-mx", "f-2", customer="C1") is Reason.REFERENCE_UNKNOWN
    assert known.resolve("other-mx", "f-1", customer="C1") is Reason.REFERENCE_UNKNOWN


def test_a_cancelled_invoice_is_not_meant() -> None:
    known = directory(invoice())
    known.cancel(ONE)

    assert known.resolve("acme-mx", "f-1", customer="C1") is Reason.CANCELLED
    assert known.get(ONE) == invoice(cancelled=True)


def test_the_living_one_of_two_is_meant() -> None:
    known = directory(invoice(cancelled=True), invoice(TWO, customer="C2"))

    assert known.resolve("acme-mx", "f-1", customer="C1") == invoice(TWO, customer="C2")


def test_the_payer_decides_between_two_and_otherwise_nobody_does() -> None:
    known = directory(invoice(), invoice(TWO, customer="C2"))

    assert known.resolve("acme-mx", "f-1", customer="C2") == invoice(TWO, customer="C2")
    assert known.resolve("acme-mx", "f-1", customer=None) is Reason.AMBIGUOUS_MATCH
    assert known.resolve("acme-mx", "f-1", customer="C3") is Reason.AMBIGUOUS_MATCH
    assert directory(invoice(), invoice(TWO)).resolve("acme-mx", "f-1", customer="C1") is Reason.AMBIGUOUS_MATCH


def test_what_is_learnt_is_found_by_every_name() -> None:
    known = Directory([], [])
    known.learn(invoice(), ["f-1", "a-uuid"])

    assert known.get(ONE) == invoice()
    assert known.get(TWO) is None
    for name in ("f-1", "a-uuid"):
        assert known.resolve("acme-mx", name, customer=None) == invoice()
