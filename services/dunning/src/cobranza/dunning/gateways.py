"""The outside world of dunning: policy files, read as text with the place of every value."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from cobranza.dunning.domain.document import Fault, Items, Node, Place, Scalar, Table, fault_at

MOST_BYTES: Final = 64 * 1024
MOST_TIMELINE_BYTES: Final = 2 * 1024 * 1024
_DEEPEST: Final = 12


def presets() -> list[str]:
    """Names of the policies that are shipped."""
    folder = resources.files("cobranza.dunning") / "policies"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def read_preset_readme(name: str) -> str:
    """When the shipped preset is of use."""
    return (resources.files("cobranza.dunning") / "policies" / f"{name}.md").read_text(encoding="utf-8")


def read_source(name: str) -> str:
    """The text of a policy file, or of the shipped preset of that name.

    Raises:
        OSError: there is neither.
        UnicodeDecodeError: the file is not UTF-8.
    """
    path = Path(name)
    if not path.exists() and name in presets():
        return (resources.files("cobranza.dunning") / "policies" / f"{name}.yaml").read_text(encoding="utf-8")
    return path.read_text(encoding="utf-8")


def parse(source: str) -> tuple[Table, tuple[Fault, ...]]:
    """The document of a policy file with its places, and what is wrong with it as YAML (P101)."""
    document, faults = parse_any(source, most_bytes=MOST_BYTES)
    if not isinstance(document, Table):
        faults = faults or (fault_at(document.place, "P101", "-", "expected keys and values at the top"),)
        return Table(()), faults
    return document, faults


def parse_any(source: str, *, most_bytes: int = MOST_TIMELINE_BYTES) -> tuple[Node, tuple[Fault, ...]]:
    """Any document of YAML, of which JSON is a part, with its places and what is wrong with it."""
    empty = Scalar("", Place(1, 1))
    if len(source.encode("utf-8", "surrogatepass")) > most_bytes:
        return empty, (fault_at(Place(1, 1), "P101", "-", f"larger than {most_bytes} bytes"),)
    if source.lstrip().startswith("{"):
        # JSON may be indented by tabs, which YAML does not know; inside its strings there are none.
        source = source.replace("\t", " ")
    try:
        faults = _forbidden(source)
        if faults:
            return empty, tuple(faults)
        # Scalars stay text: the schema says what each one means.
        root = yaml.compose(source, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        place = _place(error.problem_mark or error.context_mark)
        return empty, (fault_at(place, "P101", "-", f"not YAML: {error.problem or error.context}"),)
    except yaml.YAMLError as error:
        return empty, (fault_at(Place(1, 1), "P101", "-", f"not YAML: {str(error).splitlines()[0]}"),)
    found: list[Fault] = []
    document = _node(root, found, depth=0, path="") if root is not None else empty
    return document, tuple(found)


def _forbidden(source: str) -> list[Fault]:
    """Anchors, aliases and tags, by a look at the events: composing resolves them."""
    faults: list[Fault] = []
    depth = 0
    for event in yaml.parse(source, Loader=yaml.BaseLoader):
        place = _place(event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            # Reading on would take time without bound.
            return [*faults, fault_at(place, "P101", "-", f"nested deeper than {_DEEPEST} levels")]
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            faults.append(fault_at(place, "P101", f"*{anchor}", "aliases are not allowed; write the value again"))
        elif anchor:
            faults.append(fault_at(place, "P101", f"&{anchor}", "anchors are not allowed"))
        tag = getattr(event, "tag", None)
        if tag:
            faults.append(fault_at(place, "P101", str(tag), "tags are not allowed"))
    return faults


def _node(node: yaml.Node, faults: list[Fault], *, depth: int, path: str) -> Node:
    place = _place(node.start_mark)
    if depth > _DEEPEST:
        faults.append(fault_at(place, "P101", path or "-", f"nested deeper than {_DEEPEST} levels"))
        return Scalar("", place)
    match node:
        case yaml.MappingNode():
            entries: list[tuple[Scalar, Node]] = []
            seen: set[str] = set()
            for key_node, value_node in node.value:
                key = Scalar(
                    _joined(str(key_node.value)) if isinstance(key_node, yaml.ScalarNode) else "",
                    _place(key_node.start_mark),
                )
                where = f"{path}.{key.text}" if path else key.text
                if not isinstance(key_node, yaml.ScalarNode):
                    faults.append(fault_at(key.place, "P101", path or "-", "a key must be a word"))
                elif key.text in seen:
                    faults.append(fault_at(key.place, "P101", where, f"key {key.text!r} is written twice"))
                else:
                    seen.add(key.text)
                    entries.append((key, _node(value_node, faults, depth=depth + 1, path=where)))
            return Table(tuple(entries), place)
        case yaml.SequenceNode():
            return Items(
                tuple(
                    _node(item, faults, depth=depth + 1, path=f"{path}[{number}]")
                    for number, item in enumerate(node.value, start=1)
                ),
                place,
            )
        case _:
            return Scalar(_joined(str(node.value)), place)


def _joined(text: str) -> str:
    """JSON escapes a character beyond the first 65,536 as two, which YAML leaves apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _place(mark: Any) -> Place:
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
