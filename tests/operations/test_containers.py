"""The images and the composition are as hardened and as complete as the design says, seen without an engine."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import stat
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from cobranza.chassis.http.access import KeyAccess
from cobranza.chassis.local.jars import KAFKA_VERSION
from cobranza.chassis.settings import PlatformSettings, ServiceSettings
from cobranza.chassis.testing import containers

ROOT = Path(__file__).parents[2]
SERVICES = ("invoicing", "payments", "dunning", "notifications", "analytics")
ROLES = ("migrate", "api", "worker")
PROCESSES = [f"{service}-{role}" for service in SERVICES for role in ROLES]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
#: What a composition leaves at its default: local mode's, the virtual clock's, and preferences.
LEFT_AT_DEFAULT = {
    # Payment providers are a company's choice: docs/operations.md says how to mount their file.
    "PAYMENTS_PSP_FILE",
    "COBRANZA_ALLOW_VIRTUAL_CLOCK", "COBRANZA_CLOCK_FILE", "COBRANZA_EVALUATION_HOUR", "COBRANZA_LOCAL_MODE",
    "COBRANZA_LOG_LEVEL", "COBRANZA_MAILBOX", "DUNNING_BRAKE_FLOOR",
}  # fmt: skip
ONE_SHOT = {"topics", *(f"{service}-migrate" for service in SERVICES)}


def _settings(service: str) -> type[ServiceSettings]:
    (found,) = entry_points(group="cobranza.services", name=service)
    return found.load().settings  # type: ignore[no-any-return]


def _variables(settings: type[PlatformSettings]) -> dict[str, bool]:
    """The variables a process reads, and whether it cannot do without."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    return {
        field.alias or f"{prefix}{name}".upper(): field.is_required() for name, field in settings.model_fields.items()
    }


def _given(process: str) -> dict[str, str | None]:
    given: dict[str, str | None] = CONTAINERS[process].get("environment", {})
    return given


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What `deploy/make_secrets.py` wrote."""
    subprocess.run([sys.executable, ROOT / "deploy/make_secrets.py", "--directory", tmp_path], check=True)
    lines = (tmp_path / ".env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


# The containers


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_cannot_change_itself_or_gain_rights(name: str) -> None:
    container = CONTAINERS[name]

    assert container["read_only"] is True
    assert container["init"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.split(":")[0] == "/tmp" for mount in container["tmpfs"])  # noqa: S108 - inside the container
    assert not {"privileged", "devices", "pid", "ipc", "network_mode", "userns_mode"} & container.keys()


def test_only_caddy_keeps_a_capability() -> None:
    assert {name: c["cap_add"] for name, c in CONTAINERS.items() if "cap_add" in c} == {"caddy": ["NET_BIND_SERVICE"]}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_not_root(name: str) -> None:
    assert CONTAINERS[name]["user"].split(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_has_limits(name: str) -> None:
    container = CONTAINERS[name]

    assert re.fullmatch(r"\d+[mg]", container["mem_limit"])
    assert 0 < container["cpus"] <= 2
    assert 0 < container["pids_limit"] <= 500
    assert container["logging"]["options"]["max-size"] == "10m"


@pytest.mark.parametrize("name", CONTAINERS)
def test_ports_are_on_the_loopback_only(name: str) -> None:
    for port in CONTAINERS[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port)


def test_operations_ports_are_not_published() -> None:
    published = [port.rsplit(":", 1)[1] for c in CONTAINERS.values() for port in c.get("ports", [])]

    assert "9000" not in published
    assert {name for name, c in CONTAINERS.items() if "ports" in c} == {
        "caddy", "kafka", "prometheus", "grafana", "mailbox",
    }  # fmt: skip


def test_networks_keep_apart_who_need_not_meet() -> None:
    members = {
        network: {n for n, c in CONTAINERS.items() if network in c["networks"]} for network in COMPOSE["networks"]
    }

    assert set(members) == {"edge", "app", "data"}
    assert COMPOSE["networks"]["app"] == COMPOSE["networks"]["data"] == {"internal": True}
    assert members["edge"] == {"caddy", "kafka", "notifications-worker", "prometheus", "grafana", "mailbox"}
    assert "postgres" not in members["app"] | members["edge"]
    assert members["data"] & {"caddy", "prometheus", "grafana", "mailbox"} == set()


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_server_is_watched_and_a_job_runs_once(name: str) -> None:
    container = CONTAINERS[name]
    if name in ONE_SHOT:
        assert container["restart"] == "no"
        assert container["healthcheck"] == {"disable": True}
    else:
        assert container["restart"] == "unless-stopped"
        # Our own images bring theirs.
        assert ("healthcheck" in container) is not container["image"].startswith("cobranza-")


def test_mounts_are_read_only_or_named_volumes() -> None:
    for name, container in CONTAINERS.items():
        for mount in container.get("volumes", []):
            source, *_, mode = mount.split(":")
            assert mode == "ro" or source in COMPOSE["volumes"], f"{name}: {mount}"


def test_mounted_files_exist() -> None:
    mounts = [m.split(":")[0] for c in CONTAINERS.values() for m in c.get("volumes", []) if m.startswith("./")]

    assert [mount for mount in mounts if not (ROOT / mount).exists()] == []


def test_images_have_a_version_and_the_servers_that_of_everywhere() -> None:
    foreign = [c["image"] for c in CONTAINERS.values() if not c["image"].startswith("cobranza-")]

    assert [image for image in foreign if not re.fullmatch(r"[\w./-]+:v?\d[\w.-]*(@sha256:[0-9a-f]{64})?", image)] == []
    assert CONTAINERS["kafka"]["image"].split("@")[0] == containers.KAFKA_IMAGE
    assert CONTAINERS["postgres"]["image"].split("@")[0] == containers.POSTGRES_IMAGE
    assert f"the same version, {KAFKA_VERSION}." in (ROOT / "deploy/kafka/README.md").read_text(encoding="utf-8")


# The platform


@pytest.mark.parametrize("process", PROCESSES)
def test_every_service_has_every_role_from_its_own_image(process: str) -> None:
    service, role = process.rsplit("-", 1)
    container = CONTAINERS[process]

    assert container["command"] == [service, role]
    assert container["image"].startswith(f"cobranza-{service}:")
    assert container["build"] == {"context": ".", "dockerfile": "deploy/Dockerfile", "args": {"SERVICE": service}}
    assert "profiles" not in container


def test_plain_up_is_the_platform_and_profiles_add_to_it() -> None:
    profiles = {name: c["profiles"] for name, c in CONTAINERS.items() if "profiles" in c}

    assert profiles == {"prometheus": ["observability"], "grafana": ["observability"], "mailbox": ["demo"]}
    assert set(CONTAINERS) - profiles.keys() == {"kafka", "postgres", "topics", "caddy", *PROCESSES}


@pytest.mark.parametrize("service", SERVICES)
def test_a_process_waits_for_what_it_needs(service: str) -> None:
    migrated = {"condition": "service_completed_successfully"}

    assert CONTAINERS[f"{service}-migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert CONTAINERS[f"{service}-api"]["depends_on"] == {f"{service}-migrate": migrated}
    assert CONTAINERS[f"{service}-worker"]["depends_on"] == {f"{service}-migrate": migrated, "topics": migrated}
    assert CONTAINERS["caddy"]["depends_on"][f"{service}-api"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("process", [*PROCESSES, "topics"])
def test_a_process_is_told_what_it_reads_and_nothing_else(process: str) -> None:
    service = process.rsplit("-", 1)[0]
    reads = _variables(PlatformSettings if process == "topics" else _settings(service))

    assert set(_given(process)) <= reads.keys()
    assert {name for name, is_required in reads.items() if is_required} <= set(_given(process))


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_given_somewhere_or_left_at_its_default_on_purpose(service: str) -> None:
    given = {name for role in ROLES for name in _given(f"{service}-{role}")}

    reads = _variables(_settings(service)).keys()
    assert reads - given == LEFT_AT_DEFAULT & reads


@pytest.mark.parametrize("service", SERVICES)
def test_only_migrations_know_the_owner_of_a_database(service: str) -> None:
    owner = f"{service.upper()}_OWNER_DATABASE_URL"

    assert [role for role in ROLES if owner in _given(f"{service}-{role}")] == ["migrate"]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_settings_accept_what_the_composition_gives(
    process: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(process.rsplit("-", 1)[0])
    for variable in _variables(settings):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in _given(process).items():
        if value is not None:
            monkeypatch.setenv(variable, _substituted(value, environment))

    loaded = settings()

    assert loaded.kafka_bootstrap == "kafka:9092"
    assert str(loaded.database_url.get_secret_value()).count(environment["POSTGRES_PASSWORD"]) == 0


def test_companies_and_keys_are_where_the_settings_say() -> None:
    for service in SERVICES:
        api = CONTAINERS[f"{service}-api"]
        assert f"./deploy/companies.yaml:{api['environment']['COBRANZA_COMPANIES']}:ro" in api["volumes"]
        assert api["environment"]["COBRANZA_API_KEYS"] == f"/run/secrets/{api['secrets'][0]}"


def test_every_variable_of_the_composition_is_in_the_example() -> None:
    named = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    passed_on = {name for c in CONTAINERS.values() for name, value in c.get("environment", {}).items() if value is None}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert {name for name in named | passed_on if not re.search(rf"^#?{name}=", example, re.MULTILINE)} == set()


def test_the_first_start_makes_the_databases_that_the_services_use(environment: dict[str, str]) -> None:
    script = (ROOT / "deploy/postgres/10-services.sh").read_text(encoding="utf-8")

    (made,) = re.findall(r"^for service in (.+); do$", script, re.MULTILINE)

    assert tuple(made.split()) == SERVICES
    for service in SERVICES:
        for role, variable in (("app", "DATABASE_URL"), ("owner", "OWNER_DATABASE_URL")):
            password = f"{service.upper()}_{role.upper()}_PASSWORD"
            url = _given(f"{service}-migrate")[f"{service.upper()}_{variable}"]
            assert url == f"postgresql://{service}_{role}:${{{password}}}@postgres:5432/{service}"
            assert password in CONTAINERS["postgres"]["environment"]


def test_caddy_joins_every_prefix() -> None:
    caddyfile = (ROOT / "deploy/caddy/Caddyfile").read_text(encoding="utf-8")

    for service in SERVICES:
        assert f"/{service}/*" in caddyfile
        assert f"reverse_proxy {service}-api:8080" in caddyfile


def test_prometheus_scrapes_every_process() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    running = {process for process in PROCESSES if not process.endswith("-migrate")}

    assert set(job["static_configs"][0]["targets"]) == {f"{process}:9000" for process in running}
    assert all(_given(process)["COBRANZA_OPERATIONS_PORT"] == "9000" for process in running)
    assert all("app" in CONTAINERS[process]["networks"] for process in (*running, "prometheus"))


def test_an_engine_reads_the_composition(environment: dict[str, str], tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker client with compose here")

    answer = subprocess.run(
        [docker, "compose", "--file", ROOT / "docker-compose.yml", "--env-file", tmp_path / ".env",
         "--profile", "*", "config", "--quiet"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (answer.returncode, answer.stderr) == (0, "")


# Secrets


def test_the_example_has_no_usable_secret() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()

    secret = [line for line in lines if re.match(r"#?[A-Z_]*(PASSWORD|KEY|TOKEN|SECRET)=", line)]

    assert len(secret) >= 14
    assert [line for line in secret if not line.endswith("=")] == []


def test_made_secrets_are_long_different_and_private(environment: dict[str, str], tmp_path: Path) -> None:
    secret = [value for name, value in environment.items() if re.search(r"(PASSWORD|KEY|TOKEN|SECRET)$", name)]

    assert len(set(secret)) == len(secret)
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in secret)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_the_file_of_keys_is_what_the_apis_read(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / environment["COBRANZA_API_KEYS_FILE"]
    token = environment["NOTIFICATIONS_PAYMENTS_TOKEN"]

    KeyAccess(file)
    entries = {entry["name"]: entry for entry in yaml.safe_load(file.read_text(encoding="utf-8"))}

    assert entries["notifications"]["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert entries["notifications"]["scopes"] == ["permits:write"]
    assert token not in file.read_text(encoding="utf-8")


def test_secrets_are_never_overwritten(environment: dict[str, str], tmp_path: Path) -> None:
    again = subprocess.run(
        [sys.executable, ROOT / "deploy/make_secrets.py", "--directory", tmp_path], capture_output=True, check=False
    )

    assert again.returncode == 1
    assert environment["POSTGRES_PASSWORD"] in (tmp_path / ".env").read_text(encoding="utf-8")


# The image


def test_the_image_is_built_with_the_builtin_frontend_alone() -> None:
    assert "syntax=" not in DOCKERFILE
    assert "--link" not in DOCKERFILE
    assert "<<" not in DOCKERFILE


def test_the_image_installs_hashed_requirements_and_the_members_as_they_are() -> None:
    assert "pip install --require-hashes -r requirements/${SERVICE}.txt -r requirements/build.txt" in DOCKERFILE
    assert (
        "pip install --no-deps --no-build-isolation shared/contracts shared/chassis services/${SERVICE}" in DOCKERFILE
    )
    assert "python -m compileall" in DOCKERFILE
    for service in SERVICES:
        assert (ROOT / "requirements" / f"{service}.txt").exists()


def test_the_image_runs_as_nobody_in_particular_and_stops_when_told() -> None:
    final = DOCKERFILE.split("FROM ${PYTHON_IMAGE}\n")[1]

    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", final, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["cobranza"\]$', final, re.MULTILINE)
    assert re.search(r'^CMD \["', final, re.MULTILINE)
    assert "/livez" in final.split("HEALTHCHECK")[1]
    assert "RUN" not in final


def test_the_image_gets_nothing_that_it_is_not_built_from() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)

    assert ignore[1] == "*"
    assert {source.split("/")[0] for line in copied for source in line.split()} == {
        "requirements",
        "shared",
        "services",
    }
    assert {line[1:].split("/")[0] for line in ignore if line.startswith("!")} == {"requirements", "shared", "services"}


def test_digests_are_written_behind_tags_and_renewed() -> None:
    spec = importlib.util.spec_from_file_location("lock_images", ROOT / "deploy/lock_images.py")
    assert spec is not None
    assert spec.loader is not None
    lock_images = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock_images)
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8") + DOCKERFILE

    once = lock_images.pinned(text, lambda _: "sha256:" + "a" * 64)
    twice = lock_images.pinned(once, lambda _: "sha256:" + "b" * 64)

    assert f"image: {containers.KAFKA_IMAGE}@sha256:{'b' * 64}\n" in twice
    assert twice.count("@sha256:") == once.count("@sha256:") == 7
    assert "cobranza-payments:${COBRANZA_VERSION:-dev}\n" in twice


def _substituted(value: str, environment: dict[str, str]) -> str:
    return re.sub(r"\$\{([A-Z_]+)(?::[-?][^}]*)?\}", lambda found: environment[found[1]], value)
