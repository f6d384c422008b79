"""Holds, decisions, cases and policies as callers of the API and the command see them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from cobranza.chassis import http, migrations, page
from cobranza.chassis.page import Pages
from cobranza.contracts import notifications, payments
from cobranza.dunning import gateways

MIGRATIONS = "cobranza.dunning:migrations"


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


def _hold(**changes: object) -> dict[str, object]:
    return {
        "company": "acme-mx",
        "customer": "C-1",
        "scope": "customer",
        "reason": "internal",
        "until_on": "2027-01-20",
        **changes,
    }


def _key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def _overdue(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-12")


async def test_a_hold_stops_contact_until_its_end_and_is_placed_once(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)

    first = await client.post("/dunning/v1/holds", json=_hold(), headers=_key("k-1"))
    again = await client.post("/dunning/v1/holds", json=_hold(), headers=_key("k-1"))

    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    [placed] = await service.told("hold-placed")
    assert (placed["by"], placed["until_on"], placed["placed_on"]) == ("local", "2027-01-20", "2027-01-12")
    await service.at("01-14")
    await service.at("01-20")
    assert await service.told("notice-requested") == []
    assert [c.state for c in await service.rows("SELECT state FROM collection_case")] == ["held"]
    assert await service.broken() == {}
    await service.at("01-21")
    assert [r["step"] for r in await service.told("notice-requested")] == ["aviso-1"]


async def test_a_released_hold_lets_contact_go_on_the_same_day(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)
    placed = (await client.post("/dunning/v1/holds", json=_hold(), headers=_key("k-1"))).json()
    await service.at("01-15")

    release = {"company": "acme-mx", "reason": "solved"}
    url = f"/dunning/v1/holds/{placed['hold_id']}/release"
    first = await client.post(url, json=release, headers=_key("k-2"))
    again = await client.post(url, json=release, headers=_key("k-3"))

    assert (first.status_code, again.json()) == (200, first.json())
    [released] = await service.told("hold-released")
    assert (released["release_reason"], released["released_on"]) == ("solved", "2027-01-15")
    assert len(await service.told("notice-requested")) == 1


async def test_a_hold_on_a_receivable_leaves_the_others(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)
    await service.tell(service.receivable("A-2", "01-11"))
    held = str(service.receivable("A-1", "01-11").receivable_id)

    answer = await client.post(
        "/dunning/v1/holds", json=_hold(scope="receivable", receivable_ids=[held]), headers=_key("k-1")
    )
    await service.at("01-14")

    assert answer.status_code == 201
    [request] = await service.told("notice-requested")
    assert held not in {line["receivable_id"] for line in request["lines"]}


async def test_a_hold_on_a_case_names_its_receivables(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)
    [case] = await service.rows("SELECT case_id FROM collection_case")

    answer = await client.post(
        "/dunning/v1/holds", json=_hold(scope="case", case_id=str(case.case_id)), headers=_key("k-1")
    )

    assert answer.status_code == 201
    [placed] = await service.told("hold-placed")
    assert placed["receivable_ids"] == [str(service.receivable("A-1", "01-11").receivable_id)]


@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"until_on": None}, 422, "/until_on"),
        ({"until_on": "2027-01-11"}, 422, "/until_on"),
        ({"until_on": "2027-02-12"}, 422, "/until_on"),
        ({"scope": "receivable"}, 422, "/receivable_ids"),
        ({"scope": "case"}, 422, "/case_id"),
        ({"receivable_ids": ["00000000-0000-0000-0000-000000000001"]}, 422, "/receivable_ids"),
        ({"unknown": "x"}, 422, "/unknown"),
        ({"company": "nobody"}, 422, None),
    ],
)
async def test_a_hold_that_breaks_a_rule_is_refused(
    service: Any, client: httpx.AsyncClient, changes: dict[str, object], status: int, pointer: str | None
) -> None:
    await _overdue(service)

    answer = await client.post("/dunning/v1/holds", json=_hold(**changes), headers=_key("k-1"))

    assert answer.status_code == status
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert await service.told("hold") == []


async def test_an_endless_hold_needs_a_reason_that_allows_it(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)

    answer = await client.post("/dunning/v1/holds", json=_hold(reason="insolvency", until_on=None), headers=_key("k"))
    await service.at("03-01")

    assert answer.status_code == 201
    assert await service.told("notice-requested") == []
    assert await service.broken() == {}


async def test_releasing_an_unknown_hold_is_not_found(service: Any, client: httpx.AsyncClient) -> None:
    url = "/dunning/v1/holds/00000000-0000-0000-0000-000000000001/release"

    answer = await client.post(url, json={"company": "acme-mx", "reason": "x"}, headers=_key("k"))

    assert answer.status_code == 404


async def test_decisions_say_why_with_values(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)
    await service.at("01-14")
    [request] = await service.told("notice-requested")
    await service.sent(request, "01-14")

    asked = {"company": "acme-mx", "invoice": "A-1"}
    acted = (await client.get("/dunning/v1/decisions", params={**asked, "on": "2027-01-14"})).json()
    later = (await client.get("/dunning/v1/decisions", params={**asked, "on": "2027-01-17", "lang": "en"})).json()
    early = (await client.get("/dunning/v1/decisions", params={**asked, "on": "2026-12-01"})).json()

    assert acted["since"] is None
    assert [d["outcome"] for d in acted["decisions"]] == ["act", "wait"]
    assert acted["sentences"][0].startswith("jue 14-ene-2027: se pidió el aviso aviso-1")
    assert "El aviso aviso-1 n.º 1 salió el jue 14-ene-2027." in acted["sentences"]
    assert later["since"] == "2027-01-14"
    assert later["sentences"][0].startswith("Unchanged since")
    assert any("invoice A-1 reaches step aviso-2 on" in s.lower().replace("a-1", "A-1") for s in later["sentences"])
    assert early["decisions"] == []
    assert len(early["sentences"]) == 1


async def test_decisions_find_an_invoice_by_its_id(service: Any, client: httpx.AsyncClient) -> None:
    await _overdue(service)
    invoice_id = str(service.receivable("A-1", "01-11").invoice_id)

    found = await client.get(
        "/dunning/v1/decisions", params={"company": "acme-mx", "invoice": invoice_id, "on": "2027-01-12"}
    )
    missing = await client.get(
        "/dunning/v1/decisions", params={"company": "acme-mx", "invoice": "Z-9", "on": "2027-01-12"}
    )

    assert found.json()["invoice"] == "A-1"
    assert missing.status_code == 404


async def test_cases_are_listed_in_pages_and_shown_with_their_runs(service: Any, client: httpx.AsyncClient) -> None:
    await service.activate()
    await service.tell(*(service.receivable(f"A-{n}", "01-11", customer=f"C-{n}") for n in range(3)))
    await service.at("01-14")

    first = (await client.get("/dunning/v1/cases", params={"company": "acme-mx", "limit": 2})).json()
    second = (
        await client.get("/dunning/v1/cases", params={"company": "acme-mx", "limit": 2, "cursor": first["next_cursor"]})
    ).json()
    listed = [*first["items"], *second["items"]]
    detail = (await client.get(f"/dunning/v1/cases/{listed[0]['case_id']}", params={"company": "acme-mx"})).json()

    assert {case["customer"] for case in listed} == {"C-0", "C-1", "C-2"}
    assert "next_cursor" not in second or second["next_cursor"] is None
    assert (listed[0]["state"], listed[0]["open"]) == ("active", {"amount": "58000.00", "currency": "MXN"})
    assert [run["step"] for run in detail["runs"]] == ["aviso-1"]
    assert [item["number"] for item in detail["receivables"]] == [f"A-{detail['customer'][2:]}"]
    other = await client.get(f"/dunning/v1/cases/{listed[0]['case_id']}", params={"company": "other"})
    assert other.status_code == 404


async def test_policies_are_listed(service: Any, client: httpx.AsyncClient) -> None:
    await service.activate()

    rows = (await client.get("/dunning/v1/policies", params={"company": "acme-mx"})).json()

    assert [(row["policy"], row["currency"], row["state"]) for row in rows] == [
        ("friendly-b2b", "MXN", "active"),
        ("friendly-b2b-usd", "USD", "active"),
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dunning/why?company=acme-mx", "Pregunte por qué"),
        ("/dunning/why?company=acme-mx&lang=en", "Ask why"),
        ("/dunning/why?company=acme-mx&invoice=A-1&on=2027-01-12", "No se contactó el mar 12-ene-2027."),
        ("/dunning/why?company=acme-mx&invoice=A-1&on=never", "Escriba la fecha"),
        ("/dunning/cases?company=acme-mx", "1 caso abierto"),
        ("/dunning/cases?company=acme-mx&state=closed&lang=en", "No case matches"),
    ],
)
async def test_pages_answer_first(service: Any, client: httpx.AsyncClient, path: str, words: str) -> None:
    await _overdue(service)

    answer = await client.get(path, headers={"Accept-Language": "es"})

    assert answer.status_code == 200
    assert words in answer.text


async def test_a_page_about_an_unknown_invoice_says_what_to_do(service: Any, client: httpx.AsyncClient) -> None:
    answer = await client.get("/dunning/why?company=acme-mx&invoice=Z-9")

    assert answer.status_code == 404
    assert "No se conoce aquí ninguna factura" in answer.text


def test_every_text_of_the_pages_has_its_spanish() -> None:
    assert Pages("dunning", package="cobranza.dunning").untranslated() == set()


@pytest.fixture
def command(service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `cobranza dunning …` against the test's database."""
    profile = service.context.companies.get("acme-mx")
    entry = profile.model_dump(mode="json", exclude={"company", "zone"}) | {"zone": profile.zone.key}
    companies = tmp_path / "companies.yaml"
    companies.write_text(yaml.safe_dump({"companies": {"acme-mx": entry}}), encoding="utf-8")
    monkeypatch.setenv("DUNNING_DATABASE_URL", service.context.settings.database_url.get_secret_value())
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(companies))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(service.service.commands, list(arguments), catch_exceptions=False)

    return run


async def test_the_command_loads_activates_and_lists_policies(service: Any, command: Any) -> None:
    results = [
        await _in_thread(command, *arguments.split())
        for arguments in (
            "policy load friendly-b2b --company acme-mx",
            "policy load friendly-b2b --company acme-mx",
            "policy activate friendly-b2b --company acme-mx",
            "policy activate friendly-b2b --company acme-mx",
            "policy list --company acme-mx --json",
            "policy activate nothing --company acme-mx",
            "policy load friendly-b2b",
        )
    ]

    assert [result.exit_code for result in results] == [0, 0, 0, 0, 0, 4, 4]
    assert "loaded" in results[0].output
    assert "known" in results[1].output
    assert "was active already" in results[3].output
    states = {(row["policy"], row["state"]) for row in map(json.loads, results[4].output.splitlines())}
    assert states == {("friendly-b2b", "active"), ("friendly-b2b-usd", "draft")}
    [activated] = await service.told("policy-activated")
    assert [step["id"] for step in activated["steps"]] == ["aviso-1", "aviso-2", "requerimiento"]


async def test_a_loaded_version_refuses_other_content(command: Any, tmp_path: Path) -> None:
    source = (Path(__file__).parents[2] / "src/cobranza/dunning/policies/friendly-b2b.yaml").read_text(encoding="utf-8")
    changed = tmp_path / "changed.yaml"
    changed.write_text(source.replace("offset: 3", "offset: 4"), encoding="utf-8")
    await _in_thread(command, "policy", "load", "friendly-b2b", "--company", "acme-mx")

    result = await _in_thread(command, "policy", "load", str(changed), "--company", "acme-mx")

    assert result.exit_code == 4


async def test_the_command_says_why(service: Any, command: Any) -> None:
    await _overdue(service)

    asked = ("why", "--company", "acme-mx", "--invoice", "A-1", "--on")
    spanish = await _in_thread(command, *asked, "2027-01-12")
    english = await _in_thread(command, *asked, "2027-01-12", "--lang", "en")
    as_json = await _in_thread(command, *asked, "2027-01-12", "--json")
    unknown = await _in_thread(command, "why", "--company", "acme-mx", "--invoice", "Z-9", "--on", "2027-01-12")
    wrong = await _in_thread(command, *asked, "yesterday")

    assert spanish.output.splitlines()[0] == "No se contactó el mar 12-ene-2027."
    assert "La factura A-1 llega al paso aviso-1 el jue 14-ene-2027." in spanish.output.splitlines()
    assert english.output.splitlines()[0].startswith("Nobody was contacted on")
    [decision] = json.loads(as_json.output)["decisions"]
    assert decision["reasoning"]["items"][0]["candidates"][0]["gates"][0] == ["date", "2027-01-14", "2027-01-12", False]
    assert (unknown.exit_code, wrong.exit_code) == (4, 2)


async def test_revisions_make_what_the_tables_say_and_can_be_undone(fresh_database: Any) -> None:
    urls = fresh_database("dunning", lambda url: migrations.upgrade(MIGRATIONS, url))

    def there_and_back() -> None:
        migrations.check(MIGRATIONS, urls.owner_url)
        migrations.downgrade(MIGRATIONS, urls.owner_url)
        migrations.upgrade(MIGRATIONS, urls.owner_url)
        migrations.check(MIGRATIONS, urls.owner_url)

    await _in_thread(there_and_back)


async def _in_thread(function: Any, *arguments: str) -> Any:
    # The command makes a loop of its own.
    import asyncio

    return await asyncio.to_thread(function, *arguments)


async def test_a_policy_file_is_checked_over_http_as_by_the_command(
    service: Any, client: httpx.AsyncClient, command: Any, tmp_path: Path
) -> None:
    example = (Path(__file__).parents[1] / "data" / "mx-b2b.yaml").read_text(encoding="utf-8")
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text(example.replace("min_gap_days: 3", "min_gap_days: three"), encoding="utf-8")
    document = yaml.load(faulty.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - text alone
    url = "/dunning/v1/policies/check?company=acme-mx"

    as_yaml = await client.post(url, content=faulty.read_bytes(), headers={"Content-Type": "application/yaml"})
    as_json = await client.post(url, json=document)
    sound = await client.post(url, content=example.encode())
    not_text = await client.post(url, content=b"\xff\xfe")
    elsewhere = await client.post(url.replace("acme-mx", "nobody"), content=example.encode())
    by_command = await _in_thread(command, "policy", "check", str(faulty), "--json")

    told = json.loads(by_command.output.splitlines()[0])
    assert as_yaml.json()["faults"] == told["faults"]
    assert as_yaml.json()["faults"][0] == {
        "line": 12, "column": 15, "code": "P104", "key": "min_gap_days",
        "text": "expected a whole number 0 to 60, got 'three'",
    }  # fmt: skip
    assert [fault["text"] for fault in as_json.json()["faults"]] == [fault["text"] for fault in told["faults"]]
    assert (sound.json()["ok"], sound.json()["faults"]) == (True, [])
    assert sound.json()["not_checked"] == [
        "P301 contact rule", "P301 interest rule", "P301 segment", "P301 script", "P302", "P303", "P404", "P501",
    ]  # fmt: skip
    assert (not_text.status_code, elsewhere.status_code) == (400, 422)


async def test_a_policy_is_compared_with_what_other_services_announced(
    service: Any, client: httpx.AsyncClient, command: Any, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    example = (Path(__file__).parents[1] / "data" / "mx-b2b.yaml").read_text(encoding="utf-8")
    file.write_text(example.replace("mx-ccom-362", "mx-ccom-36"), encoding="utf-8")
    everywhere = {"company": "acme-mx", "version": 1, "sha256": "ab" * 32, "activated_on": "2027-01-04"}
    rules = {**everywhere, "rules": "mx-ccom-362", "effective_from": "2027-01-04", "first_fee_day": 45}
    house = {**everywhere, "rules": "b2b-default", "forbidden_channels": ["sms"]}
    url = "/dunning/v1/policies/check?company=acme-mx"

    def template(name: str, channel: str, tone: str, language: str) -> notifications.TemplateActivated:
        told = {**everywhere, "template": name, "channel": channel, "tone": tone, "language": language}
        return notifications.TemplateActivated.model_validate(told)

    steps = [
        ("preventivo", "email", "friendly"), ("vence-hoy", "email", "friendly"), ("aviso-1", "email", "friendly"),
        ("aviso-1", "whatsapp", "friendly"), ("aviso-1", "sms", "friendly"), ("aviso-2", "email", "firm"),
        ("aviso-2", "letter", "firm"), ("requerimiento", "email", "formal"),
        ("requerimiento", "certified_letter", "formal"),
    ]  # fmt: skip

    await service.tell(payments.ChargeRulesActivated.model_validate(rules))
    await service.tell(
        *(template(*step, language) for step in steps for language in ("es-MX", "en")),
        notifications.ContactRulesActivated.model_validate(house),
        topic="cobranza.notifications",
    )
    by_http = (await client.post(url, content=file.read_bytes())).json()
    by_command = await _in_thread(command, "policy", "check", str(file), "--company", "acme-mx")
    loaded = await _in_thread(command, "policy", "load", str(file))
    preset = (await client.post(url, content=gateways.read_source("strict").encode())).json()
    elsewhere = await _in_thread(command, "policy", "load", str(file), "--company", "other-mx")

    # A preset is completed first: its languages, calendar and currency are the company's.
    assert {fault["code"] for fault in preset["faults"]} == {"P302"}
    assert "P301 calendar" not in preset["not_checked"]
    assert "the file is for 'acme-mx', and --company names 'other-mx'" in elsewhere.stderr
    assert [(fault["code"], fault["key"], fault["text"]) for fault in by_http["faults"]] == [
        ("P301", "interest.rule", "no interest rule 'mx-ccom-36'; did you mean 'mx-ccom-362'?"),
        ("P501", "steps[aviso-1].fallback", "a contact rule forbids 'sms'"),
        ("P501", "steps[cargo].offset", "a fee is allowed from day 45 past due"),
        ("P302", "steps[aviso-final].template",
         "no template 'aviso-final' for certified_letter in en-US, tone formal"),
        ("P302", "steps[aviso-final].template",
         "no template 'aviso-final' for certified_letter in es-MX, tone formal"),
    ]  # fmt: skip
    assert by_http["not_checked"] == ["P301 segment", "P301 script", "P404"]
    assert [line.partition(" ")[2].partition(" ")[0] for line in by_command.stdout.splitlines()] == [
        "P301", "P501", "P501", "P302", "P302",
    ]  # fmt: skip
    assert loaded.stdout.splitlines() == by_command.stdout.splitlines()
    assert (by_command.exit_code, loaded.exit_code) == (1, 4)


@pytest.mark.parametrize("profile_changes", [{"segments": ["standard"]}])
async def test_segments_that_a_company_names_are_the_ones_a_policy_may_ask_of(client: httpx.AsyncClient) -> None:
    example = (Path(__file__).parents[1] / "data" / "mx-b2b.yaml").read_text(encoding="utf-8")

    told = (await client.post("/dunning/v1/policies/check?company=acme-mx", content=example.encode())).json()

    assert {(fault["code"], fault["text"]) for fault in told["faults"]} == {("P301", "no segment 'key-account'")}
    assert "P301 segment" not in told["not_checked"]


async def test_what_a_draft_names_is_compared_again_when_it_is_activated(service: Any, command: Any) -> None:
    drafts = [
        await _in_thread(command, "policy", "load", preset, "--company", "acme-mx")
        for preset in ("reminder-5", "strict")
    ]
    first = await _in_thread(command, "policy", "activate", "reminder-5", "--company", "acme-mx")

    second = await _in_thread(command, "policy", "activate", "strict", "--company", "acme-mx")

    assert [done.exit_code for done in (*drafts, first)] == [0, 0, 0]
    assert second.exit_code != 0
    assert "0 is taken by the active policy 'reminder-5' in MXN" in second.stdout


async def test_versions_grow_by_one_and_a_priority_is_taken_once(command: Any, tmp_path: Path) -> None:
    example = (Path(__file__).parents[1] / "data" / "mx-b2b.yaml").read_text(encoding="utf-8")

    def written(name: str, *changes: tuple[str, str]) -> str:
        text = example
        for change in changes:
            text = text.replace(*change)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    gap = written("gap.yaml", ("version: 7", "version: 9"))
    other = written("other.yaml", ("policy: mx-b2b", "policy: other"))
    results = [
        await _in_thread(command, "policy", *arguments)
        for arguments in (
            ("load", written("own.yaml")),
            ("activate", "mx-b2b", "--company", "acme-mx"),
            ("load", gap),
            ("load", other),
            ("retire", "mx-b2b", "--company", "acme-mx"),
            ("retire", "mx-b2b", "--company", "acme-mx"),
            ("load", other),
        )
    ]

    assert [result.exit_code for result in results] == [0, 0, 4, 4, 0, 0, 0]
    assert "expected 8 after 7, got 9" in results[2].stderr
    assert "10 is taken by the active policy 'mx-b2b' in MXN" in results[3].stdout
    assert "was not active" in results[5].output


async def test_d16_a_case_keeps_its_version_until_it_is_migrated(service: Any, command: Any, tmp_path: Path) -> None:
    def version(number: int, offset: int) -> str:
        path = tmp_path / f"v{number}.yaml"
        source = gateways.read_source("friendly-b2b").replace("version: 1", f"version: {number}")
        path.write_text(source.replace("offset: 10", f"offset: {offset}"), encoding="utf-8")
        return str(path)

    await _overdue(service)
    [request] = await _requests_at(service, "01-14")
    await service.sent(request, "01-14")
    for arguments in (
        ("load", version(2, 7), "--company", "acme-mx"),
        ("activate", "friendly-b2b", "--company", "acme-mx"),
    ):
        assert (await _in_thread(command, "policy", *arguments)).exit_code == 0
    await service.tell(service.receivable("B-1", "01-12", customer="C-2"))
    await service.at("01-15")
    pins = {
        r.customer: r.policy_version for r in await service.rows("SELECT customer, policy_version FROM collection_case")
    }

    move = ("policy", "migrate", "friendly-b2b", "--company", "acme-mx", "--to", "2")
    dry = await _in_thread(command, *move)
    unchanged = {
        r.policy_version
        for r in await service.rows("SELECT policy_version FROM collection_case WHERE customer = 'C-1'")
    }
    moved = await _in_thread(command, *move, "--approved-by", "Lucía")
    wrong = await _in_thread(command, *move, "--step", "aviso-1")

    assert pins == {"C-1": 1, "C-2": 2}
    assert dry.output.splitlines() == [
        "C-1: aviso-2 on 2027-01-21 -> aviso-2 on 2027-01-18",
        "1 cases, 1 with another next step: would move; nothing was changed, approve with --approved-by",
    ]
    assert (unchanged, moved.exit_code, wrong.exit_code) == ({1}, 0, 2)
    assert [r["step"] for r in await _requests_at(service, "01-18")][-1] == "aviso-2"
    assert await service.broken() == {}


async def test_d16_a_migration_leaves_no_issued_step_without_a_place(
    service: Any, command: Any, tmp_path: Path
) -> None:
    path = tmp_path / "v2.yaml"
    source = (
        gateways.read_source("friendly-b2b").replace("version: 1", "version: 2").replace("id: aviso-1", "id: primero")
    )
    path.write_text(source, encoding="utf-8")
    await _overdue(service)
    [request] = await _requests_at(service, "01-14")
    await service.sent(request, "01-14")
    await _in_thread(command, "policy", "load", str(path), "--company", "acme-mx")

    move = ("policy", "migrate", "friendly-b2b", "--company", "acme-mx", "--to", "2")
    refused = await _in_thread(command, *move)
    moved = await _in_thread(command, *move, "--step", "aviso-1=primero", "--approved-by", "Lucía")

    assert (refused.exit_code, moved.exit_code) == (4, 0)
    assert "P404" in refused.stderr
    [item] = await service.rows("SELECT level, level_step FROM receivable")
    assert tuple(item) == (1, "primero")


async def _requests_at(service: Any, day: str) -> Any:
    await service.at(day)
    return await service.told("notice-requested")


async def test_a_task_is_ended_over_http(service: Any, client: httpx.AsyncClient) -> None:
    await service.activate("strict")
    await service.tell(service.receivable("A-1", "01-11"))
    answered = 0
    for day in [f"01-{d:02}" for d in range(4, 22)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        if len(requests) > answered:
            await service.sent(requests[-1], day)
            answered = len(requests)
    [call] = await service.told("task-created")
    url, body = (
        f"/dunning/v1/tasks/{call['task_id']}/complete",
        {"company": "acme-mx", "disposition": "right_party_promise"},
    )

    answers = [
        await client.post(url, json=change, headers={"Idempotency-Key": key})
        for key, change in (("a", body), ("a", body), ("b", {**body, "disposition": "no_answer"}))
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 409]
    assert answers[0].json()["disposition"] == "right_party_promise"
    [item] = await service.rows("SELECT level_step FROM receivable")
    assert item.level_step == "llamada"


async def test_the_command_records_what_a_person_tells_and_says_what_is_wrong(service: Any, command: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    receivable = str(service.receivable("A-1", "01-11").receivable_id)
    # The command's clock is the real one: a dispute is the form that names no day.
    body = {
        "company": "acme-mx", "customer": "C-1", "receivable_id": receivable, "kind": "price",
        "amount": {"amount": "100.00", "currency": "MXN"},
    }  # fmt: skip
    too_much = {**body, "amount": {"amount": "99999.00", "currency": "MXN"}}

    opened = await _in_thread(command, "record", "dispute", "--data", json.dumps(body), "--by", "Lucía")
    refused = await _in_thread(command, "record", "dispute", "--data", json.dumps(too_much))
    faulty = await _in_thread(command, "record", "dispute", "--data", '{"company": "acme-mx", "kind": 1}')
    unknown = await _in_thread(command, "record", "marriage", "--data", "{}")
    nothing = await _in_thread(
        command, "record", "resolve-dispute", "--data", '{"company": "acme-mx", "outcome": "upheld"}'
    )

    assert (opened.exit_code, json.loads(opened.output)["amount"]["amount"]) == (0, "100.00")
    assert (refused.exit_code, faulty.exit_code, unknown.exit_code, nothing.exit_code) == (4, 2, 2, 4)
    assert "57900.00 MXN of A-1 is open" in refused.stderr
    assert "--data: /customer: Field required" in faulty.stderr
    assert "resolve-dispute" in unknown.stderr
    assert "name its id" in nothing.stderr
    [row] = await service.rows("SELECT kind, state, recorded_by FROM agreement")
    assert tuple(row) == ("dispute", "open", "Lucía")


async def test_a_preview_is_told_part_by_part(service: Any, client: httpx.AsyncClient) -> None:
    await service.tell(service.receivable("F-1", "01-10"), service.receivable("F-2", "01-10", customer="C-2"))
    asked = {"company": "acme-mx", "on": "2027-01-05", "limit": "1"}

    first = (await client.get("/dunning/v1/preview", params=asked)).json()
    second = (await client.get("/dunning/v1/preview", params={**asked, "after": first["next"]})).json()

    assert {part["items"][0]["customer"] for part in (first, second)} == {"C-1", "C-2"}
    assert first["items"][0]["reasons"][0]["code"] == "no_policy"
    assert "next" not in second or second["next"] is None


async def test_a_preview_of_a_day_that_is_over_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.get("/dunning/v1/preview", params={"company": "acme-mx", "on": "2027-01-03"})

    assert (refused.status_code, "2027-01-04" in refused.text) == (422, True)
