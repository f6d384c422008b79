"""The operations port of a process: is it alive, is it ready, what does it measure."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

#: A check answers None when its part is ready, else the reason in one sentence.
Check = Callable[[], Awaitable[str | None]]

CHECK_TIMEOUT_SECONDS = 2.0
_REQUEST_TIMEOUT_SECONDS = 5.0
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT = "text/plain; charset=utf-8"


class OperationsServer:
    """Serves ``/livez``, ``/readyz`` and ``/metrics`` on a port of its own, never published.

    It lives on the process's own loop, so an answer from ``/livez`` proves that the loop turns.
    """

    def __init__(
        self,
        *,
        port: int,
        checks: Mapping[str, Check],
        host: str = "127.0.0.1",
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Prepare; ``start`` opens the port. Port 0 takes a free one."""
        self.port = port
        self._host = host
        self._checks = checks
        self._registry = registry
        self._stopping = False
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the port; ``port`` then holds the one in use."""
        self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=16_384)
        self.port = self._server.sockets[0].getsockname()[1]

    def stopping(self) -> None:
        """From now on the process is not ready: nothing new should be sent to it."""
        self._stopping = True

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def readiness(self) -> dict[str, str | None]:
        """Every check by name with the reason why it is not ready, None where it is."""
        reasons = await asyncio.gather(*(_reason(check) for check in self._checks.values()))
        found: dict[str, str | None] = dict(zip(self._checks, reasons, strict=True))
        if self._stopping:
            found["process"] = "the process is stopping"
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._answer(head))
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError):
            # A caller that sends no whole request gets no answer.
            return
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        request_line, *header_lines = head.decode("latin-1").split("\r\n")
        method, _, rest = request_line.partition(" ")
        if method != "GET":
            return _response(405, _TEXT, b"only GET is answered\n")
        match rest.partition(" ")[0].partition("?")[0]:
            case "/livez":
                return _response(200, _TEXT, b"alive\n")
            case "/readyz":
                reasons = await self.readiness()
                is_ready = all(reason is None for reason in reasons.values())
                body = {
                    "ready": is_ready,
                    "checks": {name: reason or "ready" for name, reason in reasons.items()},
                }
                return _response(200 if is_ready else 503, "application/json", json.dumps(body).encode() + b"\n")
            case "/metrics":
                encoder, content_type = choose_encoder(_header(header_lines, "accept"))
                return _response(200, content_type, encoder(self._registry))
            case _:
                return _response(404, _TEXT, b"/livez, /readyz and /metrics are served here\n")


async def _reason(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
    # A check that fails in any way is the answer to the question it was asked.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def _header(lines: list[str], name: str) -> str:
    for line in lines:
        field, _, value = line.partition(":")
        if field.strip().lower() == name:
            return value.strip()
    return ""


def _response(status: int, content_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
