"""Dunning's settings."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from cobranza.chassis.settings import ServiceSettings


class DunningSettings(ServiceSettings):
    """Read from `DUNNING_*` and the platform's own variables."""

    model_config = SettingsConfigDict(env_prefix="DUNNING_", frozen=True, extra="ignore", populate_by_name=True)
