"""What a process is told by its environment; the only module that reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(RuntimeError):
    """A setting is missing or wrong; the text names the variable and what it should hold."""


class PlatformSettings(BaseSettings):
    """Settings that every process of a deployment shares."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap: str = Field(alias="KAFKA_BOOTSTRAP")
    companies_file: Path = Field(alias="COBRANZA_COMPANIES")
    clock_file: Path | None = Field(default=None, alias="COBRANZA_CLOCK_FILE")
    allow_virtual_clock: bool = Field(default=False, alias="COBRANZA_ALLOW_VIRTUAL_CLOCK")
    evaluation_hour: int = Field(default=6, ge=0, le=23, alias="COBRANZA_EVALUATION_HOUR")
    host: str = Field(default="127.0.0.1", alias="COBRANZA_HOST")
    operations_port: int = Field(default=0, ge=0, le=65535, alias="COBRANZA_OPERATIONS_PORT")
    api_keys_file: Path | None = Field(default=None, alias="COBRANZA_API_KEYS")
    local_mode: bool = Field(default=False, alias="COBRANZA_LOCAL_MODE")
    mailbox_directory: Path | None = Field(default=None, alias="COBRANZA_MAILBOX")
    cursor_secret: SecretStr = Field(default=SecretStr(""), alias="COBRANZA_CURSOR_SECRET")
    log_level: str = Field(default="info", alias="COBRANZA_LOG_LEVEL")

    @model_validator(mode="after")
    def _virtual_clock_is_allowed(self) -> Self:
        if self.clock_file is not None and not self.allow_virtual_clock:
            raise ValueError(
                "COBRANZA_CLOCK_FILE is set but COBRANZA_ALLOW_VIRTUAL_CLOCK is not true: a virtual "
                "business clock is for demos, replays and tests"
            )
        return self


class ServiceSettings(PlatformSettings):
    """Settings of one service; a subclass sets `env_prefix` to the service's name."""

    database_url: SecretStr
    owner_database_url: SecretStr | None = None


Settings = TypeVar("Settings", bound=BaseSettings)


def load(settings: type[Settings]) -> Settings:
    """Read and validate the settings of a process.

    Raises:
        SettingsError: naming every variable that is missing or wrong.
    """
    try:
        return settings()
    except ValidationError as error:
        prefix = str(settings.model_config.get("env_prefix", ""))
        faults = []
        for fault in error.errors():
            name = str(fault["loc"][0]) if fault["loc"] else ""
            if name in settings.model_fields:
                name = f"{prefix}{name}".upper()
            faults.append(f"{name}: {fault['msg']}" if name else str(fault["msg"]))
        raise SettingsError("; ".join(faults)) from error


def environment() -> Mapping[str, str]:
    """A copy of the process environment, for starting children and finding programs."""
    return dict(os.environ)
