import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest

from cobranza.contracts import catalogue, invoicing
from cobranza.contracts.envelope import Envelope, decode, decode_structured, encode, encode_structured
from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import CATALOGUE, PAYLOADS, TOPIC_OF, Topic, topic

ROOT = Path(__file__).parents[4]
SERVICES = {"invoicing", "payments", "dunning", "notifications", "analytics"}

every_payload = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=str)
every_topic = pytest.mark.parametrize("a_topic", CATALOGUE, ids=lambda t: t.name)
every_example = pytest.mark.parametrize(
    ("type_", "document"),
    [(type_, document) for type_ in PAYLOADS for document in catalogue.examples_of(type_)],
    ids=lambda value: value if isinstance(value, str) else "",
)


def read(document: bytes) -> Envelope[Payload]:
    event = decode_structured(document)
    assert isinstance(event, Envelope)
    return event


@every_payload
def test_class_type_and_topic_say_the_same_words(payload: type[Payload]) -> None:
    words = re.sub(r"(?<!^)(?=[A-Z])", "-", payload.__name__).lower()
    module = payload.__module__.rpartition(".")[2]
    prefix = "erp" if module == "ingress" else f"cobranza.{module}"
    producer = topic(TOPIC_OF[payload.TYPE]).producer

    assert f"{prefix}.{words}.v1" == payload.TYPE
    assert producer == ("erp" if module == "ingress" else module)


@every_payload
def test_every_event_has_an_example(payload: type[Payload]) -> None:
    assert catalogue.examples_of(payload.TYPE)


@every_payload
def test_every_event_says_what_it_tells(payload: type[Payload]) -> None:
    assert payload.__dict__["__doc__"]


@every_payload
def test_schemas_stay_in_what_draft_07_understands(payload: type[Payload]) -> None:
    schema = catalogue.schema_of(payload)

    jsonschema.Draft7Validator.check_schema(schema)
    assert not re.search(r"\$defs|prefixItems|unevaluated|\$dynamic|\"null\"", json.dumps(schema))


@every_topic
def test_every_topic_has_a_producer_and_readers(a_topic: Topic) -> None:
    assert a_topic.producer in SERVICES | {"erp"}
    assert a_topic.consumers
    assert set(a_topic.consumers) <= SERVICES - {a_topic.producer}
    assert a_topic.partitions == 6


def test_an_event_type_is_on_one_topic_alone() -> None:
    assert sum(len(a_topic.classes) for a_topic in CATALOGUE) == len(PAYLOADS) == len(TOPIC_OF)


def test_events_of_one_aggregate_are_on_one_topic() -> None:
    homes: dict[str, set[str]] = {}
    for a_topic in CATALOGUE:
        for payload in a_topic.classes:
            if not a_topic.is_ingress:
                homes.setdefault(payload.AGGREGATE, set()).add(a_topic.name)
    assert {aggregate: names for aggregate, names in homes.items() if len(names) > 1} == {}


def test_personal_data_is_on_the_compacted_topic_alone() -> None:
    compacted = [a_topic for a_topic in CATALOGUE if a_topic.compacted]
    assert [a_topic.classes for a_topic in compacted] == [(invoicing.CustomerChanged,)]
    for a_topic in CATALOGUE:
        for payload in a_topic.classes:
            if not a_topic.is_ingress and not a_topic.compacted:
                assert not {"name", "tax_id", "contacts", "payer"} & set(payload.model_fields)


def test_an_unknown_topic_is_an_error() -> None:
    with pytest.raises(KeyError):
        topic("cobranza.weather")


@every_example
def test_an_example_is_its_event_and_comes_back_the_same(type_: str, document: bytes) -> None:
    event = read(document)
    record = encode(event)

    assert event.type == type_
    assert json.loads(encode_structured(event)) == json.loads(document)
    strict = topic(TOPIC_OF[type_]).is_ingress
    assert decode(record.key, record.headers, record.value, strict=strict) == event


@every_example
def test_an_example_agrees_with_its_schema(type_: str, document: bytes) -> None:
    validator = jsonschema.Draft7Validator(catalogue.schema_of(PAYLOADS[type_]))
    assert list(validator.iter_errors(json.loads(document)["data"])) == []


@every_example
def test_a_schema_refuses_what_the_reader_refuses_first(type_: str, document: bytes) -> None:
    validator = jsonschema.Draft7Validator(catalogue.schema_of(PAYLOADS[type_]))
    data = json.loads(document)["data"]
    for name in validator.schema["required"]:
        lacking = {key: value for key, value in data.items() if key != name}
        assert list(validator.iter_errors(lacking)), name


@every_example
def test_a_reader_ignores_what_a_later_producer_adds(type_: str, document: bytes) -> None:
    event = json.loads(document)
    event["data"] = with_additions(event["data"])
    assert read(json.dumps(event).encode()) == read(document)


def with_additions(value: Any) -> Any:
    match value:
        case dict():
            return {name: with_additions(inner) for name, inner in value.items()} | {"added_later": 1}
        case list():
            return [with_additions(inner) for inner in value]
        case _:
            return value


@every_example
def test_a_payload_made_in_python_equals_the_one_read(type_: str, document: bytes) -> None:
    data = read(document).data
    assert PAYLOADS[type_].model_validate(data.model_dump()) == data


def test_generated_files_are_fresh() -> None:
    assert catalogue.stale(ROOT) == []


def test_a_stale_or_left_over_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(tmp_path)
    assert catalogue.main(["schemas", "--root", root]) == 0
    assert catalogue.main(["docs", "--root", root]) == 0
    assert catalogue.main(["check", "--root", root]) == 0

    (tmp_path / catalogue.EVENTS).write_text("old")
    (tmp_path / catalogue.PACKAGE / "schemas" / "erp.gone.v1.json").write_text("{}")
    (tmp_path / catalogue.PACKAGE / "schemas" / "erp.invoice-issued.v1.json").unlink()

    assert catalogue.main(["check", "--root", root]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "stale: docs/events.md",
        "stale: shared/contracts/src/cobranza/contracts/schemas/erp.gone.v1.json",
        "stale: shared/contracts/src/cobranza/contracts/schemas/erp.invoice-issued.v1.json",
    ]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads(catalogue.docs()[catalogue.ASYNCAPI])
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        found = document
        for part in reference.split("/"):
            found = found[part]


def test_the_asyncapi_document_has_every_channel_message_and_reader() -> None:
    document = json.loads(catalogue.docs()[catalogue.ASYNCAPI])

    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {a_topic.name for a_topic in CATALOGUE}
    assert set(document["components"]["messages"]) == set(PAYLOADS)
    receiving = [name for name, operation in document["operations"].items() if operation["action"] == "receive"]
    assert len(receiving) == sum(len(a_topic.consumers) for a_topic in CATALOGUE)
