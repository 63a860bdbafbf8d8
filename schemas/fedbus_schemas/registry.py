"""Records outside the log that may be erased: who a pseudonym is, uploaded models, compute packages."""

from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.ids import ClientId, DeviceKey, PublicKey, SessionId, Sha256
from fedbus_schemas.models import ModelRef, PackageRef
from fedbus_schemas.wire import Message


class ClientRecord(Message):
    """Resolves a pseudonym. `key` is bound at the first hello and never changes."""

    device: DeviceKey
    client: ClientId
    name: Annotated[str, StringConstraints(max_length=128)]
    key: PublicKey
    since: AwareDatetime


class ErasedClient(Message):
    """Stands in the place of a client's record that was erased: whoever kept a copy drops it."""

    erased: AwareDatetime


class ModelRecord(Message):
    """A model that somebody uploaded as a start."""

    model: ModelRef
    name: Annotated[str, StringConstraints(max_length=128)] = ""
    since: AwareDatetime


class PackageRecord(Message):
    """A compute package that somebody uploaded. `form` is the kind of archive that it is."""

    package: PackageRef
    name: Annotated[str, StringConstraints(max_length=128)] = ""
    form: Annotated[str, StringConstraints(max_length=16)] = ""
    since: AwareDatetime


class FederationRecord(Message):
    """What a project's federation runs: the active package, if any, and the seed model it was set up with.

    `session` is the first session that used the package: from then on the federation is configured, and
    the package is replaced only by the next generation.
    """

    generation: Annotated[int, Field(ge=1)] = 1
    package: PackageRef | None = None
    model: Sha256 | None = None
    session: SessionId | None = None
    since: AwareDatetime

    @property
    def is_configured(self) -> bool:
        """Whether a session has used the active package."""
        return self.package is not None and self.session is not None


StageName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
"""A stage of models, as `candidate` or `production`."""

STAGE_CHANGES_MAX = 100
"""Changes of a stage that are remembered, the newest."""


class StageChange(Message):
    """A model was put into a stage. A roll-back says to which change it went, counted from 1.

    `cause` is the digest of the request's Idempotency-Key.
    """

    model: Sha256
    since: AwareDatetime
    reason: Annotated[str, StringConstraints(max_length=512)] = ""
    by: Annotated[str, StringConstraints(max_length=128)] = ""
    rolled_back_to: Annotated[int, Field(ge=0)] = 0
    cause: str = ""


class StageRecord(Message):
    """Which models were in a stage, the present one last. `dropped` counts changes no longer told."""

    stage: StageName
    changes: Annotated[tuple[StageChange, ...], Field(min_length=1, max_length=STAGE_CHANGES_MAX)]
    dropped: Annotated[int, Field(ge=0)] = 0
