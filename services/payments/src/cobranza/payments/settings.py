"""Payments' settings."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from cobranza.chassis.settings import ServiceSettings


class PaymentsSettings(ServiceSettings):
    """Read from `PAYMENTS_*` and the platform's own variables."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", frozen=True, extra="ignore", populate_by_name=True)
