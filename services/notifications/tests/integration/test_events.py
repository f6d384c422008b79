"""Events delivered twice and out of order have the effect of being delivered once, in order."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from cobranza.chassis import inbox, migrations
from cobranza.chassis.streams.batch import BatchRunner, FetchedList
from cobranza.contracts.envelope import Envelope, encode
from cobranza.contracts.identifiers import EventId
from cobranza.contracts.payments import CashWatermark
from cobranza.notifications.agents import agents
from cobranza.notifications.invariants import INVARIANTS


def topic_id(topic: Any) -> Any:
    return uuid5(NAMESPACE_URL, topic)


@pytest.fixture
async def deliver(service: Any, companies: Any) -> Any:
    """Feed records to a topic's runner: (payload, event number, sequence) each."""
    context: Any = SimpleNamespace(companies=companies, settings=SimpleNamespace(evaluation_hour=6))
    runners = {
        agent.topic: BatchRunner(
            consumer="notifications",
            agent=agent,
            database=service.database,
            topic_id=partial(topic_id, agent.topic),
        )
        for agent in agents(context)
    }
    offsets = dict.fromkeys(runners, 0)
    async with service.database.transaction() as tx:
        for topic in runners:
            await inbox.start_positions(
                tx, consumer="notifications", topic=topic, topic_id=topic_id(topic), earliest={0: 0}
            )

    async def feed(topic: Any, *told: Any) -> None:
        records = []
        for place, (payload, number, sequence) in enumerate(told):
            record = encode(
                Envelope(
                    event_id=EventId(UUID(int=number)),
                    source=f"/cobranza/{payload.TYPE.split('.')[1]}",
                    time=datetime(2027, 1, 4, 12, tzinfo=UTC),
                    sequence=sequence,
                    correlation_id="c",
                    data=payload,
                )
            )
            records.append(
                SimpleNamespace(
                    offset=offsets[topic] + place, key=record.key, value=record.value, headers=record.headers
                )
            )
        start = offsets[topic]
        offsets[topic] += len(records)
        fetched = FetchedList(records, partition=0, fetched_from=start, end_offset=offsets[topic])
        assert await runners[topic].apply([await runners[topic].read(fetched)]) == {}

    return feed


async def test_a_notice_requested_twice_is_queued_once(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.dunning", (told.requested(), 1, 1), (told.requested(), 1, 1))
    await deliver("cobranza.dunning", (told.requested(), 1, 1))

    assert len(await service.query("SELECT 1 FROM notice")) == 1


async def test_the_same_step_run_under_another_event_is_the_same_notice(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.dunning", (told.requested(), 1, 1), (told.requested(), 2, 2))

    assert len(await service.query("SELECT 1 FROM notice")) == 1


async def test_an_older_state_of_a_customer_changes_nothing(deliver: Any, service: Any, told: Any) -> None:
    newer = told.customer(revision=2, name="Newer")

    await deliver("cobranza.customers", (newer, 2, 2), (told.customer(), 1, 1), (newer, 2, 2))

    (row,) = await service.query("SELECT state ->> 'name' AS name FROM customer")
    assert row.name == "Newer"


async def test_an_older_state_of_an_invoice_changes_nothing(deliver: Any, service: Any, told: Any) -> None:
    newer = told.invoice(revision=2, concept="newer")

    await deliver("cobranza.invoicing", (newer, 2, 2), (told.invoice(), 1, 1), (newer, 2, 2))

    (row,) = await service.query("SELECT concept FROM invoice")
    assert row.concept == "newer"


async def test_two_states_of_one_invoice_in_one_batch_leave_the_last(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.invoicing", (told.invoice(), 1, 1), (told.invoice(concept="last"), 2, 2))

    (row,) = await service.query("SELECT concept FROM invoice")
    assert row.concept == "last"


async def test_a_payment_told_twice_is_confirmed_once(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.payments", (told.payment(), 1, 1), (told.payment(), 1, 1))
    await deliver("cobranza.payments", (told.payment(), 1, 1))

    assert len(await service.query("SELECT 1 FROM notice")) == 1


async def test_a_hold_makes_its_customers_waiting_notices_ask_again(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.dunning", (told.requested(), 1, 1))
    await service.change("UPDATE notice SET try_at = clock_timestamp() + interval '1 hour'")

    await deliver("cobranza.dunning", (told.hold(), 2, 1), (told.hold(), 2, 1))

    assert await service.query("SELECT 1 FROM notice WHERE try_at <= clock_timestamp()")


async def test_fresh_cash_makes_the_companys_waiting_notices_ask_again(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.dunning", (told.requested(), 1, 1))
    await service.change("UPDATE notice SET try_at = clock_timestamp() + interval '1 hour'")
    watermark = CashWatermark.model_validate(
        {"company": "acme-mx", "through_on": "2027-01-03", "stated_at": "2027-01-04T08:00:00Z"}
    )

    await deliver("cobranza.payments", (watermark, 2, 1), (watermark, 2, 1))

    assert await service.query("SELECT 1 FROM notice WHERE try_at <= clock_timestamp()")


async def test_an_event_of_an_unknown_company_is_parked(deliver: Any, service: Any, told: Any) -> None:
    await deliver("cobranza.dunning", (told.requested(company="nobody"), 1, 1))

    (parked,) = await service.query("SELECT error_class FROM parked")
    assert parked.error_class == "company_unknown"


async def test_the_invariants_hold_after_sending_and_find_what_breaks_them(
    deliver: Any, service: Any, told: Any, sink: Any
) -> None:
    await deliver("cobranza.customers", (told.customer(), 1, 1))
    await deliver("cobranza.dunning", (told.requested(), 2, 1))
    await service.sender.run()
    healthy = [await service.query(invariant.sql) for invariant in INVARIANTS]

    await service.change("UPDATE notice SET permit = NULL, version = 0")
    await service.change(
        "INSERT INTO notice_history (notice_id, state, attempt, business_at)"
        " SELECT notice_id, 'sent', 1, clock_timestamp() FROM notice"
    )

    assert healthy == [[], [], []]
    assert all([await service.query(invariant.sql) for invariant in INVARIANTS])


def test_the_schema_is_what_the_tables_say_and_can_be_taken_back(fresh_database: Any) -> None:
    where = "cobranza.notifications:migrations"
    urls = fresh_database("notifications", lambda url: migrations.upgrade(where, url))

    migrations.check(where, urls.owner_url)
    migrations.downgrade(where, urls.owner_url)
    migrations.upgrade(where, urls.owner_url)
    migrations.check(where, urls.owner_url)
