"""How long and how much is kept: of the clients' records, and of all else that would grow without end."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

from fedbus_schemas.streams import (
    ACTS,
    DEAD,
    MAIL,
    NOTES,
    RECORDS,
    RECORDS_PER_SUBJECT_MAX,
    TELEMETRY,
    Stream,
)
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


Age = Annotated[timedelta, Field(gt=timedelta(0))]


class Retention(Section):
    """How long what is stored stays, the same in all controllers and apis. A session's log stays for ever."""

    notes_age: Age = Field(
        default=timedelta(days=30),
        description="Notes of what was refused are deleted after so long.",
    )
    telemetry_age: Age = Field(
        default=timedelta(days=90),
        description="Validation reports, backlogs and spans of clients are deleted after so long.",
    )
    dead_letters_age: Age = Field(
        default=timedelta(days=90), description="Dead letters are deleted after so long."
    )
    acts_age: Age = Field(
        default=timedelta(days=400),
        description="What was done through the api, and by whom, is deleted after so long.",
    )
    mail_age: Age = Field(
        default=timedelta(days=7),
        description="A client's mail of a session is deleted so long after it last changed.",
    )
    archive_after: Age | None = Field(
        default=timedelta(days=365),
        description="Ended sessions are archived after so long: their updates are deleted, the log stays. "
        "Unset = never.",
    )
    ended_sessions_max: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Of more ended sessions of a project the oldest are archived. Unset = any number.",
    )
    look_every: Age = Field(
        default=timedelta(minutes=10),
        description="How often controllers look for sessions to archive.",
    )

    def of(self, stream: Stream) -> Stream:
        """Give a stream with its age."""
        ages = {
            NOTES.name: self.notes_age,
            TELEMETRY.name: self.telemetry_age,
            DEAD.name: self.dead_letters_age,
            ACTS.name: self.acts_age,
            MAIL.name: self.mail_age,
        }
        age = ages.get(stream.name)
        return stream if age is None else replace(stream, age_max=age)
