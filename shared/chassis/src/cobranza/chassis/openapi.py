"""Writes the OpenAPI document of every service, so that a change of an API is seen when it is reviewed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from cobranza.chassis import http
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.service import Context, Service

DIRECTORY = Path("docs/openapi")


def documents() -> Mapping[Path, str]:
    """The document of each installed service, by its path from the root of the repository."""
    services: list[Service[Any]] = [entry.load() for entry in entry_points(group="cobranza.services")]
    return {
        DIRECTORY / f"{service.name}.json": json.dumps(_document(service), indent=2, ensure_ascii=False) + "\n"
        for service in sorted(services, key=lambda service: service.name)
    }


def _document(service: Service[Any]) -> dict[str, Any]:
    clock = BusinessClock(None)
    # Routes are only described: nothing connects to a database, and what a deployment must set stays unset.
    context = Context(
        service=service.name,
        settings=service.settings.model_construct(),
        database=Database("postgresql://127.0.0.1/none", service=service.name, clock=clock),
        clock=clock,
        companies=Companies({}),
    )
    return http.openapi(service.name, service.router(context))


def stale(root: Path) -> list[str]:
    """What differs between the committed documents and the routes, one line each."""
    made = documents()
    kept = {path.relative_to(root) for path in (root / DIRECTORY).glob("*.json")}
    found = [f"{path}: of no service" for path in sorted(kept - set(made))]
    for path, text in made.items():
        if path not in kept:
            found.append(f"{path}: missing")
        elif (root / path).read_text(encoding="utf-8") != text:
            was, now = (_operations(json.loads(t)) for t in ((root / path).read_text(encoding="utf-8"), text))
            changed = sorted({name for name in was | now if was.get(name) != now.get(name)})
            found.append(f"{path}: {', '.join(changed) or 'schemas'}")
    return found


def _operations(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: write the documents, or check that all of them are fresh."""
    parser = argparse.ArgumentParser(prog="python -m cobranza.chassis.openapi")
    parser.add_argument("verb", choices=("write", "check"))
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "check":
        differences = stale(chosen.root)
        for difference in differences:
            sys.stdout.write(f"stale: {difference}\n")
        return 1 if differences else 0
    for path, text in documents().items():
        (chosen.root / path).parent.mkdir(parents=True, exist_ok=True)
        (chosen.root / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
