"""The included-set blob: the exact updates a model was made from, with the clients' own signatures."""

from typing import Annotated

from pydantic import Field

from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    ProjectId,
    RoundNumber,
    SessionId,
    Sha256,
    Weight,
)
from fedbus_schemas.models import BlobRef
from fedbus_schemas.sessions import COHORT_SIZE_MAX
from fedbus_schemas.updates import SignedManifest
from fedbus_schemas.wire import Message


class IncludedUpdate(Message):
    """One update that was counted. `sequence` is where it lies in UPDATES."""

    client: ClientId
    sequence: Annotated[int, Field(ge=1)]
    update: BlobRef
    weight: Weight
    signed: SignedManifest


class IncludedSet(Message):
    """All updates that were counted in a round, sorted by client. Its bytes are what `to_bytes` gives."""

    project: ProjectId
    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    base: Sha256
    updates: Annotated[tuple[IncludedUpdate, ...], Field(min_length=1, max_length=COHORT_SIZE_MAX)]
