"""The same two servers from containers, where a container engine answers."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def engine_answers() -> bool:
    """True when a container engine can be reached."""
    with warnings.catch_warnings():
        # The client drops its socket unclosed when nobody listens.
        warnings.simplefilter("ignore", ResourceWarning)
        answers = _ping()
        gc.collect()
    return answers


def _ping() -> bool:
    docker: Any = import_module("docker")  # ships no types
    try:
        client = docker.from_env()
        try:
            return bool(client.ping())
        finally:
            client.close()
    except docker.errors.DockerException:
        return False


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server in a container; yields its superuser's URL."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    with PostgresContainer("postgres:18-alpine", username="cobranza", driver=None) as server:
        yield server.get_connection_url()


@contextmanager
def kafka() -> Iterator[str]:
    """A Kafka broker in a container; yields its bootstrap address."""
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415

    with KafkaContainer().with_kraft() as broker:
        yield broker.get_bootstrap_server()
