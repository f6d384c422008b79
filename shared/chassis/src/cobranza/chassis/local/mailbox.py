"""A mail server that delivers nowhere: it keeps every message for people and tests to read."""

import argparse
import asyncio
import email.policy
import functools
import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from cobranza.chassis import clock, ids

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
_INDEX = "index.jsonl"


@dataclass(frozen=True)
class Summary:
    """What the list shows of one message; ``sender`` and ``recipients`` are the envelope's."""

    id: str
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Message:
    """One message taken apart; ``source`` is it as it was received."""

    summary: Summary
    text: str
    html: str
    headers: tuple[tuple[str, str], ...]
    source: str


class Mailbox:
    """The messages below one directory: a file each, and an index with a line each.

    One process writes, any number read.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def messages(self, *, search: str = "") -> list[Summary]:
        """All messages, newest first; with ``search``, those that hold it anywhere.

        Capitals do not matter.
        """
        wanted = search.casefold()
        return [summary for summary, words in reversed(self._rows()) if not wanted or wanted in words.casefold()]

    def message(self, message_id: str) -> Message:
        """One message.

        Raises:
            KeyError: there is none with this id.
        """
        summary = next((one for one, _ in self._rows() if one.id == message_id), None)
        if summary is None:
            raise KeyError(message_id)
        content = self._file(message_id).read_bytes()
        parsed = _parse(content)
        return Message(
            summary=summary,
            text=_body(parsed, "plain"),
            html=_body(parsed, "html"),
            headers=tuple((name, str(value)) for name, value in parsed.items()),
            source=content.decode("utf-8", errors="replace"),
        )

    def keep(self, content: bytes, *, sender: str, recipients: Sequence[str]) -> Summary:
        """Keep one message as it came; it is on disk and listed when this returns."""
        parsed = _parse(content)
        summary = Summary(
            id=str(ids.new_id()),
            received_at=clock.utc_now(),
            sender=sender,
            recipients=tuple(recipients),
            subject=str(parsed.get("Subject", "")),
            headers={name: str(value) for name, value in parsed.items()},
        )
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._directory / f"{summary.id}.draft"
        draft.write_bytes(content)
        draft.replace(self._file(summary.id))
        row = asdict(summary) | {
            "received_at": summary.received_at.isoformat(),
            "text": _body(parsed, "plain"),
        }
        with (self._directory / _INDEX).open("a", encoding="utf-8") as index:
            index.write(json.dumps(row, ensure_ascii=False) + "\n")
        return summary

    def _file(self, message_id: str) -> Path:
        return self._directory / f"{message_id}.eml"

    def _rows(self) -> list[tuple[Summary, str]]:
        try:
            text = (self._directory / _INDEX).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # The last line may be under way; it is listed once it is whole.
        return [_row(line) for line in text.split("\n")[:-1]]


@functools.lru_cache(maxsize=20_000)
def _row(line: str) -> tuple[Summary, str]:
    row = json.loads(line)
    words = " ".join((row["text"], row["sender"], *row["recipients"], *row["headers"].values()))
    summary = Summary(
        id=row["id"],
        received_at=datetime.fromisoformat(row["received_at"]),
        sender=row["sender"],
        recipients=tuple(row["recipients"]),
        subject=row["subject"],
        headers=row["headers"],
    )
    return summary, words


def _parse(content: bytes) -> EmailMessage:
    parsed = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(content)
    assert isinstance(parsed, EmailMessage)
    return parsed


def _body(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body(preferencelist=(kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except (LookupError, ValueError):
        # A charset nobody knows: show what can be shown.
        payload = part.get_payload(decode=True)
        return payload.decode("latin-1") if isinstance(payload, bytes) else ""


class _Keeper:
    """Hands what the SMTP conversation delivers to the mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        kept = self._mailbox.keep(content, sender=envelope.mail_from or "", recipients=envelope.rcpt_tos)
        return f"250 kept as {kept.id}"


async def serve(mailbox: Mailbox, *, port: int) -> asyncio.Server:
    """Listen for mail on ``port`` of 127.0.0.1; messages over 10 MB are refused."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: SMTP(
            _Keeper(mailbox),
            data_size_limit=MAX_MESSAGE_BYTES,
            enable_SMTPUTF8=True,
            hostname="mailbox.localhost",
            ident="Cobranza mailbox",
            loop=loop,
        ),
        "127.0.0.1",
        port,
        backlog=512,
    )


async def _main(directory: Path, port: int) -> None:
    server = await serve(Mailbox(directory), port=port)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with server:
        await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.directory, arguments.port))
