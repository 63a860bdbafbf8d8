"""The combiner's settings."""

from datetime import timedelta
from typing import Annotated

from fedbus_runtime.ports import TransferLimits
from fedbus_runtime.settings import Section, ServiceSettings
from pydantic import Field

from fedbus_combiner.records import RecordsSection


class LimitsSection(Section):
    """How much is done at once."""

    work: Annotated[int, Field(ge=1, le=64)] = Field(
        default=2, description="Work items (folds, finishes) done side by side in this process."
    )
    tallies: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=64, description="Stored updates counted side by side in this process."
    )
    transfers: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=64,
        description="Transfers to and from the object store under way in a project, over all combiners.",
    )
    transfer_bytes: Annotated[int, Field(ge=1)] = Field(
        default=2 * 1024**3,
        description="Bytes of such transfers; a single larger one goes alone.",
    )
    transfer_lease: timedelta = Field(
        default=timedelta(seconds=30),
        description="How long a transfer counts at most: what a dead client held is free after that.",
    )

    @property
    def of_transfers(self) -> TransferLimits:
        """The limits of transfers."""
        return TransferLimits(
            transfers=self.transfers, bytes=self.transfer_bytes, lease=self.transfer_lease
        )


class CombinerSettings(ServiceSettings):
    """What a combiner needs beyond the servers."""

    limits: LimitsSection = LimitsSection()
    records: RecordsSection = RecordsSection()
