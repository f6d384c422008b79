"""Bank files by HTTP: a program checks, imports and undoes; a person sees what each line would be."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.payments.api import PAGES, router

_SPEC = importlib.util.spec_from_file_location("bank_files", Path(__file__).parents[1] / "bank_files.py")
assert _SPEC is not None
assert _SPEC.loader is not None
bank = sys.modules["bank_files"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bank)
Entry = bank.Entry


@pytest.fixture
async def client(ledger: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
        cursor_secret=b"s" * 32,
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/payments") as client:
        yield client


async def upload(client: httpx.AsyncClient, content: str, **fields: str) -> httpx.Response:
    return await client.post(
        "/v1/imports", data={"company": "acme-mx", **fields}, files={"file": ("enero.xml", content.encode())}
    )


async def test_a_program_checks_imports_and_undoes_a_file(ledger: Any, client: httpx.AsyncClient) -> None:
    checked = await upload(client, bank.camt(Entry("60.00", "A1", invoice="F-1", text="Pago")))
    assert (checked.status_code, checked.json()["state"]) == (200, "checked")
    address = f"/v1/imports/{checked.json()['import_id']}"
    company = {"company": "acme-mx"}

    imported = (await client.post(f"{address}/run", params=company)).json()
    again = (await client.post(f"{address}/run", params=company)).json()
    lines = (await client.get(f"{address}/lines", params={**company, "verdict": "new"})).json()["items"]
    undone = (await client.post(f"{address}/undo", params=company)).json()
    listed = (await client.get("/v1/imports", params=company)).json()["items"]

    assert (imported["state"], again["is_repeat"], undone["state"], len(listed)) == ("imported", True, "undone", 1)
    assert (lines[0]["amount"], lines[0]["references"], lines[0]["texts"]) == (
        {"amount": "60.00", "currency": "EUR"}, ["F-1"], ["Pago"],
    )  # fmt: skip
    assert (await client.get(address, params={"company": "fed-mx"})).status_code == 404


async def test_a_refused_file_is_a_problem_with_line_and_field(client: httpx.AsyncClient) -> None:
    refused = await upload(client, bank.camt(Entry("60.00", "A1"), closing="1.00"))

    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/bank-file-refused")
    assert "enero.xml, line 3, closing balance: expected 1.00 EUR" in refused.json()["detail"]


async def test_a_mapping_is_kept_and_used_by_name(client: httpx.AsyncClient) -> None:
    mapping = {
        "name": "mine", "title": "Mine", "currency": "EUR", "date_order": "dmy", "decimal": ",",
        "columns": {"booked_on": "Fecha", "amount": "Importe", "texts": "Texto"},
    }  # fmt: skip
    kept = await client.put("/v1/bank-mappings/mine", params={"company": "acme-mx"}, json=mapping)
    listed = (await client.get("/v1/bank-mappings", params={"company": "acme-mx"})).json()

    checked = await upload(client, "Fecha;Texto;Importe\n01/02/2027;x;5,00\n", mapping="mine", account="123456789")

    assert kept.status_code == 200
    assert [one["name"] for one in listed["saved"]] == ["mine"]
    assert {"bbva-mx", "santander-cl", "bancolombia", "es-bank"} <= {one["name"] for one in listed["shipped"]}
    assert checked.json()["lines"][0]["count"] == 1


async def test_a_person_checks_before_anything_is_imported(ledger: Any, client: httpx.AsyncClient) -> None:
    sent = await client.post(
        "/imports?company=acme-mx", files={"file": ("enero.xml", bank.camt(Entry("60.00", "A1")).encode())}
    )
    assert sent.status_code == 303
    shown = await client.get(f"http://localhost{sent.headers['location']}")
    listed = await client.get("/imports?company=acme-mx&lang=en")

    assert "1 movimientos nuevos, 0 ya conocidos." in shown.text
    assert "enero.xml" in listed.text
    assert await ledger.value("SELECT count(*) FROM receipt") == 0


async def test_a_person_sees_every_fault_of_a_refused_file(client: httpx.AsyncClient) -> None:
    await client.post(
        "/bank-mappings?company=acme-mx",
        data={"text": "{name: mine, title: M, currency: EUR, date_order: dmy, decimal: ',',"
              " columns: {booked_on: Fecha, amount: Importe}}"},
    )  # fmt: skip
    shown = await client.post(
        "/imports?company=acme-mx&lang=en",
        data={"mapping": "mine", "account": "123456789"},
        files={"file": ("enero.csv", b"Fecha;Importe\n31/31/2027;5,00\n01/02/2027;5.0.0\n")},
    )

    assert shown.status_code == 422
    for words in ("a date DD/MM/YYYY", "31/31/2027", "5.0.0", "nothing of it was imported"):
        assert words in shown.text


async def test_a_fault_is_told_in_the_reader_s_language(client: httpx.AsyncClient) -> None:
    shown = await client.post(
        "/imports?company=acme-mx&lang=es",
        files={"file": ("enero.xml", bank.camt(Entry("60.00", "A1"), closing="1.00"))},
    )

    assert shown.status_code == 422
    assert "1.00 EUR, como dice el registro de control del propio archivo" in shown.text


async def test_a_wrong_mapping_is_told_with_its_key(client: httpx.AsyncClient) -> None:
    shown = await client.post("/bank-mappings?company=acme-mx", data={"text": "{name: mine}"})

    assert (shown.status_code, "title" in shown.text) == (422, True)


def test_every_text_of_the_pages_has_its_spanish() -> None:
    assert PAGES.untranslated() == set()
