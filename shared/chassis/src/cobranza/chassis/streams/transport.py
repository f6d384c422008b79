"""Faust's Kafka transport, changed to hand agents whole fetched lists, decoded, and to seek to our positions.

Stock Faust makes several asyncio tasks per record and keeps its place in Kafka's group offsets,
which lose records on some rebalances. This transport delivers each fetched list as one message and
asks the application where every partition continues. It leans on names that faust-streaming 0.15.3
does not promise; tests/unit/test_streams_transport.py names each of them and fails on an upgrade.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from cobranza.chassis.streams.batch import FetchedList


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The aiokafka consumer on its own thread; remembers where each fetch began."""

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
        max_records: int | None = None,
    ) -> Any:
        before = {tp: self._asked(consumer, tp) for tp in active_partitions or ()}
        fetched = await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=max_records)
        lists = {}
        for tp, records in fetched.items():
            if records:
                start = before.get(tp)
                sought = self._sought.pop(tp, None)
                if sought is not None:
                    start = sought
                if start is None or start > records[0].offset:
                    start = records[0].offset
                end = consumer.highwater(tp)
                lists[tp] = FetchedList(
                    records,
                    partition=tp.partition,
                    fetched_from=start,
                    end_offset=end if end is not None else records[-1].offset + 1,
                )
        return lists

    @staticmethod
    def _asked(consumer: Any, tp: Any) -> int | None:
        assignment = consumer._subscription.subscription.assignment
        if assignment is None or tp not in assignment.tps:
            return None
        state = assignment.state_value(tp)
        return int(state._position) if state is not None and state.has_valid_position else None

    @property
    def _sought(self) -> dict[Any, int]:
        # A fetch that waits while we seek began before the seek but answers after it.
        return cast("dict[Any, int]", self.__dict__.setdefault("_sought_offsets", {}))

    def seek(self, partition: TP, offset: int) -> None:
        """Continue `partition` at `offset`."""
        self._sought[driver.ensure_aiokafka_TP(partition)] = offset
        super().seek(partition, offset)

    def check_coordinator(self) -> None:
        """Raise what the group coordinator has failed with, if anything."""
        self._ensure_consumer()._coordinator.check_errors()

    def group_is_stable(self) -> bool:
        """True while this member belongs to a settled group."""
        coordinator = self._ensure_consumer()._coordinator
        return bool(coordinator.generation > 0 and not coordinator._rejoin_needed_fut.done())


class Consumer(driver.Consumer):
    """Delivers fetched lists, commits finished ones, continues where the database says."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[Any, int]:
        """Seek every assigned partition to the position the database holds, and return them."""
        assigned = {TP(tp.topic, tp.partition) for tp in self.assignment()}
        app: Any = self.app
        positions = await app.stored_positions(assigned)  # set by chassis.streams.worker
        for tp, offset in positions.items():
            await self._seek(tp, offset)
        return cast("Mapping[Any, int]", positions)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._thread.call_thread(self._seek_on_thread, partition, offset)

    async def _seek_on_thread(self, partition: TP, offset: int) -> None:
        self._thread.seek(partition, offset)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                records, _ = await self._wait_next_records(timeout=1.0)
                await self.sleep(0)
                if self.should_stop:
                    return
                if not records:
                    continue
                generation = self.app.consumer_generation_id
                app: Any = self.app
                for key, fetched in records.items():
                    tp = TP(key.topic, key.partition)
                    part = await app.read_list(tp, fetched)  # set by chassis.streams.worker
                    if not self.flow_active or generation != self.app.consumer_generation_id:
                        # The rebalance in progress ends with a seek to our positions.
                        break
                    await self._deliver(tp, part, cast("Any", fetched[-1]), fetcher, generation)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            # Faust cancels the fetcher on shutdown; a cancelled future of ours must not end it.
            if not (self.transport.app.should_stop or self.app.rebalancing):
                raise

    async def _deliver(self, tp: TP, part: Any, last: Any, fetcher: Any, generation: int) -> None:
        topics: Any = self.app.topics
        for channel in list(topics._tp_index[tp]):
            queue = channel.queue
            # Never block in the queue's own put: a rebalance cancels waiting putters.
            while queue.full():
                if (
                    not self.flow_active
                    or self.should_stop
                    or fetcher._stopped.is_set()
                    or generation != self.app.consumer_generation_id
                ):
                    return
                await self.sleep(0.005)
            message = ConsumerMessage(
                tp.topic, tp.partition, last.offset, last.timestamp / 1000.0, last.timestamp_type,
                None, None, part, None, None, None, tp, generation_id=generation,
            )  # fmt: skip
            message.incref(1)
            event = channel._create_event(None, part, None, message=message)
            queue.put_nowait_enhanced(
                event,
                on_pressure_high=lambda: self.on_buffer_full(tp),
                on_pressure_drop=lambda: self.on_buffer_drop(tp),
            )
        self._read_offset[tp] = last.offset

    def ack(self, message: Any) -> bool:
        """Note a finished list; one of a passed generation is not committed."""
        if message.generation_id != self.app.consumer_generation_id:
            self._unacked_messages.discard(message)
            message.acked = True
            return False
        return super().ack(message)

    def _new_offset(self, tp: TP) -> int | None:
        # Lists of a partition finish in order, so the last finished one covers all before it.
        acked = self._acked[tp]
        if not acked:
            return None
        last = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return last + 1


class Transport(driver.Transport):
    """Registered as the `cobranza` scheme through the entry-point group `faust.transports`."""

    Consumer: ClassVar[Any] = Consumer
