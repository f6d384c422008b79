"""Previews and back-tests asked for over HTTP and on the page Simulator, played in the background."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.chassis.page import _known_texts
from cobranza.dunning import gateways, repository
from cobranza.dunning.use_cases import policies, preview, trials

COMPANY = "acme-mx"
V1 = "friendly-b2b@1"


@pytest.fixture
async def client(service: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"dunning": service.service.router(service.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=service.context.companies, clock=service.clock),
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


def _asked(**changes: object) -> dict[str, object]:
    return {
        "company": COMPANY,
        "from": "2027-01-04",
        "to": "2027-03-31",
        "policy": {"document": gateways.read_source("strict")},
        "against": {"policy": "friendly-b2b", "version": 1},
        **changes,
    }


async def _ask(client: httpx.AsyncClient, key: str = "k-1", **changes: object) -> httpx.Response:
    return await client.post("/dunning/v1/back-tests", json=_asked(**changes), headers={"Idempotency-Key": key})


async def _play(service: Any) -> bool:
    """The worker's next look."""
    (job,) = [job for job in service.service.jobs(service.context) if job.name == "trials"]
    return bool(await job.run())


async def _portfolio(service: Any) -> None:
    await service.activate()
    for n in range(1, 4):
        await service.customer(f"C-{n}")
    await service.tell(
        *(
            service.receivable(f"F-{n}", due, customer=f"C-{n}")
            for n, due in ((1, "01-08"), (2, "01-10"), (3, "01-12"))
        ),
        service.receivable("U-1", "01-10", customer="C-9", currency="USD"),
    )


async def _draft(service: Any) -> None:
    """The strict steps as the second version of the policy in force."""
    document, _ = gateways.parse(
        gateways.read_source("strict")
        .replace("policy: strict", "policy: friendly-b2b")
        .replace("version: 1", "version: 2")
    )
    async with service.database.transaction() as tx:
        await policies.load_policy(service.desk, tx, document, company=COMPANY)


async def _every_table(service: Any) -> dict[str, str]:
    """A hash of each table but that of the trials themselves and of the keys of requests."""
    names = await service.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND has_table_privilege(oid, 'SELECT') AND relname NOT IN ('policy_trial', 'idempotency')"
    )
    hashed = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"
    return {name: (await service.rows(hashed.format(name)))[0][0] for (name,) in names}


async def test_a_back_test_is_asked_for_played_and_read(service: Any, client: httpx.AsyncClient) -> None:
    await _portfolio(service)
    before = await _every_table(service)

    asked = await _ask(client)
    waiting = (await client.get(asked.headers["location"])).json()
    early = await client.get(asked.headers["location"] + "&format=csv")
    assert [await _play(service), await _play(service)] == [True, False]
    found = (await client.get(asked.headers["location"])).json()

    assert (asked.status_code, waiting["state"], waiting["result"]) == (202, "waiting", None)
    assert (early.status_code, early.json()["type"]) == (409, "/problems/trial-not-ended")
    assert (found["state"], found["played"], found["accounts"], found["fault"]) == ("done", 4, 4, None)
    assert (found["policy"], found["against"]) == (None, {"policy": "friendly-b2b", "version": 1})
    result = found["result"]
    assert (result["debtors"], result["others"], result["differing"]) == (3, 1, 3)
    assert result["assumes"] == list(preview.BACK_TEST_ASSUMES)
    by_count = {row["count"]: row for row in result["totals"]}
    for count, row in by_count.items():
        days = [day for day in result["days"] if day["count"] == count]
        assert row["policy"] == sum(day["policy"] for day in days)
        assert row["against"] == sum(day["against"] for day in days)
        assert row["difference"] == row["policy"] - row["against"]
    assert {day["segment"] for day in result["days"]} == {"standard"}
    act = result["samples"][0]["only_policy"][0]
    assert (act["items"][0]["amount"], act["claimed"]) == ("58000.00 MXN", "58000.00 MXN")
    assert await _every_table(service) == before


async def test_a_back_test_is_a_file_too(service: Any, client: httpx.AsyncClient) -> None:
    await _portfolio(service)
    place = (await _ask(client)).headers["location"]
    await _play(service)

    days = (await client.get(place)).json()["result"]["days"]
    table = await client.get(place + "&format=csv")
    sheet = await client.get(place + "&format=xlsx")

    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"))))
    assert [(row["day"], row["count"], row["difference"]) for row in rows] == [
        (day["day"], day["count"], str(day["difference"])) for day in days
    ]
    assert zipfile.is_zipfile(io.BytesIO(sheet.content))


async def test_a_repeated_request_is_one_back_test(service: Any, client: httpx.AsyncClient) -> None:
    await _portfolio(service)

    first, again = await _ask(client), await _ask(client)

    assert first.json() == again.json()
    assert len((await client.get(f"/dunning/v1/back-tests?company={COMPANY}")).json()) == 1


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"to": "2027-01-03"}, 422, "preview-refused"),
        ({"to": "2029-01-03"}, 422, "preview-refused"),
        ({"against": {"policy": "friendly-b2b", "version": 7}}, 404, "policy-unknown"),
        ({"against": {"policy": "friendly-b2b-usd", "version": 1}}, 422, "preview-refused"),
        ({"policy": {"document": "policy: x\nsteps: 3\n"}}, 422, "policy-refused"),
        ({"policy": {"document": "- : ["}}, 422, "policy-refused"),
        ({"policy": {}}, 422, "validation-failed"),
        ({"company": "nobody"}, 422, "company-unknown"),
    ],
)
async def test_what_cannot_be_played_is_refused_at_once(
    service: Any, client: httpx.AsyncClient, changes: dict[str, Any], status: int, problem: str
) -> None:
    await service.activate()

    refused = await _ask(client, **changes)

    assert (refused.status_code, refused.json()["type"]) == (status, f"/problems/{problem}")
    assert not await _play(service)


async def test_a_faulty_policy_is_answered_with_every_line(service: Any, client: httpx.AsyncClient) -> None:
    source = gateways.read_source("strict").replace("kind: notice", "kind: notise", 1)
    line = next(n for n, text in enumerate(source.splitlines(), 1) if "notise" in text)

    refused = (await _ask(client, policy={"document": source})).json()

    assert line in {fault["line"] for fault in refused["faults"]}


@pytest.mark.parametrize(
    "named", [{}, {"policy": "friendly-b2b"}, {"version": 1}, {"policy": "friendly-b2b", "version": 1, "document": "x"}]
)
async def test_a_policy_is_named_in_one_way(service: Any, client: httpx.AsyncClient, named: dict[str, object]) -> None:
    refused = (await _ask(client, policy=named)).json()

    [fault] = refused["errors"]
    assert (fault["pointer"], "policy and version, or document" in fault["detail"]) == ("/policy", True)


async def test_a_policy_of_another_company_is_refused(service: Any, client: httpx.AsyncClient) -> None:
    await service.activate()
    filled = (
        gateways.read_source("strict")
        + "\ncompany: other\ncurrency: MXN\ntimezone: America/Mexico_City\ncalendar: mx-business\nlanguages: [es-MX]\n"
    )

    refused = await _ask(client, policy={"document": filled})

    assert (refused.status_code, "other" in refused.json()["detail"]) == (422, True)


async def test_the_ten_newest_are_kept_and_five_may_wait(service: Any, client: httpx.AsyncClient) -> None:
    await service.activate()
    for n in range(12):
        assert (await _ask(client, f"k-{n}", to="2027-01-05")).status_code == 202
        await _play(service)
    waiting = [(await _ask(client, f"w-{n}", to="2027-01-05")).status_code for n in range(trials.MOST_OPEN + 1)]

    assert waiting == [202] * trials.MOST_OPEN + [429]
    kept = (await client.get(f"/dunning/v1/back-tests?company={COMPANY}")).json()
    assert len(kept) == repository.KEPT_TRIALS
    assert [one["state"] for one in kept[: trials.MOST_OPEN]] == ["waiting"] * trials.MOST_OPEN


async def test_a_trial_whose_worker_ended_is_begun_again_and_at_last_given_up(
    service: Any, client: httpx.AsyncClient
) -> None:
    await _portfolio(service)
    place = (await _ask(client)).headers["location"]

    async with service.database.transaction() as tx:
        assert await repository.begin_trial(tx) is not None
    assert (await client.get(place)).json()["state"] == "running"
    await _play(service)
    assert (await client.get(place)).json()["state"] == "done"

    place = (await _ask(client, "k-2")).headers["location"]
    for _ in range(5):
        async with service.database.transaction() as tx:
            await repository.begin_trial(tx)
    await _play(service)
    given_up = (await client.get(place)).json()
    assert (given_up["state"], given_up["fault"]["code"]) == ("failed", "given_up")


async def test_a_worker_that_stops_leaves_the_trial_to_the_next(
    service: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    await _portfolio(service)
    place = (await _ask(client)).headers["location"]
    began = asyncio.Event()
    loop = asyncio.get_running_loop()
    back_test = preview.back_test

    async def slow(*arguments: Any, told: Any, **named: Any) -> Any:
        loop.call_soon_threadsafe(began.set)
        for played in range(1000):
            told(played)
            await asyncio.sleep(0.01)
        return await back_test(*arguments, told=told, **named)

    with monkeypatch.context() as patched:
        patched.setattr(preview, "back_test", slow)
        working = asyncio.create_task(_play(service))
        await began.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    assert (await client.get(place)).json()["state"] == "running"
    await _play(service)
    assert (await client.get(place)).json()["state"] == "done"


async def test_a_fault_of_ours_ends_the_trial(
    service: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _portfolio(service)
    place = (await _ask(client)).headers["location"]

    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(preview, "back_test", broken)
    with pytest.raises(ZeroDivisionError):
        await _play(service)

    found = (await client.get(place)).json()
    assert (found["state"], found["fault"]["code"]) == ("failed", "internal_error")
    shown = await client.get(f"/dunning/simulator/{found['back_test_id']}?company={COMPANY}")
    assert "Un error nuestro" in shown.text


async def test_a_preview_is_read_by_parts_or_as_a_file(service: Any, client: httpx.AsyncClient) -> None:
    await _portfolio(service)
    address = f"/dunning/v1/preview?company={COMPANY}&on=2027-01-14"

    part = (await client.get(address + "&limit=1")).json()
    rest = (await client.get(address + f"&after={part['next']}")).json()
    table = await client.get(address + "&format=csv&limit=1")
    tried = (await client.get(address + "&policy=friendly-b2b@1")).json()
    unknown = await client.get(address + "&policy=friendly-b2b@9&format=csv")
    over = await client.get(f"/dunning/v1/preview?company={COMPANY}&on=2026-01-14&format=xlsx")

    customers = [item["customer"] for item in part["items"] + rest["items"]]
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"))))
    assert [row["customer"] for row in rows] == customers
    assert {item["customer"] for item in tried["items"]} == {"C-1", "C-2", "C-3"}
    assert (unknown.status_code, over.status_code) == (404, 422)


async def test_another_company_and_a_key_without_the_scope_see_nothing(
    service: Any, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await _portfolio(service)
    place = (await _ask(client)).headers["location"]
    keys = tmp_path / "keys.yaml"
    digest = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("other", "cases")}
    keys.write_text(
        json.dumps(
            [
                {"name": "other", "sha256": digest["other"], "scopes": ["*"], "companies": ["andes-cl"]},
                {"name": "cases", "sha256": digest["cases"], "scopes": ["cases:read"], "companies": [COMPANY]},
            ]
        ),
        encoding="utf-8",
    )
    app = http.create_app(
        {"dunning": service.service.router(service.context)},
        access=http.KeyAccess(keys),
        frame=page.Frame(companies=service.context.companies, clock=service.clock),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as guarded:
        read = [
            (await guarded.get(place, headers={"Authorization": f"Bearer {key}"})).status_code
            for key in ("other", "cases")
        ]
        asked = [
            (
                await guarded.post(
                    "/dunning/v1/back-tests",
                    json=_asked(),
                    headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "k"},
                )
            ).status_code
            for key in ("other", "cases")
        ]

    assert (read, asked) == ([404, 403], [404, 403])


async def test_the_page_simulates_a_day(service: Any, client: httpx.AsyncClient) -> None:
    await _portfolio(service)
    before = await _every_table(service)

    empty = await client.get(f"/dunning/simulator?company={COMPANY}")
    asked = await client.post(
        f"/dunning/simulator/previews?company={COMPANY}", data={"on": "2027-01-14", "in_place": ""}
    )
    place = asked.headers["location"]
    waiting = await client.get(place)
    await _play(service)
    shown = await client.get(place)
    english = await client.get(place + "&lang=en")
    fragment = await client.get(place, headers={"HX-Request": "true"})
    table = await client.get(place + "&format=csv")

    assert "No se envía nada" in empty.text
    assert asked.status_code == 303
    assert "hx-trigger" in waiting.text
    assert "hx-trigger" not in shown.text
    assert fragment.headers["hx-refresh"] == "true"
    assert "de 4 cuentas se haría algo" in shown.text
    assert "Qué se supone" in shown.text
    assert "no se sabe de nada más" in shown.text
    assert "nothing else becomes known" in english.text
    assert "aviso-1" in shown.text
    assert "C-1" in table.text
    assert await _every_table(service) == before


async def test_the_page_compares_two_versions(service: Any, client: httpx.AsyncClient) -> None:
    await _portfolio(service)
    await _draft(service)

    asked = await client.post(
        f"/dunning/simulator/back-tests?company={COMPANY}",
        data={"from": "2027-01-04", "to": "2027-03-31", "policy": "friendly-b2b@2", "against": "friendly-b2b@1"},
    )
    place = asked.headers["location"]
    await _play(service)
    shown = await client.get(place)
    table = await client.get(place + "&format=csv")

    assert "3</strong> de 3 deudores" in shown.text
    assert "58,000.00 MXN" in shown.text
    assert "bloqueos de crédito" in shown.text
    assert "las dos versiones empiezan" in shown.text
    assert table.text.startswith("\ufeffday,segment,count,policy,against,difference")


@pytest.mark.parametrize(
    ("form", "typed", "field"),
    [
        ("previews", {"on": "mañana"}, "on"),
        ("previews", {"on": "2026-12-31"}, "on"),
        ("previews", {}, "on"),
        ("back-tests", {"from": "x", "to": "2027-01-31", "policy": V1, "against": V1}, "from"),
        ("back-tests", {"from": "2027-02-01", "to": "2027-01-31", "policy": V1, "against": V1}, "to"),
        ("back-tests", {"from": "2027-01-01", "to": "2027-01-31", "policy": "@", "against": V1}, "policy"),
        ("back-tests", {"from": "2027-01-01", "to": "2027-01-31", "policy": V1, "against": "friendly-b2b-usd@1"}, "against"),
    ],
)  # fmt: skip
async def test_a_form_at_fault_comes_back_with_what_was_typed(
    service: Any, client: httpx.AsyncClient, form: str, typed: dict[str, str], field: str
) -> None:
    await service.activate()

    answered = await client.post(f"/dunning/simulator/{form}?company={COMPANY}", data=typed)

    assert answered.status_code == 422
    assert f'href="#{field}"' in answered.text
    assert all(f'value="{value}"' in answered.text for value in typed.values() if value != "@")


async def test_the_page_without_policies_says_how_to_load_one(service: Any, client: httpx.AsyncClient) -> None:
    shown = await client.get(f"/dunning/simulator?company={COMPANY}&lang=en")
    gone = await client.post(
        f"/dunning/simulator/previews?company={COMPANY}", data={"on": "2027-01-14", "in_place": "friendly-b2b@1"}
    )
    missing = await client.get(f"/dunning/simulator/00000000-0000-7000-8000-000000000000?company={COMPANY}")
    await client.post(f"/dunning/simulator/previews?company={COMPANY}", data={"on": "2027-01-14"})
    await _play(service)
    (row,) = await service.rows("SELECT trial_id FROM policy_trial")
    nothing = await client.get(f"/dunning/simulator/{row.trial_id}?company={COMPANY}")

    assert "cobranza dunning policy load" in shown.text
    assert (gone.status_code, "not loaded any more" in gone.text) == (422, True)
    assert missing.status_code == 404
    assert "Nobody owes anything" in nothing.text


def test_every_assumption_has_its_spanish() -> None:
    assert {*preview.PREVIEW_ASSUMES, *preview.BACK_TEST_ASSUMES} <= _known_texts("cobranza.dunning")
