"""What payloads share: the base class and the vocabulary of several services' events."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from cobranza.contracts import identifiers
from cobranza.contracts.money import Amount, Currency, checked_amount, to_minor

# Control characters are refused everywhere: no store, header or letter wants them.
_CODE = r"^[^|\s\u0000-\u001f\u007f]([^|\u0000-\u001f\u007f]*[^|\s\u0000-\u001f\u007f])?$"
_LINE = r"^[^\u0000-\u001f\u007f]*[^\s\u0000-\u001f\u007f][^\u0000-\u001f\u007f]*$"
_PROSE = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$"


def _not_a_dash(customer: str) -> str:
    if customer == identifiers.NO_CUSTOMER:
        raise ValueError("'-' alone stands for no customer")
    return customer


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("expected an instant within the years 1 to 9999") from error


def _ratio(value: Any) -> Decimal:
    if isinstance(value, str):
        value = Decimal(value) if value.isascii() and value.replace(".", "", 1).isdigit() else None
    if isinstance(value, Decimal) and value.is_finite() and 0 <= value <= 1:
        return value
    raise ValueError('expected a share from 0 to 1 as text such as "0.90"')


Company = Annotated[
    identifiers.Company,
    Field(pattern=r"^[a-z0-9-]{2,40}$", description="Creditor company, a slug"),
]
Customer = Annotated[
    identifiers.Customer,
    Field(max_length=64, pattern=_CODE, description="The ERP's customer code"),
    AfterValidator(_not_a_dash),
]
System = Annotated[
    identifiers.System,
    Field(pattern=r"^[A-Za-z0-9._-]{1,40}$", description="The company's system that states it"),
]
ExternalId = Annotated[
    identifiers.ExternalId,
    Field(max_length=128, pattern=_LINE, description="The system's own id"),
]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Line = Annotated[str, StringConstraints(max_length=200, pattern=_LINE)]
Prose = Annotated[str, StringConstraints(max_length=2000, pattern=_PROSE)]
Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s\u0000-\u001f\u007f]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2 code")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", description="BCP 47 tag, such as es-MX")]
Zone = Annotated[
    str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$", description="IANA time zone")
]
Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Ordinal = Annotated[int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Version = Annotated[int, Field(ge=1, le=2**63 - 1)]
Ratio = Annotated[
    Decimal,
    PlainValidator(_ratio),
    PlainSerializer(lambda ratio: format(ratio, "f"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(0(\.[0-9]+)?|1(\.0+)?)$"}),
]


class Channel(StrEnum):
    """How a debtor is reached. Open on the wire."""

    EMAIL = "email"
    SMS = "sms"
    WHATSAPP = "whatsapp"
    LETTER = "letter"
    CERTIFIED_LETTER = "certified_letter"
    CALL = "call"


class Tone(StrEnum):
    """How a notice speaks, from soft to hard. Open on the wire."""

    FRIENDLY = "friendly"
    NEUTRAL = "neutral"
    FIRM = "firm"
    FORMAL = "formal"
    LEGAL = "legal"


class Purpose(StrEnum):
    """What a notice is for. Open on the wire."""

    # These ask for money and need a permit.
    DUNNING = "dunning"
    PROMISE_REMINDER = "promise_reminder"
    PLAN_REMINDER = "plan_reminder"
    REVERSAL = "reversal"
    STATEMENT = "statement"
    # These do not.
    PAYMENT_CONFIRMATION = "payment_confirmation"
    PROMISE_CONFIRMATION = "promise_confirmation"
    PLAN_CONFIRMATION = "plan_confirmation"
    DISPUTE_CONFIRMATION = "dispute_confirmation"
    INVOICE_DELIVERY = "invoice_delivery"
    CORRECTION = "correction"


PURPOSES_WITH_PERMIT = frozenset(
    {
        Purpose.DUNNING,
        Purpose.PROMISE_REMINDER,
        Purpose.PLAN_REMINDER,
        Purpose.REVERSAL,
        Purpose.STATEMENT,
    }
)
"""Purposes that ask for money: such a notice leaves only with a permit."""


def _open_set(*known: str) -> str:
    return f"Open set, readers have a default branch; known: {', '.join(known)}"


ChannelCode = Annotated[Slug, Field(description=_open_set(*Channel))]
ToneCode = Annotated[Slug, Field(description=_open_set(*Tone))]
PurposeCode = Annotated[Slug, Field(description=_open_set(*Purpose))]
ReasonCode = Annotated[Slug, Field(description="Open set, see the list of reasons; readers have a default branch")]
StepKind = Annotated[Slug, Field(description=_open_set("notice", "call", "task", "effect"))]
DeliveryMode = Literal["sandbox", "copy", "live"]


class Part(BaseModel):
    """A frozen part of a payload; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Payload(Part):
    """What an event tells: the full state of one aggregate. Unknown fields are ignored.

    A concrete payload names its event type, its aggregate, and the fields whose values make the
    aggregate's id.
    """

    TYPE: ClassVar[str]
    AGGREGATE: ClassVar[str]
    AGGREGATE_ID: ClassVar[tuple[str, ...]]

    company: Company

    @property
    def aggregate_id(self) -> str:
        """Id of the aggregate within its kind and company; an absent part is a dash."""
        values = [getattr(self, name) for name in self.AGGREGATE_ID]
        return "/".join(["-" if value is None else str(value) for value in values])

    @property
    def subject(self) -> str:
        """The event's subject, ``<aggregate>/<id>``: what its sequence counts."""
        return f"{self.AGGREGATE}/{self.aggregate_id}"

    @property
    def partition_key(self) -> str:
        """Kafka key: ``company|customer``, or ``company|-`` when there is no (known) customer."""
        return identifiers.partition_key(self.company, getattr(self, "customer", None))


class External(Part):
    """How the company's own system calls a document; the pair is unique per kind of document."""

    system: System
    id: ExternalId


class Document(Part):
    """A file that belongs to an invoice, by reference."""

    kind: Annotated[Slug, Field(description=_open_set("pdf", "xml", "delivery_proof", "order"))]
    url: Url
    sha256: Sha256 | None = None


class PolicyVersion(Part):
    """A dunning policy and its immutable version."""

    id: Slug
    version: Ordinal


def _is_decimal(annotation: Any) -> bool:
    """Whether a field is a decimal, or may be one."""
    return annotation is Decimal or any(_is_decimal(part) for part in get_args(annotation))


class AmountsInCurrency(Part):
    """Bare amounts beside one currency; each has no more decimals than the currency."""

    currency: Currency
    #: Fields that are amounts, found once: pydantic builds its list of fields anew at each look.
    _amounts: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        """Note which fields are amounts."""
        cls._amounts = tuple(name for name, field in cls.model_fields.items() if _is_decimal(field.annotation))

    def minor(self, field: str) -> int:
        """The named amount in minor units."""
        amount: Decimal = getattr(self, field)
        return to_minor(amount, self.currency)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse amounts that the currency cannot express."""
        for name in self._amounts:
            value = getattr(self, name)
            if value is not None:
                checked_amount(value, self.currency)


__all__ = [
    "PURPOSES_WITH_PERMIT",
    "Amount",
    "AmountsInCurrency",
    "Channel",
    "ChannelCode",
    "Company",
    "Count",
    "Country",
    "Currency",
    "Customer",
    "DeliveryMode",
    "Document",
    "External",
    "ExternalId",
    "Instant",
    "Language",
    "Line",
    "Ordinal",
    "Part",
    "Payload",
    "PolicyVersion",
    "Prose",
    "Purpose",
    "PurposeCode",
    "Ratio",
    "ReasonCode",
    "Sha256",
    "Slug",
    "StepKind",
    "System",
    "Tone",
    "ToneCode",
    "Url",
    "Version",
    "Zone",
]
