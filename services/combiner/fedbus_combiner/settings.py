"""The combiner's settings."""

from typing import Annotated

from fedbus_runtime.settings import Section, ServiceSettings
from pydantic import Field


class LimitsSection(Section):
    """How much is done at once."""

    work: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Work items (folds, finishes) done side by side in this process."
    )
    tallies: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=64, description="Stored updates counted side by side in this process."
    )


class CombinerSettings(ServiceSettings):
    """What a combiner needs beyond the servers."""

    limits: LimitsSection = LimitsSection()
