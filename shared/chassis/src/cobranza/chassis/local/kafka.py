"""A real Apache Kafka broker of our own: one KRaft node on the loopback."""

import asyncio
import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from cobranza.chassis.local.faults import LocalModeError, explained
from cobranza.chassis.local.java import Java
from cobranza.chassis.local.state import State
from cobranza.chassis.local.supervisor import Program

_UNSAFE_WARNS_SINCE = 24
_LOG4J = """<Configuration status="WARN">
  <Appenders>
    <Console name="out" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} %p %m (%c{1})%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
  </Loggers>
</Configuration>
"""


class Kafka:
    """The broker of one state directory."""

    def __init__(self, state: State, java: Java, class_path: Sequence[Path]) -> None:
        self._state = state
        self._java = java
        self._class_path = class_path
        self._port = state.port("kafka")
        self._controller_port = state.port("kafka-controller")
        self._directory = state.directory / "kafka"
        self._configuration = self._directory / "server.properties"
        self._log4j = self._directory / "log4j2.xml"

    @property
    def bootstrap(self) -> str:
        """Where clients begin."""
        return f"127.0.0.1:{self._port}"

    def prepare(self) -> None:
        """Write the configuration and format the storage once.

        Raises:
            LocalModeError: the storage is damaged, or cannot be written.
        """
        storage = self._directory / "data"
        with explained(self._state.directory):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._configuration.write_text(_properties(self._settings(storage)))
            self._log4j.write_text(_LOG4J)
            if (storage / "meta.properties").exists():
                return
            if storage.exists() and any(storage.glob("*/*")):
                raise self._state.damaged("its broker's storage has lost its identity")
            answer = subprocess.run(
                [
                    *self._command("kafka.tools.StorageTool", "format"),
                    *("-t", self._state.cluster_id, "-c", str(self._configuration)),
                    "--ignore-formatted",
                ],
                env=self._environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        if answer.returncode != 0:
            said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
            raise LocalModeError(f"Kafka could not format its storage: {'; '.join(said[-2:])}")

    def program(self) -> Program:
        """What the supervisor runs."""
        return Program(
            name="kafka",
            command=self._command("kafka.Kafka", str(self._configuration)),
            environment=self._environment(),
            ready=self.is_ready,
        )

    async def is_ready(self) -> bool:
        """True when a broker of our cluster answers, and not merely somebody on the port."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.close()
            return await asyncio.to_thread(self._answers)
        return False

    def _answers(self) -> bool:
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000, api_version=(2, 5))
        except KafkaError:
            return False
        try:
            found = admin.describe_cluster()
            return bool(found["cluster_id"] == self._state.cluster_id and found["brokers"])
        except KafkaError:
            return False
        finally:
            admin.close()

    def _command(self, main_class: str, *arguments: str) -> tuple[str | Path, ...]:
        newer: tuple[str, ...] = ()
        if self._java.version >= _UNSAFE_WARNS_SINCE:
            newer = (
                "--sun-misc-unsafe-memory-access=allow",
                "--enable-native-access=ALL-UNNAMED",
            )
        return (
            self._java.executable,
            *("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"),
            "-XX:+ExitOnOutOfMemoryError",
            f"-Djava.io.tmpdir={self._state.directory / 'tmp'}",
            f"-Dlog4j2.configurationFile={self._log4j.as_uri()}",
            *newer,
            *("-cp", ":".join(map(str, self._class_path)), main_class, *arguments),
        )

    def _environment(self) -> Mapping[str, str]:
        # Nothing is inherited: options meant for other Java programs would reach the broker.
        return {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}

    def _settings(self, storage: Path) -> dict[str, str | int]:
        clients, controller = f"127.0.0.1:{self._port}", f"127.0.0.1:{self._controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"CLIENTS://{clients},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENTS://{clients}",
            "inter.broker.listener.name": "CLIENTS",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(storage),
            "auto.create.topics.enable": "false",
            # One node holds the only copy of everything.
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            # The default takes half of the heap.
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
            # With the defaults a restart after a kill takes 11 s instead of 4.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 1000,
        }


def _properties(settings: Mapping[str, str | int]) -> str:
    # A backslash starts an escape in this format; nothing else in our values is special.
    lines = (f"{name}={value}".replace("\\", "\\\\") for name, value in settings.items())
    return "\n".join([*lines, ""])
