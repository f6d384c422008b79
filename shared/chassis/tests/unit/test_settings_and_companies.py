"""What a process is told: settings name their variable, the companies file its company and key."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from cobranza.chassis.calendars import company_calendar
from cobranza.chassis.companies import Companies, CompaniesError
from cobranza.chassis.settings import ServiceSettings, SettingsError, load

EXAMPLE = Path(__file__).parents[4] / "deploy" / "companies.yaml"


class ToySettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_", frozen=True, extra="ignore", populate_by_name=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COBRANZA_CLOCK_FILE", "COBRANZA_ALLOW_VIRTUAL_CLOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOY_DATABASE_URL", "postgresql://toy:hunter2hunter2@127.0.0.1/toy")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(EXAMPLE))


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_DATABASE_URL")
    monkeypatch.delenv("KAFKA_BOOTSTRAP")

    with pytest.raises(SettingsError, match=r"(?s)KAFKA_BOOTSTRAP.*TOY_DATABASE_URL"):
        load(ToySettings)


def test_a_virtual_clock_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COBRANZA_CLOCK_FILE", "/tmp/clock")  # noqa: S108 - never opened

    with pytest.raises(SettingsError, match="COBRANZA_ALLOW_VIRTUAL_CLOCK"):
        load(ToySettings)


def test_a_password_is_in_no_representation_of_the_settings() -> None:
    assert "hunter2" not in repr(load(ToySettings))


def test_the_shipped_companies_file_is_valid() -> None:
    companies = Companies.read(EXAMPLE)

    acme = companies.get("acme-mx")
    assert acme is not None
    assert acme.delivery == "sandbox"
    assert not company_calendar(acme).is_business_day(date(2027, 2, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("companies: [", "not YAML"),
        ("{}", "top-level key 'companies'"),
        ("companies: {acme-mx: {}}", "company 'acme-mx': name"),
        ("companies: {ACME: {}}", "company"),
    ],
)
def test_a_wrong_companies_file_names_file_company_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "companies.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(CompaniesError, match=said) as caught:
        Companies.read(file)

    assert str(file) in str(caught.value)


def test_a_new_company_starts_in_sandbox(tmp_path: Path) -> None:
    file = tmp_path / "companies.yaml"
    file.write_text(
        "companies: {nueva: {name: N, tax_id: T, country: MX, zone: America/Mexico_City, currencies: [MXN],"
        " contact: {name: A, email: a@b.test}, sender: {name: A, email: a@b.test}}}",
        encoding="utf-8",
    )

    nueva = Companies.read(file).get("nueva")

    assert nueva is not None
    assert (nueva.delivery, nueva.cash_feed, nueva.fifo_auto) == ("sandbox", "none", False)
