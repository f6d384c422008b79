"""The same two servers from containers, where a container engine answers."""

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

from cobranza.chassis.local import ports
from cobranza.chassis.local.jars import KAFKA_VERSION

#: Those of docker-compose.yml; Kafka's version is that of local mode too.
POSTGRES_IMAGE: Final = "postgres:18"
KAFKA_IMAGE: Final = f"apache/kafka:{KAFKA_VERSION}"
_KAFKA: Final = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093,HOST://:9094",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,HOST:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
}


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

    with PostgresContainer(POSTGRES_IMAGE, username="cobranza", driver=None) as server:
        yield server.get_connection_url()


@contextmanager
def kafka() -> Iterator[str]:
    """A Kafka broker in a container; yields its bootstrap address."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415

    # A broker tells its clients where it is, so the port is known before it starts.
    port = ports.choose(())
    broker = (
        DockerContainer(KAFKA_IMAGE)
        .with_envs(**_KAFKA, KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://localhost:9092,HOST://127.0.0.1:{port}")
        .with_bind_ports("9094/tcp", port)
        .waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(60))
    )
    with broker:
        yield f"127.0.0.1:{port}"
