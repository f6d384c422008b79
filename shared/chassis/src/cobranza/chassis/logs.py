"""Logs: one JSON line per decision on standard output, with nothing personal in it."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from cobranza.chassis import clock

MASK = "***"
REPEAT_SECONDS = 30.0

#: Fields whose text may be logged besides those named by ``_ALLOWED_ENDINGS``.
_ALLOWED = frozenset(
    {
        "action", "attempt", "channel", "check", "code", "company", "currency", "customer",
        "error", "event", "exception", "job", "kind", "level", "logger", "match", "method", "name",
        "operation", "outcome", "phase", "policy", "reason", "role", "route", "service", "severity",
        "signal", "source", "state", "step", "stream", "subject", "template", "timestamp", "tone",
        "topic", "trace", "type", "version", "worker",
    }
)  # fmt: skip
_ALLOWED_ENDINGS = (
    "_at", "_code", "_count", "_id", "_kind", "_name", "_on", "_outcome", "_reason", "_seconds",
    "_state", "_type", "_version",
)  # fmt: skip

# Ours are uuids and hex digests; none of the patterns below may bite into them.
_PERSONAL = re.compile(
    r"""
      [\w.+%-]+@[\w-]+(?:\.[\w-]+)+                                    # e-mail
    | (?<![\w-])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![\w-])    # IBAN
    | (?<![\w-])[A-ZÑ&]{3,4}-?\d{6}-?[A-Z0-9]{3}(?![\w-])              # RFC (MX)
    | (?<![\w-])[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d(?![\w-])          # CURP (MX)
    | (?<![\w-])(?:[A-HJ-NP-SUVWXYZ]\d{7}[A-Z0-9]|\d{8}[A-Z])(?![\w-]) # NIF, NIE, CIF (ES)
    | (?<![\w.-])\d{1,2}\.?\d{3}\.?\d{3}-[\dkK](?![\w-])               # RUT (CL)
    | (?<![\w.-])\d{3}\.?\d{3}\.?\d{3}-\d{1,2}(?![\w-])                # NIT (CO), CPF (BR)
    | \+\d[\d ().-]{7,}\d                                              # phone, international
    | (?<![\w.:+-])\(?\d{2,4}\)?(?:[ -]\d{2,4}){2,4}(?![\w:-])         # phone, grouped
    | (?<![\w.:-])\d{10,13}(?![\w.:-])                                 # phone or tax id, plain
    """,
    re.VERBOSE,
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def logger() -> FilteringBoundLogger:
    """The logger of a module: ``_log.info("notice requested", case_id=…, step=…)``."""
    return cast("FilteringBoundLogger", structlog.get_logger())


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Add fields to every line logged inside the block, also by what it calls."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def configure(*, service: str, role: str, level: str = "info") -> None:
    """Send all logs of this process, libraries included, to standard output.

    JSON lines; a readable form when standard output is a terminal.

    Args:
        service: whose process it is, on every line.
        role: ``api``, ``worker`` or the command.
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _Stamp(service=service, role=role),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(RepeatFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
                if sys.stdout.isatty()
                else structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for noisy, least in _LIBRARY_LEVELS.items():
        library = logging.getLogger(noisy)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(threshold, least))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


# Requests are logged by our own middleware; the others tell at INFO what nobody decides on.
_LIBRARY_LEVELS: Mapping[str, int] = {
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
    "aiokafka": logging.WARNING,
    "kafka": logging.WARNING,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "mail.log": logging.WARNING,
}


class _Stamp:
    """Adds the process's own fields."""

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        return {**self._fields, **event}


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Mask the text of every field that is not on the list, and what looks personal in the rest.

    Numbers, booleans and None tell nobody's name and pass.
    """
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: object) -> object:
    if name.startswith("_") or value is None or isinstance(value, bool | int | float):
        return value
    if name not in _ALLOWED and not name.endswith(_ALLOWED_ENDINGS):
        return MASK
    return mask(value if isinstance(value, str) else str(value))


def mask(text: str) -> str:
    """The text with e-mail addresses, phones, tax ids and IBANs replaced.

    >>> mask("sent to ana@example.test")
    'sent to ***'
    """
    return _PERSONAL.sub(lambda found: found.group() if _DATE.fullmatch(found.group()[:10]) else MASK, text)


class RepeatFilter(logging.Filter):
    """Lets one warning per library and text through every 30 s, with the number left out.

    A Kafka client warns several times a second while its broker is away.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, object], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written; only lines of the Kafka clients are ever left out."""
        if not record.name.startswith(("aiokafka", "kafka")):
            return True
        now = clock.monotonic()
        key = (record.name, record.msg)
        since, left_out = self._seen.get(key, (float("-inf"), 0))
        if now - since < REPEAT_SECONDS:
            self._seen[key] = (since, left_out + 1)
            return False
        self._seen[key] = (now, 0)
        if left_out:
            record.msg = f"{record.msg} (and {left_out} times more in {REPEAT_SECONDS:g} s)"
        return True
