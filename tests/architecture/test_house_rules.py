"""Rules of the house that no tool checks by itself."""

from __future__ import annotations

import ast
import re
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from cobranza.chassis import cli, page
from cobranza.contracts.topics import CATALOGUE

ROOT = Path(__file__).parents[2]
SERVICES = ("invoicing", "payments", "dunning", "notifications", "analytics")
MODULES = {
    "__init__", "__main__", "api", "agents", "scheduler", "commands", "use_cases", "queries", "invariants", "repository",
    "gateways", "domain", "tables", "settings", "metrics",
}  # fmt: skip
DATA_FOLDERS = {"migrations", "page", "policies", "presets", "templates", "scripts"}


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def _package(service: str) -> Path:
    return ROOT / "services" / service / "src" / "cobranza" / service


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_only_the_module_names_everybody_knows(service: str) -> None:
    found = {path.stem for path in _package(service).glob("*.py")}
    folders = {path.name for path in _package(service).iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert found - MODULES == set()
    assert folders - MODULES - DATA_FOLDERS == set()


@pytest.mark.parametrize("service", SERVICES)
def test_data_folders_are_no_packages(service: str) -> None:
    assert [f for f in DATA_FOLDERS if (_package(service) / f / "__init__.py").exists()] == []


def test_the_namespace_has_no_init_file() -> None:
    """One `__init__.py` in a `src/cobranza/` makes every other part unimportable."""
    assert list(ROOT.glob("s*/*/src/cobranza/__init__.py")) == []


def test_test_folders_are_no_packages() -> None:
    assert [p for p in ROOT.glob("s*/*/tests/**/__init__.py") if "demo_service" not in p.parts] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_exactly_the_topics_the_catalogue_gives_it(service: str) -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in _agents(service))
    read = set(re.findall(r'"((?:erp|cobranza)\.[a-z]+)"', source))

    assert read == {entry.name for entry in CATALOGUE if service in entry.consumers}


def _agents(service: str) -> list[Path]:
    package = _package(service)
    return [package / "agents.py"] if (package / "agents.py").exists() else list((package / "agents").glob("*.py"))


def test_every_service_is_found_by_the_command() -> None:
    assert {entry.name for entry in entry_points(group="cobranza.services")} == set(SERVICES)


#: Where money is computed; metrics and pages only show it.
MONEY_BEARING = ("domain", "use_cases", "repository", "queries", "invariants")


@pytest.mark.parametrize("service", SERVICES)
def test_money_is_never_a_float(service: str) -> None:
    faults = []
    for name in MONEY_BEARING:
        for path in [*_package(service).glob(f"{name}.py"), *_package(service).glob(f"{name}/**/*.py")]:
            faults += [
                f"{path.relative_to(ROOT)}:{node.lineno}"
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float"
            ]
    assert faults == []


def test_no_statement_is_compiled_for_a_list_of_rows() -> None:
    """`.values([...])` costs nine times an `unnest`."""
    faults = [
        str(path.relative_to(ROOT))
        for path in ROOT.glob("s*/*/src/**/*.py")
        if re.search(r"\.values\(\s*\[", path.read_text(encoding="utf-8"))
    ]
    assert faults == []


def test_no_file_names_a_registry_or_a_path_of_a_machine() -> None:
    # Put together here so that this file does not name them.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "repo1" + ".maven", "registry" + ".npmjs", "deb" + ".debian.org"]
    places = ["/ho" + "me/", "/ro" + "ot/"]
    faults = []
    for path in _tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        faults += [f"{path.relative_to(ROOT)}: {word}" for word in (*hosts, *places) if word in text]
    assert faults == []


def test_locked_requirements_hold_hashes_and_no_addresses() -> None:
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if "://" in line or line.startswith("-")], path.name
        pinned = [line for line in lines if "==" in line]
        assert pinned, path.name
        assert len([line for line in lines if "--hash=sha256:" in line]) >= len(pinned), path.name


def test_every_link_of_the_navigation_has_its_spanish_in_the_frame() -> None:
    labels = {link.label for service in cli.services().values() for link in service.pages}

    # Each service shows the links of all: its own words would help on its own pages only.
    assert labels <= page._known_texts(None)


def test_the_shared_readme_lists_every_module_of_contracts_and_chassis() -> None:
    text = (ROOT / "shared" / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", text, flags=re.MULTILINE))
    found = set()
    for member in ("contracts", "chassis"):
        package = ROOT / "shared" / member / "src" / "cobranza" / member
        found |= {path.stem for path in package.glob("*.py") if path.stem != "__init__"}
        found |= {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    assert listed == found


def test_documents_name_only_targets_that_the_makefile_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in _tracked() if path.suffix == ".md"]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE)}

    assert named
    assert named - targets == set()


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_its_page_of_documentation(service: str) -> None:
    assert (ROOT / "services" / service / "README.md").is_file()
