"""Webhooks of payment providers: whoever signs the raw body with the account's secret is let in."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from cobranza.chassis.http import scope
from cobranza.chassis.service import Context
from cobranza.payments.gateways.psp import Provider, http_client, read_accounts
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Bookkeeper
from cobranza.payments.use_cases.webhooks import WebhookReceiver


class WebhookAnswer(BaseModel):
    """What became of a webhook; a provider reads only the status."""

    outcome: Literal["accepted", "duplicate", "ignored", "refused"]
    detail: Annotated[str, Field(description="Why, in English.")]


def add_webhooks(routes: APIRouter, context: Context[PaymentsSettings]) -> None:
    """Add the route that providers call."""
    receiver = WebhookReceiver(
        context.database, Bookkeeper(context.companies), read_accounts(context.settings.psp_file), http_client()
    )

    @routes.post(
        "/v1/webhooks/{provider}/{company}",
        operation_id="take_webhook",
        tags=["webhooks"],
        dependencies=[scope("webhooks:deliver")],
        summary="A payment provider's webhook; proved by its signature, then the payment is fetched from the provider.",
    )
    async def take_webhook(
        request: Request,
        provider: Provider,
        company: Annotated[str, Path(max_length=40, pattern=r"^[a-z0-9-]+$")],
    ) -> WebhookAnswer:
        told = await receiver.take(
            company=company,
            provider=provider,
            headers=request.headers,
            query=request.query_params,
            body=await request.body(),
        )
        return WebhookAnswer(outcome=told.outcome, detail=told.detail)
