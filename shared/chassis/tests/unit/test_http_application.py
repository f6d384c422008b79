"""Errors, scopes, limits and headers as a caller of the API sees them."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse, Response
from prometheus_client import REGISTRY

from cobranza.chassis import http, page
from cobranza.chassis.http import problems

ACME = SimpleNamespace(
    company="acme",
    name="Acme, S.A. de C.V.",
    country="MX",
    zone=ZoneInfo("America/Mexico_City"),
    currencies=("MXN", "USD"),
    delivery="sandbox",
)
CLOCK = SimpleNamespace(now=lambda: datetime(2027, 1, 11, 18, tzinfo=UTC), is_virtual=True)
FRAME = page.Frame(companies=[ACME], clock=CLOCK)
KEY = "k" * 43


class NewCase(http.Request):
    customer: str
    days: int


class CaseClosedError(Exception):
    """The case is closed."""

    code = "case_closed"
    status = 409
    detail = "case 7 was closed on 2027-01-04"

    def __init__(self) -> None:
        super().__init__(self.detail)
        self.facts = {"closed_on": "2027-01-04", "status": "never ours"}


def service_router() -> APIRouter:
    router = APIRouter()
    read, write = [http.scope("cases:read")], [http.scope("cases:write")]

    @router.get("/v1/cases/{number}", dependencies=read)
    async def read_case(request: HttpRequest, number: int) -> Response:
        if number == 404:
            raise http.Problem("not-found")
        unchanged = http.not_modified(request, version=3)
        return unchanged or http.answer(NewCase(customer="C-1", days=number), version=3)

    @router.put("/v1/cases/{number}", dependencies=write)
    async def change_case(request: HttpRequest, number: int) -> dict[str, int]:
        http.require_match(request, version=3)
        return {"number": number}

    @router.post("/v1/cases", dependencies=write, status_code=201)
    async def open_case(new: NewCase) -> NewCase:
        return new

    @router.post("/v1/events", dependencies=[*write, http.BULK])
    async def take_events(request: HttpRequest) -> int:
        return len(await request.body())

    @router.post("/v1/cases/{number}/close", dependencies=write)
    async def close_case(number: int) -> None:
        raise CaseClosedError

    @router.get("/v1/bug", dependencies=read)
    async def bug() -> None:
        raise KeyError("the secret of ana@example.test")

    @router.get("/v1/away", dependencies=read)
    async def away() -> None:
        raise ConnectionRefusedError

    @router.get("/v1/who", dependencies=read)
    async def who(principal: http.CurrentPrincipal) -> str:
        principal.require_company("acme")
        return principal.name

    @router.get("/cases", dependencies=read)
    async def cases_page() -> HTMLResponse:
        raise CaseClosedError

    @router.get("/letter", dependencies=read)
    async def letter() -> HTMLResponse:
        return HTMLResponse("x", headers={"Content-Security-Policy": "sandbox"})

    return router


def client_of(access: http.Access) -> httpx.AsyncClient:
    app = http.create_app({"dunning": service_router()}, access=access, frame=FRAME)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1", timeout=5)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(http.LocalAccess()) as client:
        yield client


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    file.write_text(
        f"- {{name: erp, sha256: {digest}, scopes: ['cases:read'], companies: [acme]}}\n"
        f"- {{name: old, sha256: {hashlib.sha256(b'old').hexdigest()}, scopes: ['*'],"
        " companies: ['*'], expires_on: 2020-01-01}\n"
    )
    return file


def assert_problem(response: httpx.Response, *, name: str, status: int) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["type"]) == (
        status,
        status,
        f"/problems/{name}",
    )
    assert body["instance"] == response.request.url.path
    assert len(str(body["trace_id"])) == 32
    return body


async def test_unknown_and_wrong_fields_are_named_by_pointer(client: httpx.AsyncClient) -> None:
    response = await client.post("/dunning/v1/cases", json={"customer": 1, "days": "x", "paid": 1})
    body = assert_problem(response, name="validation-failed", status=422)
    pointers = {(fault["pointer"], fault["code"]) for fault in body["errors"]}
    assert pointers == {
        ("/customer", "string_type"),
        ("/days", "int_parsing"),
        ("/paid", "extra_forbidden"),
    }


async def test_a_nul_character_is_refused_in_body_and_address(client: httpx.AsyncClient) -> None:
    response = await client.post("/dunning/v1/cases", json={"customer": "a\0b", "days": 1})
    assert_problem(response, name="validation-failed", status=422)
    response = await client.get("/dunning/v1/cases/%00")
    assert_problem(response, name="malformed-request", status=400)


async def test_a_wrong_path_parameter_is_named_by_its_place(client: httpx.AsyncClient) -> None:
    body = assert_problem(await client.get("/dunning/v1/cases/x"), name="validation-failed", status=422)
    assert body["errors"][0]["pointer"] == "path/number"


@pytest.mark.parametrize(
    ("content", "media_type", "name", "status"),
    [
        (b"{", "application/json", "malformed-request", 400),
        (b"[" * 100_000, "application/json", "malformed-request", 400),
        (b"\xff\xfe", "application/json", "malformed-request", 400),
        (b"customer=1", "application/x-www-form-urlencoded", "unsupported-media-type", 415),
        (b" " * 1_000_001, "application/json", "payload-too-large", 413),
    ],
)
async def test_an_unreadable_body_is_a_problem(
    client: httpx.AsyncClient, content: bytes, media_type: str, name: str, status: int
) -> None:
    response = await client.post("/dunning/v1/cases", content=content, headers={"Content-Type": media_type})
    assert_problem(response, name=name, status=status)


async def test_a_body_without_length_is_cut_at_the_limit(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 100_000

    response = await client.post("/dunning/v1/cases", content=endless(), headers={"Content-Type": "application/json"})
    assert_problem(response, name="payload-too-large", status=413)
    assert sent <= 12


async def test_a_bulk_route_takes_more_than_others(client: httpx.AsyncClient) -> None:
    assert (await client.post("/dunning/v1/events", content=b" " * 2_000_000)).json() == 2_000_000
    too_large = await client.post("/dunning/v1/events", content=b" " * 20_000_001)
    assert_problem(too_large, name="payload-too-large", status=413)


async def test_a_business_refusal_carries_its_facts(client: httpx.AsyncClient) -> None:
    body = assert_problem(await client.post("/dunning/v1/cases/7/close"), name="case-closed", status=409)
    assert body["detail"] == "case 7 was closed on 2027-01-04"
    assert body["closed_on"] == "2027-01-04"


async def test_a_bug_shows_no_trace(client: httpx.AsyncClient) -> None:
    response = await client.get("/dunning/v1/bug")
    assert_problem(response, name="internal-error", status=500)
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_an_absent_database_asks_to_come_back(client: httpx.AsyncClient) -> None:
    response = await client.get("/dunning/v1/away")
    assert_problem(response, name="unavailable", status=503)
    assert response.headers["retry-after"] == "5"


async def test_unknown_paths_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/dunning/v1/nothing"), name="not-found", status=404)
    response = await client.delete("/dunning/v1/cases/1")
    assert_problem(response, name="method-not-allowed", status=405)
    assert response.headers["allow"]


async def test_a_read_of_the_known_version_is_not_repeated(client: httpx.AsyncClient) -> None:
    first = await client.get("/dunning/v1/cases/1")
    again = await client.get("/dunning/v1/cases/1", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, first.headers["etag"]) == (200, '"3"')
    assert (again.status_code, again.content) == (304, b"")


async def test_a_change_must_start_from_the_present_version(client: httpx.AsyncClient) -> None:
    path = "/dunning/v1/cases/1"
    assert_problem(await client.put(path), name="precondition-required", status=428)
    stale = await client.put(path, headers={"If-Match": '"2"'})
    assert_problem(stale, name="version-conflict", status=412)
    weak = await client.put(path, headers={"If-Match": 'W/"3"'})
    assert_problem(weak, name="version-conflict", status=412)
    assert (await client.put(path, headers={"If-Match": '"3"'})).status_code == 200


async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient) -> None:
    response = await client.get("/dunning/v1/cases/1")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["referrer-policy"] == "same-origin"


async def test_a_route_may_set_a_stricter_policy(client: httpx.AsyncClient) -> None:
    response = await client.get("/dunning/letter")
    assert response.headers.get_list("content-security-policy") == ["sandbox"]


async def test_the_correlation_id_comes_back_or_is_made(client: httpx.AsyncClient) -> None:
    given = await client.get("/dunning/v1/cases/1", headers={"X-Correlation-Id": "order-7"})
    made = await client.get("/dunning/v1/cases/1", headers={"X-Correlation-Id": "bad\tvalue{}"})
    assert given.headers["x-correlation-id"] == "order-7"
    assert len(made.headers["x-correlation-id"]) == 36


async def test_the_callers_trace_is_continued(client: httpx.AsyncClient) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    response = await client.get("/dunning/v1/cases/404", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert response.json()["trace_id"] == trace


async def test_requests_are_measured_by_route_template(client: httpx.AsyncClient) -> None:
    labels = {"route": "/dunning/v1/cases/{number}", "method": "GET", "status_class": "2xx"}
    name = "cobranza_http_request_duration_seconds_count"
    before = REGISTRY.get_sample_value(name, labels) or 0
    await client.get("/dunning/v1/cases/5")
    await client.get("/dunning/v1/cases/6")
    assert REGISTRY.get_sample_value(name, labels) == before + 2


def test_a_route_without_a_scope_stops_the_start() -> None:
    router = APIRouter()

    @router.get("/v1/open")
    async def open_to_all() -> None: ...

    with pytest.raises(http.ApplicationError, match="GET /dunning/v1/open declares no scope"):
        http.create_app({"dunning": router}, access=http.LocalAccess(), frame=FRAME)


async def test_without_a_valid_key_nothing_is_served(keys: Path) -> None:
    async with client_of(http.KeyAccess(keys)) as client:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer old"}):
            response = await client.get("/dunning/v1/cases/1", headers=header)
            assert_problem(response, name="unauthenticated", status=401)
            assert response.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/dunning/openapi.json")).status_code == 401
        assert (await client.get("/problems/not-found")).status_code == 200


async def test_a_key_reaches_its_scopes_only(keys: Path) -> None:
    async with client_of(http.KeyAccess(keys)) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        assert (await client.get("/dunning/v1/who")).json() == "erp"
        response = await client.post("/dunning/v1/cases", json={"customer": "C-1", "days": 1})
        body = assert_problem(response, name="forbidden", status=403)
        assert body["required_scope"] == "cases:write"


async def test_a_browser_signs_in_with_the_key_as_password(keys: Path) -> None:
    async with client_of(http.KeyAccess(keys)) as client:
        challenge = await client.get("/dunning/cases")
        assert challenge.status_code == 401
        assert challenge.headers["www-authenticate"].startswith("Basic")
        assert (await client.get("/dunning/v1/who", auth=("any", KEY))).json() == "erp"


def test_a_reachable_address_needs_keys(keys: Path) -> None:
    assert isinstance(http.access_for(host="127.0.0.1", api_keys=None), http.LocalAccess)
    assert isinstance(http.access_for(host="0.0.0.0", api_keys=keys), http.KeyAccess)  # noqa: S104
    with pytest.raises(http.AccessError, match="COBRANZA_API_KEYS"):
        http.access_for(host="0.0.0.0", api_keys=None)  # noqa: S104


def test_an_unusable_key_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(http.AccessError, match="cannot be used"):
        http.KeyAccess(tmp_path / "absent.yaml")
    (tmp_path / "empty.yaml").write_text("[]")
    with pytest.raises(http.AccessError, match="no API key"):
        http.KeyAccess(tmp_path / "empty.yaml")


async def test_local_mode_answers_to_loopback_names_only(client: httpx.AsyncClient) -> None:
    response = await client.get("/dunning/v1/cases/1", headers={"Host": "rebound.example.test"})
    assert_problem(response, name="unauthenticated", status=401)


async def test_a_change_asked_for_by_another_site_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    response = await client.post("/dunning/v1/events", content=b"", headers=headers)
    assert_problem(response, name="forbidden", status=403)
    assert (await client.get("/dunning/v1/cases/1", headers=headers)).status_code == 200


async def test_pages_answer_errors_as_html(client: httpx.AsyncClient) -> None:
    whole = await client.get("/dunning/cases", headers={"Accept-Language": "en"})
    fragment = await client.get("/dunning/cases", headers={"HX-Request": "true"})
    assert whole.status_code == fragment.status_code == 409
    assert whole.text.lstrip().startswith("<!doctype html>")
    assert fragment.text.startswith("<section")
    assert "case 7 was closed on 2027-01-04" in fragment.text


async def test_each_problem_has_its_page(client: httpx.AsyncClient) -> None:
    for problem in problems.CATALOGUE.values():
        response = await client.get(f"/problems/{problem.name}?lang=en")
        assert response.status_code == 200
        assert problem.title in response.text
    assert (await client.get("/problems/nonsense")).status_code == 404


async def test_the_root_leads_to_today(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/analytics/")


async def test_the_description_names_scopes_and_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/dunning/openapi.json")).json()
    assert "/dunning/cases" not in document["paths"]
    assert "/problem" not in document["paths"]
    operation = document["paths"]["/dunning/v1/cases"]["post"]
    assert operation["x-required-scope"] == "cases:write"
    assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert "ProblemBody" in document["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(document)
    reference = await client.get("/dunning/docs")
    assert "/dunning/v1/cases/{number}/close" in reference.text


def test_the_document_of_problems_is_the_catalogue() -> None:
    root = next(parent for parent in Path(__file__).parents if (parent / "Makefile").exists())
    assert (root / "docs" / "problems.md").read_text(encoding="utf-8") == problems.document()


def test_a_repeated_answer_is_a_plain_response() -> None:
    answer = http.answer(NewCase(customer="C-1", days=1), status=201, version=1, location="/x")
    assert isinstance(answer, Response)
    assert (answer.headers["etag"], answer.headers["location"]) == ('"1"', "/x")
