"""Payments' settings."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from cobranza.chassis.settings import ServiceSettings


class PaymentsSettings(ServiceSettings):
    """Read from `PAYMENTS_*` and the platform's own variables."""

    #: A YAML list of {company, provider: stripe | mercadopago, webhook_secret, api_key, base_url?}.
    psp_file: Path | None = None

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", frozen=True, extra="ignore", populate_by_name=True)
