"""How long and how much of the clients' records is kept."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

from fedbus_schemas.streams import RECORDS, RECORDS_PER_SUBJECT_MAX, Stream
from pydantic import Field

from fedbus_runtime.settings import Section


class RecordsRetention(Section):
    """How long and how much of what clients log is kept. The same in all controllers and apis."""

    age: Annotated[timedelta, Field(gt=timedelta(0))] = Field(
        default=timedelta(days=90), description="Records are deleted after so long."
    )
    bytes: Annotated[int, Field(ge=1024**2)] = Field(
        default=8 * 1024**3,
        description="Bytes of records of all projects together; of more, the oldest go.",
    )
    batches_per_kind: Annotated[int, Field(ge=1)] = Field(
        default=RECORDS_PER_SUBJECT_MAX,
        description="Batches kept of each kind of each client; of more, its oldest go.",
    )

    def stream(self) -> Stream:
        """Give the stream with these limits."""
        return replace(
            RECORDS,
            age_max=self.age,
            bytes_max=self.bytes,
            per_subject_max=self.batches_per_kind,
        )
