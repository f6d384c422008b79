"""Dunning's settings."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from cobranza.chassis.settings import ServiceSettings

#: So many notices of a company leave on any day, however few are usual.
BRAKE_FLOOR: Final = 1000


class DunningSettings(ServiceSettings):
    """Read from `DUNNING_*` and the platform's own variables."""

    model_config = SettingsConfigDict(env_prefix="DUNNING_", frozen=True, extra="ignore", populate_by_name=True)

    brake_floor: Annotated[int, Field(ge=1, description="Notices of a company that leave on any day")] = BRAKE_FLOOR
