"""Every fault of a bank file is told in Spanish too: what was expected, and what stands where nothing was found."""

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from babel.messages.pofile import read_po

from cobranza.payments.domain.errors import StatementError

SOURCES = Path(str(resources.files("cobranza.payments")))
FILES = [*sorted((SOURCES / "gateways" / "statements").glob("*.py")), SOURCES / "domain" / "bank_transaction.py",
         SOURCES / "use_cases" / "imports.py"]  # fmt: skip
#: Said by other libraries, in English only; or nothing but the value.
WITHOUT_WORDS = {"{problem}", "{currency}", "{account}", "YAML", "CRDT or DBIT"}


def literals(name: str) -> Iterator[tuple[str, int, object]]:
    """The texts that faults are made with: the third and fourth argument of `_fault`, or those named so."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"expected": 2, "found": 3}[name]
            given: ast.expr | None = None
            if node.func.id == "_fault":
                given = node.args[place]
            elif node.func.id == "StatementError":
                given = next((keyword.value for keyword in node.keywords if keyword.arg == name), None)
            if given is not None:
                yield file.name, node.lineno, given.value if isinstance(given, ast.Constant) else given


def spanish() -> dict[str, str]:
    with (SOURCES / "page" / "locale" / "es.po").open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id and message.string}


def test_what_was_expected_is_a_constant_text_with_its_spanish() -> None:
    known, missing = spanish(), set()
    for file, line, told in literals("expected"):
        if isinstance(told, ast.Name):
            # Handed on by the function that makes the fault.
            continue
        assert isinstance(told, str), f"{file}:{line} puts its words together, so nobody can tell them in Spanish"
        if told not in WITHOUT_WORDS:
            missing |= {told} - known.keys()
    assert missing == set()


def test_what_was_found_has_its_spanish_where_it_is_a_word_of_ours() -> None:
    words = {
        told for _, _, told in literals("found") if isinstance(told, str) and not told[0].isdigit() and told[0] != ":"
    }

    assert words <= spanish().keys()


def test_the_spanish_has_the_same_values() -> None:
    known = spanish()
    for _, _, told in literals("expected"):
        if isinstance(told, str) and told in known:
            values = {name: name for name in ("most", "currency", "stated", "mapping", "columns", "unpacked", "ratio",
                      "balance", "decimal", "order", "begun", "width", "opened", "count", "codes", "account", "digits",
                      "first", "last", "encoding", "decimals", "example", "company", "problem")}  # fmt: skip
            fault = StatementError(line=1, name="x", expected=told, values=values, found="y")
            assert fault.in_words(known[told])
            for value in values:
                assert (f"{{{value}}}" in told) == (f"{{{value}}}" in known[told]), told
