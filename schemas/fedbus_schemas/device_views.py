"""What the api is asked and tells of devices: join tokens, enrolments, devices."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from fedbus_schemas.devices import USES_MAX, DeviceName, JoinId, Label, Labels, Minted
from fedbus_schemas.ids import DeviceKey, ProjectId, Signature
from fedbus_schemas.wire import Message

LIFETIME_MAX = timedelta(days=90)
LIFETIME_DEFAULT = timedelta(days=1)


class NewJoin(Message):
    """A join token to be made: for how many devices, for how long, and the labels they get."""

    model_config = ConfigDict(extra="forbid")

    uses: Annotated[int, Field(ge=1, le=USES_MAX)] = 1
    labels: Labels = ()
    lifetime_s: Annotated[int, Field(ge=1, le=int(LIFETIME_MAX.total_seconds()))] = int(
        LIFETIME_DEFAULT.total_seconds()
    )


class JoinView(Message):
    """A join token without its secret; `devices` are those that came with it."""

    join: JoinId
    labels: tuple[str, ...] = ()
    uses: int
    devices: tuple[DeviceKey, ...] = ()
    created: AwareDatetime
    created_by: str
    expires: AwareDatetime
    revoked: AwareDatetime | None = None
    state: Literal["valid", "used", "expired", "revoked"]


class MadeJoinView(JoinView):
    """A join token that was just made. `bearer` is shown this once: only its SHA-256 is kept."""

    bearer: str


class EnrolRequest(Message):
    """A device asks to be let in. `proof`: the device key's signature over `said()` (domain `fl/enrol/v1`)."""

    model_config = ConfigDict(extra="forbid")

    join_token: Annotated[str, StringConstraints(max_length=128)]
    device: DeviceKey
    name: DeviceName = "device"
    time: AwareDatetime
    proof: Signature

    def said(self) -> str:
        """What is signed: the time, and the join token."""
        return f"{self.time.isoformat()} {self.join_token}"


class RenewRequest(Message):
    """A device asks for its next token by its key alone. `proof`: over `said()` (domain `fl/renew/v1`)."""

    model_config = ConfigDict(extra="forbid")

    project: ProjectId
    device: DeviceKey
    time: AwareDatetime
    proof: Signature

    def said(self) -> str:
        """What is signed: the time, and the project."""
        return f"{self.time.isoformat()} {self.project}"


class EnrolledView(Minted):
    """All that a device needs besides its own keys: its token, where the bus is, and whom to trust."""

    servers: tuple[str, ...]
    ca: str | None = None


class DeviceView(Message):
    """A device that enrolled, or that was revoked."""

    device: DeviceKey
    name: str = ""
    labels: tuple[str, ...] = ()
    join: JoinId | None = None
    enrolled: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    revoked_by: str = ""
    state: Literal["enrolled", "revoked"]


class RevokeRequest(Message):
    """Shut out every device with this label."""

    model_config = ConfigDict(extra="forbid")

    label: Label


class RevokedView(Message):
    """The devices that are shut out now."""

    devices: tuple[DeviceView, ...]
