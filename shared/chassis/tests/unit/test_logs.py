"""A log line says what was decided and nothing about a person."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cobranza.chassis import clock, logs
from cobranza.chassis.ids import new_id

PERSONAL = [
    "ana.lopez+cobros@example.test",
    "+52 55 1234 5678",
    "+34 (91) 123-45-67",
    "55 1234 5678",
    "5512345678",
    "GODE561231GR8",
    "ABC010203AB1",
    "GODE561231HDFRRN09",
    "B12345678",
    "12345678Z",
    "76.086.428-5",
    "900.123.456-7",
    "20123456789",
    "ES91 2100 0418 4502 0005 1332",
    "MX00ABCD1234567890123456",
    "GB29NWBK60161331926819",
]
HARMLESS = [
    "2027-01-11",
    "2027-01-11T14:05:59.123456+00:00",
    "1160.00",
    "cobranza.payments-3",
    "0" * 64,
    "step 3 run 2",
    "invoice/5d9f0c7e-1111-5222-8333-944444444444",
    "127.0.0.1:54321",
]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stdout", stream)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    logs.configure(service="dunning", role="worker")
    yield stream
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def lines(output: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_json_with_the_process_and_the_context(output: io.StringIO) -> None:
    with logs.bound(correlation_id="c-1", company="acme"):
        logs.logger().info("notice requested", case_id=new_id(), step=2, amount_seconds=0.5)
    logs.logger().info("worker stopped")
    first, second = lines(output)
    assert first["event"] == "notice requested"
    assert (first["service"], first["role"], first["level"]) == ("dunning", "worker", "info")
    assert (first["company"], first["correlation_id"], first["step"]) == ("acme", "c-1", 2)
    assert len(first["case_id"]) == 36
    assert "correlation_id" not in second


def test_fields_that_are_not_listed_are_masked(output: io.StringIO) -> None:
    logs.logger().info("customer changed", display="Ana López", address={"street": "Luna 7"})
    (line,) = lines(output)
    assert (line["display"], line["address"]) == ("***", "***")


@pytest.mark.parametrize("personal", PERSONAL)
def test_what_looks_personal_is_masked_everywhere(output: io.StringIO, personal: str) -> None:
    logs.logger().warning(f"refused {personal}", reason=f"no slot for {personal}")
    logging.getLogger("some.library").warning("sent to %s", personal)
    logs.logger().error("parse failed", exc_info=ValueError(f"cannot parse {personal}"))
    assert len(lines(output)) == 3
    assert personal not in output.getvalue()


@pytest.mark.parametrize("harmless", HARMLESS)
def test_what_operators_need_stays_readable(harmless: str) -> None:
    assert logs.mask(f"at {harmless}, done") == f"at {harmless}, done"


def test_ids_are_never_masked() -> None:
    for _ in range(2000):
        identity = str(new_id())
        assert logs.mask(identity) == identity


def test_a_client_that_repeats_itself_is_heard_once(output: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    noisy = logging.getLogger("aiokafka.conn")
    for port in range(50):
        noisy.warning("no connection to %s", port)
    now += logs.REPEAT_SECONDS
    noisy.warning("no connection to %s", 99)
    first, second = [line["event"] for line in lines(output)]
    assert first == "no connection to 0"
    assert second == "no connection to 99 (and 49 times more in 30 s)"


def test_debug_lines_are_left_out_by_default(output: io.StringIO) -> None:
    logs.logger().debug("request answered")
    assert output.getvalue() == ""
