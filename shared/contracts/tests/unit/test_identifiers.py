from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts import identifiers

CASE = UUID("0195c3a0-7b4e-7001-9f21-4b6d2c8e0001")
CAUSE = UUID("0195c3a0-7b4e-7002-9f21-4b6d2c8e0002")

PINNED = {
    "invoice": "886a4725-6ee4-533f-bd10-bc3c55163246",
    "receivable": "12f3eb2d-fe06-5c6b-be55-a921c54eacd7",
    "payment": "f6da6292-0a75-523f-9cbf-fd7940155a83",
    "credit_note": "d9729b77-f009-5722-8f2f-7e871bd2a58d",
    "allocation": "d35a9f34-a86b-54bb-84b4-4238469d1d80",
    "late_charge": "0d1e2933-9bca-57aa-a50f-7b10df7f9845",
    "fiscal_receipt": "d8092fc8-2cc0-5e96-843c-2e9b77207a07",
    "notice": "5e23e4b1-d326-513c-ba5b-1836fd13fb29",
    "informative_notice": "4111c185-347d-5672-98b5-151c85cd1f0b",
    "contact_point": "9cb59e88-81e2-5b9d-b39f-69a787942f7e",
    "event": "15998871-808d-5b08-801d-8cad451bb207",
    "ingress_event": "791eec59-0a93-54b6-bf47-17c53b06985f",
}


def test_derived_ids_never_change() -> None:
    invoice = identifiers.invoice_id("acme-mx", "sap", "0090001234")
    receivable = identifiers.receivable_id(invoice, 1)
    payment = identifiers.payment_id("acme-mx", "sap", "1400000321")

    found = {
        "invoice": invoice,
        "receivable": receivable,
        "payment": payment,
        "credit_note": identifiers.credit_note_id("acme-mx", "sap", "0090001777"),
        "allocation": identifiers.allocation_id(cause=CAUSE, payment=payment, receivable=receivable),
        "late_charge": identifiers.late_charge_receivable_id(
            company="acme-mx", case_id=CASE, step="cargo", run=1, receivable=receivable, code="gestion"
        ),
        "fiscal_receipt": identifiers.fiscal_receipt_id(company="acme-mx", customer="C-1042", period="2027-01"),
        "notice": identifiers.notice_id(company="acme-mx", case_id=CASE, step="aviso-1", run=1, channel="email"),
        "informative_notice": identifiers.informative_notice_id(
            purpose="payment_confirmation", cause=CAUSE, channel="email"
        ),
        "contact_point": identifiers.contact_point_id(
            company="acme-mx", customer="C-1042", channel="email", value="pagos@example.test"
        ),
        "event": identifiers.event_id(
            cause=CAUSE, service="payments", type="cobranza.payments.receivable-changed.v1", subject="receivable/1"
        ),
        "ingress_event": identifiers.ingress_event_id("/erp/acme-mx/sap", "invoice-1"),
    }

    assert {name: str(value) for name, value in found.items()} == PINNED


def test_one_external_id_on_three_documents_gives_three_ids() -> None:
    parts = ("acme-mx", "sap", "1")
    ids = {
        identifiers.invoice_id(*parts),
        identifiers.payment_id(*parts),
        identifiers.credit_note_id(*parts),
    }
    assert len(ids) == 3


@given(st.lists(st.integers(min_value=1, max_value=500), min_size=2, max_size=20, unique=True))
def test_instalments_of_an_invoice_have_ids_of_their_own(numbers: list[int]) -> None:
    invoice = identifiers.invoice_id("acme-mx", "sap", "1")
    assert len({identifiers.receivable_id(invoice, number) for number in numbers}) == len(numbers)


def test_undoing_an_allocation_has_an_id_of_its_own() -> None:
    done = identifiers.allocation_id(cause=CAUSE, payment=CASE, receivable=CASE)
    undone = identifiers.allocation_id(cause=CAUSE, payment=CASE, receivable=CASE, reverses=done)
    assert done != undone


def test_the_key_names_company_and_customer() -> None:
    assert identifiers.partition_key("acme-mx", "C-1042") == "acme-mx|C-1042"


def test_the_key_without_a_known_customer_is_a_dash() -> None:
    assert identifiers.partition_key("acme-mx", None) == "acme-mx|-"
