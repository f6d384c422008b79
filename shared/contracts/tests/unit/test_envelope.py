import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from cobranza.contracts import dunning, ingress, payments
from cobranza.contracts.envelope import (
    MAX_BYTES,
    MAX_INGRESS_BYTES,
    Envelope,
    EnvelopeError,
    Record,
    Tombstone,
    UnknownType,
    decode,
    decode_structured,
    encode,
    encode_structured,
    erp_event,
    parse_json_strict,
)
from cobranza.contracts.identifiers import EventId
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import PAYLOADS, topic

TIME = datetime(2027, 1, 14, 15, 4, 5, tzinfo=UTC)
EVENT_ID = EventId(UUID("0195c3a0-7b4e-7001-9f21-4b6d2c8e0001"))

INVOICE = erp_event(
    ingress.InvoiceIssued(
        company="acme-mx",
        external={"system": "sap", "id": "90001234"},
        customer="C-1042",
        number="F-1234",
        issued_on=date(2026, 12, 12),
        payable=Money.of("58000.00", "MXN"),
        instalments=[{"number": 1, "due_on": "2027-01-11", "amount": Money.of("58000.00", "MXN")}],
    ),
    external_event_id="invoice-90001234-1",
    system="sap",
    time=TIME,
)
WATERMARK = Envelope(
    event_id=EVENT_ID,
    source="/cobranza/payments",
    data=payments.CashWatermark(company="acme-mx", through_on=date(2027, 1, 13), stated_at=TIME),
    time=TIME,
    sequence=7,
    correlation_id="root",
    causation_id="cause",
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    expires_at=TIME + timedelta(days=5),
)


def changed(record: Record, headers: dict[str, str | None]) -> list[tuple[str, bytes]]:
    kept = {name: raw for name, raw in record.headers if name not in headers}
    return [*kept.items(), *((name, text.encode()) for name, text in headers.items() if text is not None)]


def with_data(change: Callable[[dict[str, Any]], object]) -> bytes:
    data = json.loads(encode(INVOICE).value)
    change(data)
    return json.dumps(data).encode()


def read_invoice(
    *, key: bytes | None = None, headers: dict[str, str | None] | None = None, value: bytes | None = None
) -> object:
    record = encode(INVOICE)
    return decode(key, changed(record, headers or {}), record.value if value is None else value, strict=True)


def refusal_of(**parts: Any) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as refused:
        read_invoice(**parts)
    return refused.value


@pytest.mark.parametrize("envelope", [INVOICE, WATERMARK], ids=["erp", "canonical"])
def test_an_event_survives_the_wire(envelope: Envelope[Payload]) -> None:
    record = encode(envelope)
    assert decode(record.key, record.headers, record.value, strict=envelope is INVOICE) == envelope
    assert decode_structured(encode_structured(envelope)) == envelope


def test_the_key_and_the_attributes_are_those_of_the_design() -> None:
    record = encode(WATERMARK)

    assert record.key == b"acme-mx|-"
    assert dict(record.headers) == {
        "content-type": b"application/json",
        "ce_specversion": b"1.0",
        "ce_id": b"0195c3a0-7b4e-7001-9f21-4b6d2c8e0001",
        "ce_source": b"/cobranza/payments",
        "ce_type": b"cobranza.payments.cash-watermark.v1",
        "ce_subject": b"cash-feed/-",
        "ce_time": b"2027-01-14T15:04:05Z",
        "ce_companyid": b"acme-mx",
        "ce_partitionkey": b"acme-mx|-",
        "ce_sequence": b"00000000000000000007",
        "ce_correlationid": b"root",
        "ce_causationid": b"cause",
        "ce_traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "ce_expirytime": b"2027-01-19T15:04:05Z",
    }


def test_the_sdk_reads_what_we_write() -> None:
    record = encode(WATERMARK)
    message = kafka.KafkaMessage(dict(record.headers), record.key, record.value)

    event = kafka.from_kafka(message, JSONFormat())

    assert event.get_id() == WATERMARK.id
    assert event.get_type() == WATERMARK.type
    assert event.get_subject() == WATERMARK.subject
    assert event.get_time() == WATERMARK.time
    assert event.get_extension("sequence") == "00000000000000000007"
    assert event.get_data() == json.loads(record.value)


@pytest.mark.parametrize("write", [kafka.to_binary, kafka.to_structured], ids=["binary", "structured"])
def test_we_read_what_the_sdk_writes(write: Callable[[CloudEvent, JSONFormat], kafka.KafkaMessage]) -> None:
    attributes = {
        "id": INVOICE.id,
        "source": INVOICE.source,
        "type": INVOICE.type,
        "time": TIME,
        "datacontenttype": "application/json",
        "partitionkey": INVOICE.key,
    }
    message = write(CloudEvent(attributes, json.loads(encode(INVOICE).value)), JSONFormat())
    key = message.key.encode() if isinstance(message.key, str) else message.key

    assert decode(key, list(message.headers.items()), message.value, strict=True) == INVOICE


def test_an_erp_may_leave_out_what_cobranza_derives() -> None:
    headers = dict.fromkeys(("ce_subject", "ce_time", "ce_companyid", "ce_partitionkey", "ce_correlationid"))

    event = read_invoice(headers=headers)

    assert isinstance(event, Envelope)
    assert event.event_id == INVOICE.event_id
    assert event.time is None
    assert event.correlation_id == str(INVOICE.event_id)


def test_the_same_id_in_two_systems_is_two_events() -> None:
    other = read_invoice(headers={"ce_source": "/erp/acme-mx/odoo"})
    assert isinstance(other, Envelope)
    assert other.id == INVOICE.id
    assert other.event_id != INVOICE.event_id


def test_an_instant_of_another_zone_becomes_utc() -> None:
    event = read_invoice(headers={"ce_time": "2027-01-14T09:04:05.5-06:00"})
    assert isinstance(event, Envelope)
    assert event.time == TIME + timedelta(milliseconds=500)
    assert event.time.tzinfo is UTC


def test_unknown_fields_are_ignored() -> None:
    assert read_invoice(value=with_data(lambda data: data.update(mood="sunny"))) == INVOICE


@pytest.mark.parametrize("type_", ["erp.invoice-issued.v2", "erp.weather-changed.v1", "other"])
def test_unknown_types_and_majors_are_told_apart_from_faults(type_: str) -> None:
    assert read_invoice(headers={"ce_type": type_}) == UnknownType(type_)


def test_a_type_of_another_topic_is_unknown_to_the_reader_of_a_topic() -> None:
    record = encode(WATERMARK)
    payloads = topic("erp.payments").payloads
    found = decode(record.key, record.headers, record.value, payloads=payloads, strict=True)
    assert found == UnknownType(WATERMARK.type)


def test_a_record_without_a_value_is_a_tombstone() -> None:
    assert decode(b"acme-mx|C-1042", [], None, strict=False) == Tombstone(b"acme-mx|C-1042")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "not_json"),
        (b"not json", "not_json"),
        (b'{"company": "acme-mx"', "not_json"),
        (b"\x1f\x8b\x08\x00garbage", "not_utf8"),
        (b'{"company": "\xff"}', "not_utf8"),
        (b'\xef\xbb\xbf{"company": "acme-mx"}', "not_json"),
        ('{"company": "acme-mx"}'.encode("utf-16"), "not_utf8"),
        (b'{"x": "' + b"a" * 5_000_000 + b'"}', "too_large"),
        (b"[" * 10_000, "too_deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "too_deep"),
        (b'{"company": "acme-mx", "company": "other"}', "duplicate_key"),
        (b'{"external": {"id": "1", "id": "2"}}', "duplicate_key"),
        (b'{"x": NaN}', "not_json"),
        (b'{"x": -Infinity}', "not_json"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not_json"),
        (b'{"company": "\\ud800"}', "not_json"),
        (b"[]", "invalid_data"),
        (b"null", "invalid_data"),
        (b"7", "invalid_data"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_its_code(value: bytes, code: str) -> None:
    assert refusal_of(value=value).code == code


def first_instalment(data: dict[str, Any]) -> dict[str, Any]:
    instalment: dict[str, Any] = data["instalments"][0]
    return instalment


def amount(text: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: first_instalment(data)["amount"].update(amount=text)


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        (amount("0.001"), "/instalments/0/amount", "MXN has 2 decimals, got '0.001'"),
        (amount("-1.00"), "/instalments/0/amount", "above zero"),
        (amount("0.00"), "/instalments/0/amount", "above zero"),
        (amount("NaN"), "/instalments/0/amount/amount", "as text such as"),
        (amount("1e400"), "/instalments/0/amount/amount", "as text such as"),
        (amount("12345678901234567890"), "/instalments/0/amount/amount", "15 integer digits"),
        (amount(58000), "/instalments/0/amount/amount", "as text such as"),
        (lambda d: d["payable"].update(currency="XYZ"), "/payable/currency", "'XYZ' is not an ISO 4217"),
        (lambda d: d.pop("customer"), "/customer", "required"),
        (lambda d: d.update(customer="-"), "/customer", "no customer"),
        (lambda d: d.update(customer="a|b"), "/customer", "pattern"),
        (lambda d: d.update(customer="a" * 65), "/customer", "64"),
        (lambda d: d.update(customer=" C-1"), "/customer", "pattern"),
        (lambda d: d.update(number="F\u0000"), "/number", "pattern"),
        (lambda d: d.update(number=1234), "/number", "string"),
        (lambda d: d.update(instalments=[]), "/instalments", "at least 1"),
        (lambda d: d.update(revision="1"), "/revision", "integer"),
        (lambda d: d.update(revision=0), "/revision", "greater than"),
        (lambda d: d.update(issued_on=1799712000), "/issued_on", "date"),
        (lambda d: d.update(issued_on="2026-02-30"), "/issued_on", "date"),
        (lambda d: d.update(issued_on="12/12/2026"), "/issued_on", "date"),
        (lambda d: d.update(opening="yes"), "/opening", "boolean"),
        (lambda d: d["external"].update(system="a/b"), "/external/system", "pattern"),
    ],
)
def test_a_fault_in_the_data_is_named_by_pointer_and_words(
    change: Callable[[dict[str, Any]], object], pointer: str, words: str
) -> None:
    refused = refusal_of(value=with_data(change))

    assert refused.code == "invalid_data"
    assert refused.pointer == pointer
    assert words in refused.detail
    assert str(refused).startswith(f"{pointer}: ")


def test_all_faults_of_the_data_are_told_at_once() -> None:
    def change(data: dict[str, Any]) -> None:
        data.pop("number")
        data["payable"]["currency"] = "XYZ"

    assert {fault.pointer for fault in refusal_of(value=with_data(change)).faults} == {
        "/number",
        "/payable/currency",
    }


def test_a_number_for_an_amount_comes_with_a_hint() -> None:
    assert refusal_of(value=with_data(amount(1.5))).hint == "write amounts as text, with the decimals of the currency"


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"headers": {"ce_companyid": "other"}}, "company_mismatch"),
        ({"headers": {"ce_source": "/erp/other/sap"}}, "company_mismatch"),
        ({"headers": {"ce_partitionkey": "other|C-1042"}}, "company_mismatch"),
        ({"key": b"other|C-1042"}, "company_mismatch"),
        ({"key": b"\xff\xfe"}, "company_mismatch"),
        ({"value": with_data(lambda data: data.pop("company"))}, "company_missing"),
    ],
)
def test_a_company_that_is_missing_or_disagrees_is_a_security_matter(parts: dict[str, Any], code: str) -> None:
    refused = refusal_of(**parts)
    assert refused.code == code
    assert refused.is_security_relevant


@pytest.mark.parametrize("parts", [{"key": b"acme-mx|C-9"}, {"headers": {"ce_partitionkey": "acme-mx|-"}}])
def test_a_key_of_another_customer_is_refused(parts: dict[str, Any]) -> None:
    refused = refusal_of(**parts)
    assert refused.code == "key_mismatch"
    assert not refused.is_security_relevant


@pytest.mark.parametrize(
    ("headers", "code", "pointer"),
    [
        ({"ce_type": None}, "missing_attribute", "ce_type"),
        ({"ce_id": None}, "missing_attribute", "ce_id"),
        ({"ce_id": ""}, "missing_attribute", "ce_id"),
        ({"ce_id": "x" * 256}, "invalid_attribute", "ce_id"),
        ({"ce_id": "a\nb"}, "invalid_attribute", "ce_id"),
        ({"ce_source": None}, "missing_attribute", "ce_source"),
        ({"ce_source": "urn:erp"}, "invalid_attribute", "ce_source"),
        ({"ce_specversion": None}, "missing_attribute", "ce_specversion"),
        ({"ce_specversion": "2.0"}, "invalid_attribute", "ce_specversion"),
        ({"ce_time": "yesterday"}, "invalid_attribute", "ce_time"),
        ({"ce_time": "2027-01-14T15:04:05"}, "invalid_attribute", "ce_time"),
        ({"ce_time": "2027-13-14T15:04:05Z"}, "invalid_attribute", "ce_time"),
        ({"content-type": "application/xml"}, "unsupported_content_type", "content-type"),
        ({"content-type": "application/cloudevents-batch+json"}, "unsupported_content_type", "content-type"),
    ],
)
def test_a_faulty_attribute_of_an_erp_is_named(headers: dict[str, str | None], code: str, pointer: str) -> None:
    refused = refusal_of(headers=headers)
    assert (refused.code, refused.pointer) == (code, pointer)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"ce_id": "invoice-1"}, "invalid_attribute"),
        ({"ce_source": "/cobranza/dunning"}, "invalid_attribute"),
        ({"ce_subject": "cash-feed/other"}, "invalid_attribute"),
        ({"ce_partitionkey": "acme-mx|C-1"}, "invalid_attribute"),
        ({"ce_sequence": "7"}, "invalid_attribute"),
        ({"ce_sequence": None}, "missing_attribute"),
        ({"ce_time": None}, "missing_attribute"),
        ({"ce_correlationid": None}, "missing_attribute"),
        ({"ce_companyid": None}, "company_missing"),
        ({"content-type": "application/cloudevents+json"}, "unsupported_content_type"),
    ],
)
def test_events_of_our_own_carry_every_attribute(headers: dict[str, str | None], code: str) -> None:
    record = encode(WATERMARK)
    with pytest.raises(EnvelopeError) as refused:
        decode(record.key, changed(record, headers), record.value, strict=False)
    assert refused.value.code == code


def test_events_of_our_own_carry_their_key() -> None:
    record = encode(WATERMARK)
    with pytest.raises(EnvelopeError, match="key"):
        decode(None, record.headers, record.value, strict=False)


def test_an_attribute_given_twice_is_refused() -> None:
    record = encode(INVOICE)
    with pytest.raises(EnvelopeError, match="once"):
        decode(None, [*record.headers, ("ce_id", b"another")], record.value, strict=True)


def test_a_malformed_trace_does_not_stop_an_event() -> None:
    event = read_invoice(headers={"ce_traceparent": "nonsense"})
    assert isinstance(event, Envelope)
    assert event.traceparent is None


def test_a_structured_event_is_held_to_its_key() -> None:
    headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
    document = encode_structured(INVOICE)

    assert decode(b"acme-mx|C-1042", headers, document, strict=True) == INVOICE
    with pytest.raises(EnvelopeError, match="key"):
        decode(b"acme-mx|C-9", headers, document, strict=True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"data": None}, "invalid_data"),
        ({"id": 7}, "invalid_attribute"),
        ({"companyid": ["other"]}, "invalid_attribute"),
        ({"datacontenttype": "text/xml"}, "unsupported_content_type"),
        ({"specversion": "0.3"}, "invalid_attribute"),
    ],
)
def test_a_faulty_structured_event_is_refused(change: dict[str, Any], code: str) -> None:
    event = json.loads(encode_structured(INVOICE)) | change
    with pytest.raises(EnvelopeError) as refused:
        decode_structured(json.dumps(event).encode())
    assert refused.value.code == code


@pytest.mark.parametrize("document", [b"[]", b"7", b'"event"', b"{}", b'{"data": {}}'])
def test_a_document_that_is_no_event_is_refused(document: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_structured(document)


def test_an_event_that_no_broker_would_take_dies_where_it_is_made() -> None:
    request = dunning.StepReached(
        company="acme-mx",
        case_id=EVENT_ID,
        customer="C-1042",
        currency="MXN",
        step="aviso-1",
        run=1,
        position=1,
        kind="notice",
        receivable_ids=[EVENT_ID] * 1000,
        policy={"id": "mx-b2b", "version": 1},
        decision_id=EVENT_ID,
        reached_on=date(2027, 1, 14),
    )
    envelope = Envelope(
        event_id=EVENT_ID, source="/cobranza/dunning", data=request, time=TIME, sequence=1, correlation_id="root"
    )
    assert MAX_INGRESS_BYTES / 2 < len(encode(envelope).value) < MAX_BYTES

    too_long = request.model_copy(update={"receivable_ids": (EVENT_ID,) * 20_000})
    with pytest.raises(EnvelopeError) as refused:
        encode(
            Envelope(
                event_id=EVENT_ID,
                source="/cobranza/dunning",
                data=too_long,
                time=TIME,
                sequence=1,
                correlation_id="root",
            )
        )
    assert refused.value.code == "too_large"


def test_instants_are_written_in_utc() -> None:
    local = TIME.astimezone(timezone(timedelta(hours=-6)))
    data = payments.CashWatermark(company="acme-mx", through_on=date(2027, 1, 13), stated_at=local)
    assert json.loads(data.model_dump_json())["stated_at"] == "2027-01-14T15:04:05Z"


junk_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def refusal_or_none(read: Callable[[], object]) -> EnvelopeError | None:
    try:
        read()
    except EnvelopeError as refused:
        return refused
    return None


@given(
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(
        st.tuples(st.sampled_from(["content-type", "ce_id", "ce_time", "ce_sequence", "x"]), st.binary(max_size=30))
    ),
    type_=st.sampled_from([*PAYLOADS, "other"]),
    value=st.binary(max_size=200) | junk_json.map(lambda value: json.dumps(value).encode()),
    strict=st.booleans(),
)
@settings(max_examples=300)
def test_whatever_arrives_is_read_or_refused_by_reason(
    *, key: bytes | None, headers: list[tuple[str, bytes]], type_: str, value: bytes, strict: bool
) -> None:
    attributes = [("ce_specversion", b"1.0"), ("ce_type", type_.encode()), ("ce_source", b"/erp/acme-mx/sap")]
    refused = refusal_or_none(lambda: decode(key, [*attributes, *headers], value, strict=strict))
    assert refused is None or (refused.code and refused.detail)


@given(field=st.sampled_from(sorted(json.loads(encode(INVOICE).value))), junk=junk_json)
@settings(max_examples=300)
def test_whatever_stands_in_a_field_is_read_or_refused_by_reason(field: str, junk: object) -> None:
    refused = refusal_or_none(lambda: read_invoice(value=with_data(lambda data: data.update({field: junk}))))
    assert refused is None or (refused.code and refused.detail)


@given(name=st.sampled_from(["id", "source", "type", "time", "companyid", "partitionkey", "data"]), junk=junk_json)
@settings(max_examples=300)
def test_whatever_stands_in_an_attribute_is_read_or_refused_by_reason(name: str, junk: object) -> None:
    event = json.loads(encode_structured(INVOICE)) | {name: junk}
    refused = refusal_or_none(lambda: decode_structured(json.dumps(event).encode()))
    assert refused is None or (refused.code and refused.detail)


@given(junk_json)
def test_strict_json_reads_what_json_reads(value: object) -> None:
    document = json.dumps(value).encode()
    if refused := refusal_or_none(lambda: parse_json_strict(document)):
        assert refused.code == "not_json"
        assert b"NaN" in document or b"Infinity" in document
    else:
        assert parse_json_strict(document) == value


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "", "America"])
def test_an_erp_cannot_place_a_customer_in_a_zone_that_does_not_exist(zone: str) -> None:
    record = encode(
        erp_event(
            ingress.CustomerChanged(
                company="acme-mx",
                external={"system": "sap", "id": "C-1042"},
                customer="C-1042",
                name="Ferretería López",
                country="MX",
                zone="America/Mexico_City",
            ),
            external_event_id="customer-C-1042-1",
            system="sap",
        )
    )
    value = json.dumps(json.loads(record.value) | {"zone": zone}).encode()
    with pytest.raises(EnvelopeError) as refused:
        decode(record.key, record.headers, value, strict=True)
    assert refused.value.pointer == "/zone"
