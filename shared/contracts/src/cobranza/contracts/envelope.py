"""CloudEvents around our payloads: the only place that knows how an event looks on the wire."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, NoReturn, TypeAlias, TypeVar
from uuid import UUID

from pydantic import ValidationError

from cobranza.contracts.identifiers import EventId, ingress_event_id
from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import PAYLOADS

MAX_INGRESS_BYTES = 64 * 1024
"""Size of the data of an event an ERP may send."""
MAX_BYTES = 512 * 1024
"""Size of the data of an event of ours; half of what a broker takes by default."""
MAX_DEPTH = 32
"""Nesting of objects and arrays in strict JSON."""

BINARY = "application/json"
STRUCTURED = "application/cloudevents+json"

_ATTRIBUTES = frozenset(
    {
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "companyid",
        "partitionkey",
        "sequence",
        "correlationid",
        "causationid",
        "traceparent",
        "expirytime",
    }
)
_SEQUENCE = re.compile(r"[0-9]{20}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ERP_SOURCE = re.compile(r"/erp/(?P<company>[a-z0-9-]{2,40})/(?P<system>[A-Za-z0-9._-]{1,40})")
_INGRESS_TYPE = "erp."
_LONGEST_ATTRIBUTE = 255

P = TypeVar("P", bound=Payload)
P_co = TypeVar("P_co", bound=Payload, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope(Generic[P_co]):
    """An event: its payload and what the wire says about it.

    Args:
        event_id: identity of the event; for an ERP's event derived from its source and own id.
        source: ``/cobranza/<service>`` or ``/erp/<company>/<system>``.
        data: the payload; type, subject, company and key are read from it.
        time: when it was published, aware; an ERP may leave it out.
        sequence: number of the event within its subject, from 1; None for an ERP's event.
        correlation_id: id of the event or command at the root, copied on.
        causation_id: id of what caused it directly.
        traceparent: W3C trace context.
        expires_at: a reader must not act on it later than this business instant.
        external_event_id: an ERP's own id of the event; None for events of ours.
    """

    event_id: EventId
    source: str
    data: P_co
    correlation_id: str
    time: datetime | None = None
    sequence: int | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    expires_at: datetime | None = None
    external_event_id: str | None = None

    @property
    def id(self) -> str:
        """The CloudEvents id."""
        return self.external_event_id or str(self.event_id)

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return self.data.TYPE

    @property
    def company(self) -> str:
        """The creditor company."""
        return self.data.company

    @property
    def subject(self) -> str:
        """The aggregate it is about."""
        return self.data.subject

    @property
    def key(self) -> str:
        """The Kafka key."""
        return self.data.partition_key


@dataclass(frozen=True, slots=True)
class UnknownType:
    """An event of a type or major version this reader does not know: skip it and count it."""

    type: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A record without a value: on the compacted topic, what the key named is erased."""

    key: bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record in binary mode."""

    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an event.

    Args:
        pointer: JSON pointer into the data; ``ce_<name>`` for an attribute; "" for the whole.
        detail: what was expected and what was found.
    """

    pointer: str
    detail: str


class EnvelopeError(Exception):
    """An event that cannot be read: it is refused, or parked with this reason.

    Codes: too_large, too_deep, not_utf8, not_json, duplicate_key, unsupported_content_type,
    missing_attribute, invalid_attribute, invalid_data, company_missing, company_mismatch,
    key_mismatch.
    """

    status = 422
    SECURITY_CODES: ClassVar[frozenset[str]] = frozenset({"company_missing", "company_mismatch"})

    def __init__(self, code: str, faults: Sequence[Fault], *, hint: str | None = None) -> None:
        self.code = code
        self.faults = tuple(faults)
        self.pointer = faults[0].pointer
        self.detail = faults[0].detail
        self.hint = hint
        super().__init__("; ".join(f"{f.pointer or 'event'}: {f.detail}" for f in faults))

    @property
    def is_security_relevant(self) -> bool:
        """Whether somebody may be writing into another company."""
        return self.code in self.SECURITY_CODES


Decoded: TypeAlias = Envelope[Payload] | UnknownType | Tombstone


def erp_event(data: P, *, external_event_id: str, system: str, time: datetime | None = None) -> Envelope[P]:
    """An event as an ERP publishes it; the same id in the same system is the same event."""
    source = f"/erp/{data.company}/{system}"
    event_id = ingress_event_id(source, external_event_id)
    return Envelope(
        event_id=event_id,
        source=source,
        data=data,
        time=time,
        correlation_id=str(event_id),
        external_event_id=external_event_id,
    )


def encode(envelope: Envelope[Payload]) -> Record:
    """The event as a Kafka record in binary mode.

    Raises:
        EnvelopeError: the data is larger than ``MAX_BYTES``.
    """
    key = envelope.key
    headers = headers_of(envelope, key=key, subject=envelope.subject)
    return Record(key.encode(), tuple([(name, text.encode()) for name, text in headers]), json_of(envelope.data))


def headers_of(envelope: Envelope[Payload], *, key: str, subject: str) -> list[tuple[str, str]]:
    """The headers of the event in binary mode; its key and subject are given, as they are put together anew when asked for."""
    attributes = _attributes_of(envelope, key=key, subject=subject)
    return [("content-type", BINARY), *[(f"ce_{name}", text) for name, text in attributes.items()]]


def json_of(data: Payload) -> bytes:
    """The value of the event in binary mode.

    Raises:
        EnvelopeError: the data is larger than ``MAX_BYTES``.
    """
    value = data.model_dump_json(exclude_none=True).encode()
    if len(value) > MAX_BYTES:
        raise _refusal("too_large", "", f"expected at most {MAX_BYTES} bytes, got {len(value)}")
    return value


def encode_structured(envelope: Envelope[Payload]) -> bytes:
    """The event as one JSON document, attributes and data together.

    Raises:
        EnvelopeError: the data is larger than ``MAX_BYTES``.
    """
    attributes = _attributes_of(envelope, key=envelope.key, subject=envelope.subject) | {"datacontenttype": BINARY}
    told = json.dumps(attributes, ensure_ascii=False)
    return told[:-1].encode() + b', "data": ' + json_of(envelope.data) + b"}"


def decode(
    key: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    value: bytes | None,
    *,
    payloads: Mapping[str, type[Payload]] = PAYLOADS,
    strict: bool,
) -> Decoded:
    """Read a Kafka record.

    Args:
        key: the record's key; an ERP may leave it out.
        headers: the record's headers; the content type decides between binary and structured mode.
        value: the record's value.
        payloads: payload class of each type the reader knows.
        strict: for input from outside: structured mode is read too, and JSON with duplicate keys,
            NaN, deep nesting or more than 64 KiB is refused.

    Raises:
        EnvelopeError: the record cannot be read; nothing else is ever raised.
    """
    if value is None:
        return Tombstone(key)
    content_type, attributes = _read_headers(headers)
    if strict and content_type == STRUCTURED:
        decoded = decode_structured(value, payloads=payloads)
        if isinstance(decoded, Envelope):
            _check_key(key, decoded.data)
        return decoded
    if content_type not in (BINARY, None):
        raise _refusal("unsupported_content_type", "content-type", f"expected {BINARY}, got {content_type!r}")
    return _read(attributes, value, payloads=payloads, key=key, strict=strict)


def decode_structured(
    document: bytes, *, payloads: Mapping[str, type[Payload]] = PAYLOADS
) -> Envelope[Payload] | UnknownType:
    """Read one structured CloudEvent from outside, by the rules of strict JSON.

    Raises:
        EnvelopeError: it cannot be read.
    """
    event = parse_json_strict(document)
    if not isinstance(event, dict):
        raise _refusal("not_json", "", "expected one JSON object")
    return decode_event(event, payloads=payloads)


def decode_event(
    event: Mapping[str, Any], *, payloads: Mapping[str, type[Payload]] = PAYLOADS
) -> Envelope[Payload] | UnknownType:
    """Read one structured CloudEvent that ``parse_json_strict`` has parsed, such as one of a batch.

    Raises:
        EnvelopeError: it cannot be read.
    """
    attributes: dict[str, str] = {}
    for name, text in event.items():
        if name in _ATTRIBUTES and text is not None:
            if not isinstance(text, str):
                raise _refusal("invalid_attribute", f"ce_{name}", "expected text")
            attributes[name] = text
    if attributes.get("datacontenttype", BINARY).partition(";")[0].strip().lower() != BINARY:
        raise _refusal("unsupported_content_type", "ce_datacontenttype", f"expected {BINARY}")
    if "data" not in event:
        raise _refusal("missing_attribute", "data", "expected the data of the event")
    key = attributes.get("partitionkey")
    return _read(
        attributes,
        json.dumps(event["data"]).encode(),
        payloads=payloads,
        key=None if key is None else key.encode(errors="replace"),
        strict=False,
    )


def parse_json_strict(document: bytes, *, max_bytes: int = MAX_INGRESS_BYTES) -> Any:
    """Parse JSON from outside: UTF-8 without a byte order mark, no duplicate keys, no NaN, bounded.

    Raises:
        EnvelopeError: it is not such a document.
    """
    if len(document) > max_bytes:
        raise _refusal("too_large", "", f"expected at most {max_bytes} bytes, got {len(document)}")
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        raise _refusal("not_utf8", "", f"expected UTF-8, byte {error.start} is not") from error
    try:
        value = json.loads(text, object_pairs_hook=_object_without_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _refusal("not_json", "", f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError:
        raise _refusal("too_deep", "", f"expected at most {MAX_DEPTH} levels") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise _refusal("not_json", "", str(error).partition(";")[0]) from error
    # Counting is fast; only a document with that many openings can be that deep.
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _refusal("too_deep", "", f"expected at most {MAX_DEPTH} levels")
    return value


def faults_of(error: ValidationError) -> tuple[Fault, ...]:
    """What a validation found, each with its JSON pointer and in words."""
    return tuple(
        Fault(
            "".join(f"/{_escaped(part)}" for part in fault["loc"]),
            fault["msg"].removeprefix("Value error, "),
        )
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    )


def _read(
    attributes: Mapping[str, str],
    value: bytes,
    *,
    payloads: Mapping[str, type[Payload]],
    key: bytes | None,
    strict: bool,
) -> Envelope[Payload] | UnknownType:
    if _required(attributes, "specversion") != "1.0":
        raise _refusal("invalid_attribute", "ce_specversion", "expected 1.0")
    type_ = _required(attributes, "type")
    payload = payloads.get(type_)
    if payload is None:
        return UnknownType(type_)
    if strict:
        parse_json_strict(value)
    try:
        data = payload.model_validate_json(value, strict=True)
    except ValidationError as error:
        raise _invalid(error) from error
    if type_.startswith(_INGRESS_TYPE):
        return _read_ingress(attributes, data, key=key)
    return _read_canonical(attributes, data, key=key)


def _read_canonical(attributes: Mapping[str, str], data: Payload, *, key: bytes | None) -> Envelope[Payload]:
    _check_company(attributes, data)
    if key is None:
        raise _refusal("key_mismatch", "key", f"expected {data.partition_key!r}, got none")
    _check_key(key, data)
    service = data.TYPE.split(".")[1]
    for name, expected in (
        ("source", f"/cobranza/{service}"),
        ("subject", data.subject),
        ("partitionkey", data.partition_key),
    ):
        if (found := _required(attributes, name)) != expected:
            raise _refusal("invalid_attribute", f"ce_{name}", f"expected {expected!r}, got {found!r}")
    sequence = _required(attributes, "sequence")
    if not _SEQUENCE.fullmatch(sequence):
        raise _refusal("invalid_attribute", "ce_sequence", "expected 20 digits")
    expires = attributes.get("expirytime")
    return Envelope(
        event_id=EventId(_uuid(_required(attributes, "id"))),
        source=attributes["source"],
        data=data,
        time=_instant(_required(attributes, "time"), "time"),
        sequence=int(sequence),
        correlation_id=_required(attributes, "correlationid"),
        causation_id=_optional(attributes, "causationid"),
        traceparent=_traceparent(attributes),
        expires_at=None if expires is None else _instant(expires, "expirytime"),
    )


def _read_ingress(attributes: Mapping[str, str], data: Payload, *, key: bytes | None) -> Envelope[Payload]:
    source = _required(attributes, "source")
    origin = _ERP_SOURCE.fullmatch(source)
    if origin is None:
        raise _refusal("invalid_attribute", "ce_source", "expected /erp/<company>/<system>")
    if origin["company"] != data.company:
        raise _refusal(
            "company_mismatch",
            "ce_source",
            f"names {origin['company']!r}, the data {data.company!r}",
        )
    _check_company(attributes, data)
    _check_key(key, data)
    if "partitionkey" in attributes:
        _check_key(attributes["partitionkey"].encode(errors="replace"), data)
    external_event_id = _required(attributes, "id")
    event_id = ingress_event_id(source, external_event_id)
    time = attributes.get("time")
    return Envelope(
        event_id=event_id,
        source=source,
        data=data,
        time=None if time is None else _instant(time, "time"),
        correlation_id=_optional(attributes, "correlationid") or str(event_id),
        causation_id=_optional(attributes, "causationid"),
        traceparent=_traceparent(attributes),
        external_event_id=external_event_id,
    )


def _attributes_of(envelope: Envelope[Payload], *, key: str, subject: str) -> dict[str, str]:
    attributes = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "subject": subject,
        "time": None if envelope.time is None else _text_of(envelope.time),
        "companyid": envelope.company,
        "partitionkey": key,
        "sequence": None if envelope.sequence is None else f"{envelope.sequence:020d}",
        "correlationid": envelope.correlation_id,
        "causationid": envelope.causation_id,
        "traceparent": envelope.traceparent,
        "expirytime": None if envelope.expires_at is None else _text_of(envelope.expires_at),
    }
    return {name: text for name, text in attributes.items() if text is not None}


def _read_headers(
    headers: Iterable[tuple[str, bytes | None]],
) -> tuple[str | None, dict[str, str]]:
    content_type = None
    attributes: dict[str, str] = {}
    for name, raw in headers:
        is_attribute = name.startswith("ce_")
        if not is_attribute and name.lower() != "content-type":
            continue
        try:
            text = (raw or b"").decode()
        except UnicodeDecodeError:
            raise _refusal("not_utf8", name, "expected UTF-8") from None
        if not is_attribute:
            content_type = text.partition(";")[0].strip().lower()
        elif name[3:] in attributes:
            raise _refusal("invalid_attribute", name, "expected it once")
        else:
            attributes[name[3:]] = text
    return content_type, attributes


def _required(attributes: Mapping[str, str], name: str) -> str:
    text = _optional(attributes, name)
    if not text:
        raise _refusal("missing_attribute", f"ce_{name}", "expected this CloudEvents attribute")
    return text


def _optional(attributes: Mapping[str, str], name: str) -> str | None:
    text = attributes.get(name)
    if text is not None and (len(text) > _LONGEST_ATTRIBUTE or _CONTROL.search(text)):
        raise _refusal(
            "invalid_attribute",
            f"ce_{name}",
            f"expected at most {_LONGEST_ATTRIBUTE} characters, none of them a control character",
        )
    return text


def _traceparent(attributes: Mapping[str, str]) -> str | None:
    # A trace helps people; a malformed one must not stop an event.
    text = attributes.get("traceparent")
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _refusal("invalid_attribute", "ce_id", "expected a uuid") from None


def _instant(text: str, name: str) -> datetime:
    try:
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _refusal("invalid_attribute", f"ce_{name}", "expected an instant such as 2027-01-14T15:04:05Z")


def _text_of(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _check_company(attributes: Mapping[str, str], data: Payload) -> None:
    company = attributes.get("companyid")
    if company is None and not data.TYPE.startswith(_INGRESS_TYPE):
        raise _refusal("company_missing", "ce_companyid", f"expected {data.company!r}")
    if company is not None and company != data.company:
        raise _refusal("company_mismatch", "ce_companyid", f"names {company!r}, the data {data.company!r}")


def _check_key(key: bytes | None, data: Payload) -> None:
    if key is None or key == data.partition_key.encode():
        return
    found = key.decode(errors="replace")
    code = "key_mismatch" if found.partition("|")[0] == data.company else "company_mismatch"
    raise _refusal(code, "key", f"expected {data.partition_key!r}, got {found[:120]!r}")


def _invalid(error: ValidationError) -> EnvelopeError:
    found = error.errors(include_url=False, include_input=False)
    code = "invalid_data"
    if any(fault["type"] == "json_invalid" for fault in found):
        code = "not_json"
    elif any(fault["loc"] == ("company",) and fault["type"] == "missing" for fault in found):
        code = "company_missing"
    causes = (fault.get("ctx", {}).get("error") for fault in found)
    hints = (getattr(cause, "hint", None) for cause in causes)
    return EnvelopeError(code, faults_of(error), hint=next(filter(None, hints), None))


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise _refusal("duplicate_key", f"/{_escaped(twice)}", "expected each key once")
    return found


def _refuse_constant(constant: str) -> NoReturn:
    raise _refusal("not_json", "", f"{constant} is not JSON")


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        containers = [item for item in level if isinstance(item, dict | list)]
        deepest += bool(containers)
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return deepest


def _refusal(code: str, pointer: str, detail: str) -> EnvelopeError:
    return EnvelopeError(code, (Fault(pointer, detail),))
