"""What a client may send about its own work: the manifest of an update, and a validation report."""

from typing import Annotated

from pydantic import Field

from fedbus_schemas.ids import (
    AttemptNumber,
    ClientId,
    Metrics,
    ProjectId,
    PublicKey,
    RoundNumber,
    RuleName,
    SessionId,
    Sha256,
    Signature,
    Weight,
)
from fedbus_schemas.models import BlobRef
from fedbus_schemas.wire import Message


class Timings(Message):
    """Seconds the client spent, by its own monotonic clock. Shown, never decided on."""

    download_s: Annotated[float, Field(ge=0)] = 0.0
    train_s: Annotated[float, Field(ge=0)] = 0.0
    upload_s: Annotated[float, Field(ge=0)] = 0.0


class Manifest(Message):
    """Says which update a client made for which round, and with what weight. Signed by the client.

    `weight` is the number of examples the update stands for (FedAvg's n). With `declined` there is no update
    and there will be none: the data's owner does not allow the task, by the rule of that name. It takes the
    update's place, so that the round does not wait; `update` is the empty blob then, and `weight` 0.
    """

    project: ProjectId
    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber
    client: ClientId
    base: Sha256
    update: BlobRef
    weight: Weight
    metrics: Metrics = {}
    timings: Timings = Timings()
    declined: RuleName | None = None


class SignedManifest(Message):
    """A manifest's exact bytes and the client's signature over them (`signing.MANIFEST`).

    The bytes are kept as the client wrote them: signatures and hashes never depend on how somebody
    else would write the same JSON.
    """

    manifest: Annotated[str, Field(max_length=16_384)]
    key: PublicKey
    signature: Signature

    def content(self) -> Manifest:
        """Parse the manifest. Raises `pydantic.ValidationError` when it is not one."""
        return Manifest.model_validate_json(self.manifest)


class Submission(SignedManifest):
    """A signed manifest on its way in; a small update rides along in `inline` (base64)."""

    inline: Annotated[str, Field(max_length=90_000)] | None = None


class StoredUpdate(Submission):
    """An update as the UPDATES stream keeps it: what was submitted, under the pseudonym in its subject."""


class ValidationReport(Message):
    """What a client measured of a model on its own data. `weight` is the number of examples."""

    session: SessionId
    round: RoundNumber
    model: Sha256
    weight: Annotated[int, Field(ge=0, lt=2**63)]
    metrics: Metrics
