"""The one call between services: asking the ledger whether a notice may ask for money."""

from __future__ import annotations

from typing import Final, Protocol

import httpx
from pydantic import ValidationError

from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest

_TIMEOUT_SECONDS: Final = 8.0
_ROUTE: Final = "/payments/v1/notice-permits"


class PermitUnavailableError(Exception):
    """There is no answer that could be trusted; nothing may be sent."""


class PermitGateway(Protocol):
    """Whoever grants permits."""

    async def ask(self, request: NoticePermitRequest) -> NoticePermitAnswer:
        """Ask for a permit; the same notice and attempt get the same answer again.

        Raises:
            PermitUnavailableError: nobody answered, or not to this request.
        """
        ...


class HttpPermits:
    """The permits of payments, over HTTP."""

    def __init__(
        self, url: str, *, token: str | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Args: `url` is the address that carries payments' prefix; `token` its API key, if it wants one."""
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=_TIMEOUT_SECONDS,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            transport=transport,
            trust_env=False,
        )

    async def ask(self, request: NoticePermitRequest) -> NoticePermitAnswer:
        """Ask for a permit.

        Raises:
            PermitUnavailableError: nobody answered, or not to this request.
        """
        try:
            response = await self._client.post(
                _ROUTE, content=request.model_dump_json(), headers={"Content-Type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise PermitUnavailableError(f"payments does not answer: {type(error).__name__}") from error
        if not response.is_success:
            raise PermitUnavailableError(f"payments answered {response.status_code}")
        try:
            answer = NoticePermitAnswer.model_validate_json(response.content)
        except ValidationError as error:
            raise PermitUnavailableError(f"payments' answer is no permit: {error.error_count()} faults") from error
        if (answer.notice_id, answer.attempt) != (request.notice_id, request.attempt):
            raise PermitUnavailableError("payments answered for another notice")
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
