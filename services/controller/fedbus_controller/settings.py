"""The controller's settings."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from fedbus_runtime.retention import RecordsRetention, Retention
from fedbus_runtime.settings import Section, ServiceSettings
from pydantic import Field


class SigningSection(Section):
    """The key that signs the clients' mail and the heads of the log."""

    seed_file: Path = Field(
        description="File with the Ed25519 seed: 32 bytes, base64url. All controllers share it."
    )


class DevicesSection(Section):
    """The keys with which controllers sign devices' tokens for the bus and revoke them."""

    keys: Path | None = Field(
        default=None,
        description="Folder with operator.nk, client.scope.nk, edge.account, sys.user.nk and sys.user.jwt; "
        "unset = this controller neither lets devices in nor shuts them out.",
    )
    lifetime: timedelta = Field(
        default=timedelta(days=28),
        description="How long a device's token holds; it is renewed at half.",
    )


class LimitsSection(Section):
    """How much is done at once."""

    sessions: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=32, description="Sessions decided and performed side by side in this process."
    )


class ControllerSettings(ServiceSettings):
    """What a controller needs beyond the servers."""

    signing: SigningSection
    devices: DevicesSection = DevicesSection()
    limits: LimitsSection = LimitsSection()
    records: RecordsRetention = RecordsRetention()
    retention: Retention = Retention()
