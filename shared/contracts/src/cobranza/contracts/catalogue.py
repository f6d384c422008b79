"""Writes what derives from the catalogue: JSON Schemas, the page of events, AsyncAPI."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import CATALOGUE, Topic

PACKAGE = Path("shared/contracts/src/cobranza/contracts")
EVENTS = Path("docs/events.md")
ASYNCAPI = Path("docs/asyncapi.json")

_DRAFT = "http://json-schema.org/draft-07/schema#"

# Attributes of the envelope: name, meaning, who must write it.
_ATTRIBUTES = (
    ("specversion", "`1.0`", "everybody"),
    ("id", "A uuid on events of Cobranza; an ERP's own id, unique in its source", "everybody"),
    ("source", "`/cobranza/<service>` or `/erp/<company>/<system>`", "everybody"),
    ("type", "`cobranza.<service>.<event>.v1` or `erp.<event>.v1`", "everybody"),
    ("subject", "`<aggregate>/<id>`, what `sequence` counts", "Cobranza"),
    ("time", "When it was published, RFC 3339", "Cobranza"),
    ("companyid", "The company; must agree with the data", "Cobranza"),
    ("partitionkey", "The record's key; must agree with the data", "Cobranza"),
    ("sequence", "Number of the event within its subject, 20 digits", "Cobranza"),
    ("correlationid", "Id of the event or command at the root", "Cobranza"),
    ("causationid", "Id of what caused it directly", ""),
    ("traceparent", "W3C trace context", ""),
    ("expirytime", "A reader must not act on it later than this", ""),
)

_PREAMBLE = """\
# Events

Everything Cobranza's services tell each other, and what an ERP may send. Made by `make docs` from
`shared/contracts`; not edited by hand.

* Every event is a CloudEvent 1.0 in binary mode: attributes in `ce_*` headers, JSON in the value, key
  `company|customer`, or `company|-` for facts without a known customer. ERPs may also send structured
  JSON (`application/cloudevents+json`).
* Data carries the full state of what it tells. A reader drops a `sequence` that is not above what it
  has seen, ignores fields it does not know, and skips types it does not know.
* `*_on` is a date, `*_at` an instant in UTC, money is `{"amount": "1160.00", "currency": "MXN"}` with
  the amount as text. What is absent is left out, never null.
* The folders `schemas` and `examples` of `shared/contracts/src/cobranza/contracts` have a JSON Schema
  and an example of each event."""


def schema_of(payload: type[Payload]) -> dict[str, Any]:
    """JSON Schema of the data of one event type, in what draft-07 and 2020-12 have in common."""
    schema = payload.model_json_schema(mode="serialization", ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", None)
    tidy = {"$schema": _DRAFT, "$id": f"urn:cobranza:{payload.TYPE}", **_tidied(schema)}
    return tidy | ({"definitions": _tidied_each(definitions)} if definitions else {})


def examples_of(type_: str) -> tuple[bytes, ...]:
    """Golden examples of an event type, each a structured CloudEvent.

    They never change: producers write such events, readers understand them for ever.
    """
    folder = resources.files("cobranza.contracts") / "examples"
    names = sorted(path.name for path in folder.iterdir())
    return tuple(
        (folder / name).read_bytes() for name in names if name.startswith(f"{type_}.") and name.endswith(".json")
    )


def schemas() -> dict[Path, str]:
    """Every schema file, by its path from the root of the repository."""
    return {
        PACKAGE / "schemas" / f"{payload.TYPE}.json": _document(schema_of(payload))
        for topic in CATALOGUE
        for payload in topic.classes
    }


def docs() -> dict[Path, str]:
    """The generated documents, by their paths from the root of the repository."""
    return {EVENTS: _events_page(), ASYNCAPI: _document(_asyncapi())}


def stale(root: Path) -> list[Path]:
    """Generated files that are missing, differ from what would be written, or are left over."""
    wanted = schemas() | docs()
    folder = root / PACKAGE / "schemas"
    left_over = {path.relative_to(root) for path in folder.glob("*.json")} - wanted.keys()
    return sorted(
        left_over
        | {
            path
            for path, text in wanted.items()
            if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the schemas or the documents, or check that all of them are fresh."""
    parser = argparse.ArgumentParser(prog="python -m cobranza.contracts.catalogue")
    parser.add_argument("verb", choices=("schemas", "docs", "check"))
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "check":
        paths = stale(chosen.root)
        for path in paths:
            sys.stdout.write(f"stale: {path}\n")
        return 1 if paths else 0
    for path, text in (schemas() if chosen.verb == "schemas" else docs()).items():
        (chosen.root / path).parent.mkdir(parents=True, exist_ok=True)
        (chosen.root / path).write_text(text, encoding="utf-8")
    return 0


def _document(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _tidied_each(schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tidied(schema) for name, schema in schemas.items()}


def _tidied(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing: a title on every field, null for what is left out instead."""
    tidy = {**schema}
    if "properties" in tidy:
        tidy["properties"] = {
            name: {key: value for key, value in _tidied(field).items() if key != "title"}
            for name, field in tidy["properties"].items()
        }
    alternatives = tidy.get("anyOf", [])
    if {"type": "null"} in alternatives:
        del tidy["anyOf"], tidy["default"]
        tidy = alternatives[0] | tidy
    if isinstance(tidy.get("items"), dict):
        tidy["items"] = _tidied(tidy["items"])
    if "description" in tidy:
        tidy["description"] = " ".join(tidy["description"].replace("``", "`").split())
    return tidy


def _events_page() -> str:
    lines = [
        *_PREAMBLE.splitlines(),
        "",
        "| Attribute | Meaning | Required of |",
        "|---|---|---|",
        *(f"| `{name}` | {meaning} | {who} |" for name, meaning, who in _ATTRIBUTES),
        "",
        "| Topic | Written by | Read by | Kept | Events |",
        "|---|---|---|---|---|",
        *(_topic_row(topic) for topic in CATALOGUE),
    ]
    for topic in CATALOGUE:
        lines += ["", f"## {topic.name}", "", topic.purpose]
        for payload in topic.classes:
            lines += _event_section(payload)
    return "\n".join(lines) + "\n"


def _topic_row(topic: Topic) -> str:
    writer = "ERPs and banks" if topic.is_ingress else topic.producer
    kept = "for ever" if topic.retention_days is None else f"{topic.retention_days} days"
    if topic.compacted:
        kept = "newest per key; a tombstone erases"
    return (
        f"| [`{topic.name}`](#{topic.name.replace('.', '')}) | {writer}"
        f" | {', '.join(topic.consumers)} | {kept} | {len(topic.classes)} |"
    )


def _event_section(payload: type[Payload]) -> list[str]:
    schema = schema_of(payload)
    subject = f"{payload.AGGREGATE}/" + "/".join(f"<{name}>" for name in payload.AGGREGATE_ID)
    lines = [
        "",
        f"### {payload.TYPE}",
        "",
        str(schema["description"]),
        "",
        f"Subject `{subject}`.",
        "",
        "| Field | | Type | Meaning |",
        "|---|---|---|---|",
    ]
    return lines + list(_field_rows(schema, schema, prefix=""))


def _field_rows(whole: Mapping[str, Any], part: Mapping[str, Any], *, prefix: str) -> list[str]:
    rows: list[str] = []
    required = part.get("required", ())
    for name, field in part["properties"].items():
        path = f"{prefix}{name}"
        must = "required" if name in required else ""
        item = field.get("items", field)
        nested = _resolved(whole, item)
        many = "list of " if "items" in field else ""
        kind = "money" if _is_money(nested) else many + _kind(nested)
        meaning = str(field.get("description") or item.get("description") or "")
        if "default" in field and field["default"] not in ([], ()):
            default = json.dumps(field["default"], ensure_ascii=False)
            meaning = f"{meaning}; default `{default}`".removeprefix("; ")
        rows.append(f"| `{path}` | {must} | {kind} | {meaning.replace('|', '/')} |")
        if "properties" in nested and not _is_money(nested):
            rows += _field_rows(whole, nested, prefix=f"{path}[]." if many else f"{path}.")
    return rows


def _resolved(whole: Mapping[str, Any], field: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = field.get("$ref")
    if reference is None:
        return field
    definition: Mapping[str, Any] = whole["definitions"][reference.rpartition("/")[2]]
    return definition


def _is_money(schema: Mapping[str, Any]) -> bool:
    return schema.get("title") == "Money"


def _kind(schema: Mapping[str, Any]) -> str:
    match schema:
        case {"enum": [*values]}:
            return " / ".join(f"`{value}`" for value in values)
        case {"format": "date"}:
            return "date"
        case {"format": "date-time"}:
            return "instant"
        case {"format": str(name)}:
            return name
        case {"pattern": str(pattern), "type": "string"} if pattern.startswith("^-?(0|"):
            return "amount as text"
        case {"type": "string"}:
            return "text"
        case {"type": "integer"}:
            return "whole number"
        case _:
            return str(schema["type"])


def _asyncapi() -> dict[str, Any]:
    """AsyncAPI 3: one channel per topic, one operation per service and topic."""
    classes = [payload for topic in CATALOGUE for payload in topic.classes]
    keys, models = models_json_schema(
        [(payload, "serialization") for payload in classes],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Cobranza",
            "version": "1.0.0",
            "description": "Event-driven collection of receivables. Every message is a CloudEvent 1.0 in binary mode.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in CATALOGUE},
        "operations": {name: operation for topic in CATALOGUE for name, operation in _operations(topic)},
        "components": {
            "messages": {
                payload.TYPE: {
                    "name": payload.TYPE,
                    "title": payload.__name__,
                    "summary": str(schema_of(payload)["description"]),
                    "contentType": "application/json",
                    "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
                    "correlationId": {"location": "$message.header#/ce_correlationid"},
                    "payload": keys[payload, "serialization"],
                    "bindings": {"kafka": {"key": {"type": "string"}}},
                }
                for payload in classes
            },
            "schemas": {"CloudEventHeaders": _headers_schema()} | _tidied_each(models["$defs"]),
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    policy = ["compact"] if topic.compacted else ["delete"]
    days = topic.retention_days
    retention = -1 if days is None else days * 24 * 60 * 60 * 1000
    return {
        "address": topic.name,
        "description": topic.purpose,
        "messages": {payload.TYPE: {"$ref": f"#/components/messages/{payload.TYPE}"} for payload in topic.classes},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {"cleanup.policy": policy, "retention.ms": retention},
            }
        },
    }


def _operations(topic: Topic) -> list[tuple[str, dict[str, Any]]]:
    # What the services do; whoever connects an ERP describes its sending.
    channel = {"$ref": f"#/channels/{topic.name}"}
    sends = [] if topic.is_ingress else [(topic.producer, "send")]
    receives = [(service, "receive") for service in topic.consumers]
    return [
        (f"{service}.{action}.{topic.name}", {"action": action, "channel": channel})
        for service, action in sends + receives
    ]


def _headers_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            f"ce_{name}": {"type": "string", "description": meaning.replace("`", "")}
            for name, meaning, _ in _ATTRIBUTES
        },
        "required": [f"ce_{name}" for name, _, who in _ATTRIBUTES if who == "everybody"],
    }


if __name__ == "__main__":
    sys.exit(main())
