"""Notifications' settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from cobranza.chassis.settings import ServiceSettings


class NotificationsSettings(ServiceSettings):
    """Read from `NOTIFICATIONS_*` and the platform's own variables.

    `COBRANZA_SMTP_*` names the local mailbox, the only server that ever gets a sandbox company's
    mail; `NOTIFICATIONS_SMTP_*` the provider of live companies that name none of their own.
    """

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_", frozen=True, extra="ignore", populate_by_name=True)

    payments_url: str = Field(alias="PAYMENTS_URL")
    payments_token: SecretStr | None = None
    mailbox_host: str = Field(default="127.0.0.1", alias="COBRANZA_SMTP_HOST")
    mailbox_port: int = Field(default=1025, ge=1, le=65535, alias="COBRANZA_SMTP_PORT")
    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["none", "starttls", "tls"] = "starttls"
