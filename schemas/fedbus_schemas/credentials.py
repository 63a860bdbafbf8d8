"""The file that lets one client join: where the bus is, its two secret keys, and whom it trusts."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from fedbus_schemas.ids import ProjectId, PublicKey
from fedbus_schemas.wire import Message


class Credentials(Message):
    """A client's credentials. Kept in a file of mode 0600; whoever holds it is the client.

    `device_seed` (a NATS user seed, `SU…`) proves the identity on the bus; `payload_seed` (32 bytes,
    base64url) signs what the client says. Two keys, because a hostile server chooses what the first
    one signs. `token` (a NATS JWT) says until when the device key may take part; the device renews it.
    `trust` holds the keys that may sign this client's mail. `ca` holds the certificates (PEM)
    that vouch for servers reached by `tls://` or `wss://`; without it the system's own do. `api` is where
    the device enrolled, and where it gets its next token when the last one has ended.
    """

    version: Literal[1] = 1
    project: ProjectId
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    servers: Annotated[tuple[str, ...], Field(min_length=1)]
    device_seed: Annotated[str, StringConstraints(pattern=r"^SU[A-Z2-7]{56}$"), Field(repr=False)]
    token: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, repr=False
    )
    payload_seed: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$"), Field(repr=False)
    ]
    trust: Annotated[tuple[PublicKey, ...], Field(min_length=1)]
    ca: Annotated[str, StringConstraints(max_length=32_768)] | None = None
    api: Annotated[str, StringConstraints(max_length=512)] | None = None
