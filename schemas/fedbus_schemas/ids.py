"""Names of things on the wire. Each is one NATS subject token, so it holds no dot, blank or wildcard."""

from typing import Annotated

from pydantic import Field, StringConstraints

ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
"""A project: the outermost name space of every subject, key and prefix."""

SessionId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,47}$")]

SessionName = Annotated[str, StringConstraints(max_length=128)]
"""A session's name for people."""
CommandId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,47}$")]

ClientId = Annotated[str, StringConstraints(pattern=r"^c[a-z2-7]{16}$")]
"""A client's pseudonym: the only name of it in the log. The registry resolves it and can be erased."""

DeviceKey = Annotated[str, StringConstraints(pattern=r"^U[A-Z2-7]{55}$")]
"""A device's public nkey: its identity on the bus, attested by the server."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

PublicKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""An Ed25519 public key that signs payloads, base64url without padding."""

Signature = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{86}$")]
"""An Ed25519 signature (RFC 8032), base64url without padding."""

RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,63}$")]
"""A rule of a data owner's policy, as it stands in the policy file: `cohort.smallest`."""

InstanceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""One running process of a service, as `combiner-1`."""

RoundNumber = Annotated[int, Field(ge=1, le=1_000_000)]
AttemptNumber = Annotated[int, Field(ge=1, le=1_000_000)]
Weight = Annotated[int, Field(ge=0)]

SETTINGS_MAX = 64
"""Entries in a settings or metrics mapping."""

TEXT_MAX = 1024
"""Characters of one text in such a mapping."""

Scalar = bool | int | float | Annotated[str, StringConstraints(max_length=TEXT_MAX)]


Settings = Annotated[
    dict[Annotated[str, StringConstraints(max_length=128)], Scalar], Field(max_length=SETTINGS_MAX)
]
"""What a session hands to the clients' trainers."""

Metrics = Annotated[
    dict[Annotated[str, StringConstraints(max_length=128)], float], Field(max_length=SETTINGS_MAX)
]
"""Numbers that a client reports of its own work: finite, by name."""
AttributeKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_./:-]{0,63}$")]
"""An attribute's name, as `site` or `hardware.gpu`."""
