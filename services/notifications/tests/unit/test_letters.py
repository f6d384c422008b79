"""Letters: the same content as text and HTML, every figure the permit's, and nothing smuggled in."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, date, datetime
from email import policy
from email.parser import BytesParser
from html import unescape
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.contracts.money import Money
from cobranza.contracts.payments import NoticePermitAnswer, PermitLine
from cobranza.contracts.reasons import Reason
from cobranza.notifications.domain.errors import LetterError
from cobranza.notifications.domain.letter import (
    Document,
    HowToPay,
    LetterFacts,
    Party,
    Person,
    Receipt,
    demand_of,
    reference_of,
)
from cobranza.notifications.gateways.letters import LetterNotWrittenError, Letters, language_of
from cobranza.notifications.gateways.mail import Mail, compose

LETTERS = Letters()
NOTICE = UUID("f0c48511-d2e8-52be-8898-466d8d5eb6b1")
AS_OF = date(2027, 1, 15)


def permit(*lines: Any, credit: Any = "0.00", claimed: Any = None) -> Any:
    currency = lines[0].currency
    shown = Money.of(credit, currency)
    total = Money.from_minor(sum(line.minor("claimable") for line in lines), currency) - shown
    return NoticePermitAnswer(
        notice_id=NOTICE,
        attempt=1,
        granted=True,
        asked_at=datetime(2027, 1, 15, tzinfo=UTC),
        lines=lines,
        credit=shown,
        claimed=total if claimed is None else Money.of(claimed, currency),
    )


@pytest.fixture
def facts(told: Any) -> Any:
    lines = (
        told.permit_line("F-2", open="500.00", disputed="200.00", claimable="300.00"),
        told.permit_line("F-1", due_on=date(2026, 12, 16)),
    )
    documents = {lines[1].invoice_id: Document("Material eléctrico", "A1B2-C3")}
    return LetterFacts(
        reference=reference_of(NOTICE),
        as_of=datetime(2027, 1, 15, 9, 30, tzinfo=ZoneInfo("America/Mexico_City")),
        creditor=Party("Acme Distribuciones, S.A. de C.V.", "ADI010203AB1"),
        country="MX",
        debtor=Party("Ferretería Núñez", "C-1"),
        contact=Person("Lucía Ortega", "cobranza@acme.example", "+52 55 5555 0101"),
        how_to_pay=HowToPay(
            "Banco del Centro", "Acme", "CLABE 012180001234567899", "C-1", "https://pay.acme.example/C-1"
        ),
        demand=demand_of(permit(*lines, credit="60.00"), documents=documents, as_of=AS_OF),
        receipt=None,
    )


@pytest.fixture
def thanks(facts: Any) -> Any:
    receipt = Receipt(Money.of("1160.00", "MXN"), date(2027, 1, 14), ("F-1", "TRF 99"))
    return dataclasses.replace(facts, demand=None, how_to_pay=None, receipt=receipt)


DEMANDS = [
    ("aviso-1", "friendly"),
    ("aviso-1", "neutral"),
    ("aviso-2", "firm"),
    ("requerimiento", "formal"),
    ("aviso-final", "formal"),
    ("reminder", "friendly"),
    ("reminder", "neutral"),
]


def words_of(html: Any) -> Any:
    """The words a person reads in an HTML letter."""
    body = html.partition("<body")[2].partition(">")[2]
    return unescape(re.sub(r"<[^>]+>", " ", body))


@pytest.mark.parametrize("language", ["es-MX", "en"])
@pytest.mark.parametrize(("template", "tone"), DEMANDS)
def test_every_demand_reads_as_its_golden_letter(
    facts: Any, golden: Any, template: Any, tone: Any, language: Any
) -> None:
    letter = LETTERS.write(facts, template=template, tone=tone, language=language)

    assert f"{letter.subject}\n\n{letter.text}\n" == (golden / f"{template}.{tone}.{language}.txt").read_text("utf-8")
    assert f"{letter.html}\n" == (golden / f"{template}.{tone}.{language}.html").read_text("utf-8")


@pytest.mark.parametrize("language", ["es-MX", "en"])
def test_the_confirmation_reads_as_its_golden_letter(thanks: Any, golden: Any, language: Any) -> None:
    letter = LETTERS.write(thanks, template="payment-confirmation", tone="friendly", language=language)

    name = f"payment-confirmation.friendly.{language}.txt"
    assert f"{letter.subject}\n\n{letter.text}\n" == (golden / name).read_text("utf-8")


@pytest.mark.parametrize("language", ["es-MX", "en"])
@pytest.mark.parametrize(("template", "tone"), DEMANDS)
def test_text_and_html_say_the_same(facts: Any, template: Any, tone: Any, language: Any) -> None:
    letter = LETTERS.write(facts, template=template, tone=tone, language=language)

    html = set(re.findall(r"[\w.,/-]+", words_of(letter.html).casefold()))
    missing = [word for word in re.findall(r"[\w.,/-]+", letter.text.casefold()) if word not in html]
    assert missing == []


def test_every_required_content_is_there(facts: Any) -> None:
    text = LETTERS.write(facts, template="aviso-1", tone="friendly", language="es-MX").text

    for required in (
        "Acme Distribuciones", "ADI010203AB1", "Ferretería Núñez", "F-1", "A1B2-C3", "Material eléctrico",
        "01-dic-2026", "16-dic-2026", "1,160.00", "660.00", "500.00", "Días vencida: 30", "MXN",
        "15-ene-2027 09:30", "Si ya pagó", "Banco del Centro", "CLABE 012180001234567899", "Referencia: C-1",
        "https://pay.acme.example/C-1", "Lucía Ortega", "cobranza@acme.example", "+52 55 5555 0101", "F0C4-8511-D2E8",
        "no está de acuerdo", "oponerse",
    ):  # fmt: skip
        assert required in text


def test_disputed_parts_and_credit_are_shown_apart_and_not_claimed(facts: Any) -> None:
    text = LETTERS.write(facts, template="aviso-1", tone="friendly", language="en").text

    assert "Total open: 1,660.00 MXN" in text
    assert "Disputed, promised or in a payment plan: \N{MINUS SIGN}200.00 MXN" in text
    assert "Credit in your favour: \N{MINUS SIGN}60.00 MXN" in text
    assert "Total to pay: 1,400.00 MXN" in text


def test_amounts_follow_the_creditors_country(facts: Any, told: Any) -> None:
    line = told.permit_line(currency="CLP", issued="1160000", open="1160000", disputed="0", promised="0", planned="0",
                            claimable="1160000")  # fmt: skip
    chilean = dataclasses.replace(
        facts, country="CL", demand=demand_of(permit(line, credit="0"), documents={}, as_of=AS_OF)
    )

    letter = LETTERS.write(chilean, template="aviso-1", tone="friendly", language="es-CL")

    assert letter.subject == "Factura F-1: 1.160.000 CLP por pagar"


@pytest.mark.parametrize(
    ("asked", "written"), [("es-MX", "es-MX"), ("es-CL", "es-MX"), ("es", "es-MX"), ("en-GB", "en"), ("fr", "en")]
)
def test_languages_fall_back(asked: Any, written: Any) -> None:
    assert language_of(asked) == written


def test_every_template_is_listed_with_a_hash_of_all_it_is_made_of() -> None:
    written = LETTERS.written()

    assert {(one.template, one.tone) for one in written} == {*DEMANDS, ("payment-confirmation", "friendly")}
    assert {one.language for one in written} == {"es-MX", "en"}
    assert len({one.sha256 for one in written}) == len(written) == 2 * (len(DEMANDS) + 1)


def test_a_template_that_is_not_there_is_said_so(facts: Any) -> None:
    with pytest.raises(LetterNotWrittenError) as refused:
        LETTERS.write(facts, template="aviso-9", tone="friendly", language="es-MX")

    assert refused.value.reason is Reason.TEMPLATE_MISSING


@pytest.mark.parametrize(
    ("template", "asked", "written"),
    [("aviso-1", "formal", "neutral"), ("reminder", "formal", "neutral"), ("aviso-2", "friendly", "firm")],
)
def test_a_tone_that_a_template_lacks_gives_its_nearest_softer_first(
    facts: Any, template: Any, asked: Any, written: Any
) -> None:
    letter = LETTERS.write(facts, template=template, tone=asked, language="es-MX")

    assert letter == LETTERS.write(facts, template=template, tone=written, language="es-MX")


def test_a_template_that_misses_a_value_writes_nothing(facts: Any) -> None:
    with pytest.raises(LetterNotWrittenError) as refused:
        LETTERS.write(facts, template="payment-confirmation", tone="friendly", language="es-MX")

    assert refused.value.reason is Reason.RENDER_FAILED


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ 7*7 }}",
        "{% for x in y %}",
        "<script>alert(1)</script>",
        "a\r\nBcc: victim@example.test",
        "\u2028x",
        "{{ creditor.__class__ }}",
    ],
)
def test_what_others_state_is_text_wherever_it_is_shown(facts: Any, hostile: Any) -> None:
    row = dataclasses.replace(facts.demand.rows[0], number=hostile, concept=hostile, fiscal_id=hostile)
    attacked = dataclasses.replace(
        facts, debtor=Party(hostile, hostile), demand=dataclasses.replace(facts.demand, rows=(row,))
    )
    shown = " ".join(re.sub(r"[\r\n\u2028]", " ", hostile).split())

    letter = LETTERS.write(attacked, template="aviso-1", tone="friendly", language="en")
    content = bytes(compose(a_mail(subject=letter.subject, text=letter.text, html=letter.html, recipient_name=shown)))

    assert f"Invoice {shown}:" in letter.subject
    assert letter.text.count(shown) >= 4
    assert "<script>" not in letter.html
    parsed = BytesParser(policy=policy.default).parsebytes(content)
    assert parsed["Bcc"] is None
    assert parsed["To"].addresses[0].addr_spec == "a@example.test"
    assert len(parsed["To"].addresses) == 1


def a_mail(**changes: Any) -> Any:
    values = {
        "notice_id": NOTICE,
        "sender_name": "Acme",
        "sender": "cobranza@acme.example",
        "reply_to": "cobranza@acme.example",
        "recipient_name": "Ana",
        "recipient": "a@example.test",
        "subject": "s",
        "text": "t\n",
        "html": "<p>t</p>",
        "language": "es-MX",
        "delivery": "live",
        "written_at": datetime(2027, 1, 15, tzinfo=UTC),
    }
    return Mail(**{**values, **changes})


@pytest.mark.parametrize("field", ["subject", "recipient_name", "sender_name", "reply_to"])
def test_a_line_break_in_a_header_is_refused(field: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        compose(a_mail(**{field: "x\r\nBcc: victim@example.test"}))


def test_the_message_id_is_the_notices() -> None:
    assert compose(a_mail())["Message-ID"] == f"<{NOTICE}@acme.example>"


def test_a_permit_whose_sum_differs_makes_no_letter(told: Any) -> None:
    with pytest.raises(LetterError):
        demand_of(permit(told.permit_line(), claimed="1159.99"), documents={}, as_of=AS_OF)


def test_two_currencies_make_no_letter(told: Any) -> None:
    with pytest.raises(LetterError):
        demand_of(permit(told.permit_line(), told.permit_line("F-2", currency="USD")), documents={}, as_of=AS_OF)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9)).map(
            lambda parts: (sum(parts), parts[0] + parts[1], parts[0])
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 10**6),
)
def test_open_less_apart_less_credit_is_what_is_claimed(amounts: Any, credit_minor: Any) -> None:
    lines = tuple(
        PermitLine.model_validate(
            {
                "currency": "MXN", "receivable_id": UUID(int=place), "number": f"F-{place}", "kind": "invoice",
                "issued_on": date(2026, 12, 1), "due_on": date(2026, 12, 31), "version": 1,
                **{name: Money.from_minor(minor, "MXN").amount for name, minor in (
                    ("issued", issued), ("open", still_open), ("claimable", claimable),
                    ("disputed", still_open - claimable), ("promised", 0), ("planned", 0))},
            }
        )
        for place, (issued, still_open, claimable) in enumerate(amounts)
    )  # fmt: skip
    credit = min(credit_minor, sum(claimable for _, _, claimable in amounts))

    demand = demand_of(permit(*lines, credit=str(Money.from_minor(credit, "MXN").amount)), documents={}, as_of=AS_OF)

    assert demand.open - demand.apart - demand.credit == demand.claimed
    assert demand.open == sum((row.open for row in demand.rows), Money.zero("MXN"))
    assert all(row.original - row.paid == row.open for row in demand.rows)
