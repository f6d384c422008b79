"""Every private name that the stream transport leans on; an upgrade that renames one fails here."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import aiokafka
import faust.channels
import faust.transport.conductor
import faust.transport.consumer
import faust.transport.drivers.aiokafka as driver
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState

from cobranza.chassis.streams.transport import Consumer, ConsumerThread, Transport


def test_the_pinned_releases_are_installed() -> None:
    assert (version("faust-streaming"), version("mode-streaming"), version("aiokafka")) == ("0.15.3", "0.7.1", "0.14.0")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (faust.transport.consumer.Consumer, "_drain_messages"),
        (faust.transport.consumer.Consumer, "_wait_next_records"),
        (faust.transport.consumer.Consumer, "_new_offset"),
        (faust.transport.consumer.Consumer, "_filter_tps_with_pending_acks"),
        (faust.transport.consumer.Consumer, "ack"),
        (faust.transport.consumer.Consumer, "perform_seek"),
        (faust.transport.consumer.Consumer, "on_buffer_full"),
        (faust.transport.consumer.Consumer, "on_buffer_drop"),
        (driver.Consumer, "_new_consumer_thread"),
        (driver.AIOKafkaConsumerThread, "_fetch_records"),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
        (driver, "ensure_aiokafka_TP"),
        (faust.channels.Channel, "_create_event"),
        (GroupCoordinator, "check_errors"),
        (TopicPartitionState, "has_valid_position"),
        (Assignment, "state_value"),
    ],
)
def test_a_name_we_lean_on_exists(owner: object, name: str) -> None:
    assert hasattr(owner, name)


@pytest.mark.parametrize("name", ["_read_offset", "_acked", "_acked_index", "_unacked_messages"])
def test_a_consumer_still_keeps_the_state_we_use(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(faust.transport.consumer)


def test_the_conductor_still_indexes_channels_by_partition() -> None:
    assert "self._tp_index" in inspect.getsource(faust.transport.conductor.Conductor)


def test_a_position_is_still_where_we_read_it() -> None:
    assert "_position" in inspect.getsource(TopicPartitionState)
    assert "_rejoin_needed_fut" in inspect.getsource(GroupCoordinator)
    assert aiokafka.AIOKafkaConsumer is not None


def test_the_overridden_methods_keep_the_driver_s_signatures() -> None:
    for ours, theirs in (
        (ConsumerThread._fetch_records, driver.AIOKafkaConsumerThread._fetch_records),
        (Consumer._drain_messages, faust.transport.consumer.Consumer._drain_messages),
        (Consumer._new_offset, faust.transport.consumer.Consumer._new_offset),
        (Consumer.ack, faust.transport.consumer.Consumer.ack),
    ):
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_the_transport_is_found_under_its_scheme() -> None:
    from faust.transport import by_url
    from yarl import URL

    assert by_url(URL("cobranza://127.0.0.1:9092")) is Transport
