"""The companies a deployment collects for: one validated file, read at start by every service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cobranza.contracts.money import exponent

CompanySlug = Annotated[str, Field(pattern=r"^[a-z0-9-]{2,40}$")]


class CompaniesError(RuntimeError):
    """The companies file is missing or wrong; the text names file, company and key."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class PaymentInstructions(_Entry):
    """How a debtor pays: one account per currency; `reference` may name `{customer}`."""

    currency: str
    bank: str
    holder: str
    account: str
    reference: str = "{customer}"
    link: str | None = None


class Contact(_Entry):
    """The named person a debtor can answer."""

    name: str
    email: str
    phone: str | None = None


class Sender(_Entry):
    """The address letters come from."""

    name: str
    email: str


class SmtpServer(_Entry):
    """Where the company's mail is handed over."""

    host: str
    port: int = Field(ge=1, le=65535)


class DueDateOffsets(_Entry):
    """Days relative to the due date on which a due-date event is told."""

    approaching: tuple[Annotated[int, Field(ge=-90, le=-1)], ...] = (-7, -3)
    reached: bool = True
    passed: tuple[Annotated[int, Field(ge=1, le=365)], ...] = (1,)


class Tolerance(_Entry):
    """What may be missing of a payment and is written off: both limits count."""

    amount: Decimal = Field(ge=0, allow_inf_nan=False, description="In major units of the currency")
    percent: Decimal = Field(gt=0, le=10, description="Of the debt")


class ApprovalLimits(_Entry):
    """Up to which amount one person decides alone; above it a second one approves."""

    waiver: Decimal = Field(default=Decimal(0), ge=0, allow_inf_nan=False, description="Of a late charge")
    write_off: Decimal = Field(default=Decimal(0), ge=0, allow_inf_nan=False, description="Of a debt")


class CompanyProfile(_Entry):
    """One creditor: zone, currencies, languages and what is switched on."""

    company: CompanySlug
    name: str
    tax_id: str
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    zone: ZoneInfo
    currencies: tuple[str, ...] = Field(min_length=1)
    calendar: str | None = None
    languages: tuple[str, ...] = Field(default=("es-MX", "en"), min_length=1)
    #: What customers may be grouped by; none named: any segment, and policies are not compared with them.
    segments: tuple[str, ...] = ()
    dunning_start: date | None = None
    delivery: Literal["sandbox", "copy", "live"] = "sandbox"
    cash_feed: Literal["none", "watermark"] = "none"
    #: daily: a total that is not there in the morning after a business day is missing.
    control_totals: Literal["none", "daily"] = "none"
    #: Absent: per_payment in MX, and only for invoices that say PPD; set: for all that do not say PUE.
    fiscal_receipts: Literal["none", "per_payment", "monthly"] | None = None
    fifo_auto: bool = False
    #: By currency; none: every missing cent stays open.
    tolerance: Mapping[str, Tolerance] = Field(default_factory=dict)
    #: By currency; none: a second person approves every waiver and write-off.
    approval_above: Mapping[str, ApprovalLimits] = Field(default_factory=dict)
    #: From which confidence cash is applied without a person.
    match_threshold: Decimal = Field(default=Decimal("0.90"), ge=Decimal("0.50"), le=1)
    #: Check digits at the end of the references that customers are given: none, luhn or mod97.
    reference_check: Literal["none", "luhn", "mod97"] = "none"
    #: Days after the last day of an early-payment discount in which it is still given.
    discount_grace_days: int = Field(default=0, ge=0, le=30)
    due_date_offsets: DueDateOffsets = DueDateOffsets()
    payment_instructions: tuple[PaymentInstructions, ...] = ()
    contact: Contact
    sender: Sender
    smtp: SmtpServer | None = None

    @field_validator("zone", mode="before")
    @classmethod
    def _zone_exists(cls, value: Any) -> ZoneInfo:
        try:
            return value if isinstance(value, ZoneInfo) else ZoneInfo(str(value))
        except Exception as error:
            raise ValueError(f"{value!r} is no IANA zone, for example America/Mexico_City") from error

    @field_validator("currencies")
    @classmethod
    def _currencies_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for currency in value:
            exponent(currency)
        return value

    @model_validator(mode="after")
    def _amounts_are_in_own_currencies(self) -> CompanyProfile:
        for currency, limits in self.tolerance.items():
            self._check_amount("tolerance", currency, limits.amount)
        for currency, above in self.approval_above.items():
            self._check_amount("approval_above", currency, above.waiver)
            self._check_amount("approval_above", currency, above.write_off)
        return self

    def _check_amount(self, key: str, currency: str, amount: Decimal) -> None:
        if currency not in self.currencies:
            raise ValueError(f"{key}: {currency!r} is none of the company's currencies")
        if amount != round(amount, exponent(currency)):
            raise ValueError(f"{key}: {amount} has more decimals than {currency}")

    def instructions_for(self, currency: str) -> PaymentInstructions | None:
        """How to pay in `currency`, or None when the company named no account for it."""
        return next((i for i in self.payment_instructions if i.currency == currency), None)


class Companies:
    """The companies of this deployment by slug."""

    def __init__(self, profiles: Mapping[str, CompanyProfile]) -> None:
        self._profiles = dict(profiles)

    def get(self, company: str) -> CompanyProfile | None:
        """The profile of `company`, or None when this deployment does not know it."""
        return self._profiles.get(company)

    def __iter__(self) -> Iterator[CompanyProfile]:
        return iter(self._profiles.values())

    def __contains__(self, company: object) -> bool:
        return company in self._profiles

    @classmethod
    def read(cls, path: Path) -> Companies:
        """Read and validate the file.

        Raises:
            CompaniesError: naming file, company and key of the first faults.
        """
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CompaniesError(f"{path}: {error.strerror}; COBRANZA_COMPANIES names this file") from error
        except yaml.YAMLError as error:
            raise CompaniesError(f"{path}: not YAML: {error}") from error
        if not isinstance(document, dict) or not isinstance(document.get("companies"), dict):
            raise CompaniesError(f"{path}: expected a top-level key 'companies' with one entry each")
        profiles = {}
        for slug, entry in document["companies"].items():
            try:
                profiles[slug] = CompanyProfile.model_validate({"company": slug, **(entry or {})})
            except (ValidationError, TypeError) as error:
                raise CompaniesError(f"{path}: company {slug!r}: {_first_faults(error)}") from error
        return cls(profiles)


def _first_faults(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()[:5]
        )
    return str(error)
