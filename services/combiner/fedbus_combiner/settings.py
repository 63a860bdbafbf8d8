"""The combiner's settings."""

from typing import Annotated

from fedbus_runtime.settings import ServiceSettings
from pydantic import Field


class CombinerSettings(ServiceSettings):
    """What a combiner needs beyond the servers."""

    work_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Work items done side by side in this process."
    )
    ask_concurrency: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=256, description="Clients' requests answered side by side."
    )
    tally_concurrency: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=64, description="Stored updates counted side by side."
    )
