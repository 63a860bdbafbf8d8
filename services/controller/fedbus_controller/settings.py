"""The controller's settings."""

from typing import Annotated

from fedbus_runtime.settings import ServiceSettings, SigningSettings
from pydantic import Field


class ControllerSettings(ServiceSettings):
    """What a controller needs beyond the servers."""

    signing: SigningSettings
    sessions_concurrency: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=32, description="Sessions decided and performed side by side in this process."
    )
