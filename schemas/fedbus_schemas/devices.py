"""Devices: how one joins, what is known of it, and that it is revoked. Outside the log, so it can be erased.

Only the api writes these records; controllers sign tokens for devices that are not revoked.
"""

from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.ids import DeviceKey, ProjectId, PublicKey, Sha256
from fedbus_schemas.wire import Message

LABELS_MAX = 16
USES_MAX = 10_000
DeviceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._=:/-]{0,63}$")]
"""What devices are told apart by, as `site=lund` or `batch-7`."""
Labels = Annotated[tuple[Label, ...], Field(max_length=LABELS_MAX)]
JoinId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class JoinRecord(Message):
    """A join token: so many devices may enrol with it, until then, under these labels."""

    join: JoinId
    secret: Sha256
    labels: Labels = ()
    uses: Annotated[int, Field(ge=1, le=USES_MAX)]
    devices: tuple[DeviceKey, ...] = ()
    created: AwareDatetime
    created_by: str
    expires: AwareDatetime
    revoked: AwareDatetime | None = None


class DeviceRecord(Message):
    """A device that enrolled, or that was revoked. `join` is the token it came with, none when made by hand."""

    device: DeviceKey
    name: str = ""
    labels: Labels = ()
    join: JoinId | None = None
    enrolled: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    revoked_by: str = ""


class Mint(Message):
    """A service asks the controllers for a device's token."""

    device: DeviceKey


class Renew(Message):
    """A device asks for its next token."""


class Minted(Message):
    """A device's token for the bus (a NATS JWT), how long it holds, and who may sign this device's mail."""

    token: Annotated[str, StringConstraints(max_length=8192)]
    lifetime_s: Annotated[int, Field(ge=1)]
    expires: AwareDatetime
    project: ProjectId
    trust: tuple[PublicKey, ...] = ()
