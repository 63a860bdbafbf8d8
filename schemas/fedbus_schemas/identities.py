"""Who may use the api: roles, the records of tokens, and the record of each act. Outside the sessions' log.

Only the api writes these; they are read by it alone. A token's record holds the SHA-256 of the secret,
never the secret.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from fedbus_schemas.ids import ProjectId, Sha256
from fedbus_schemas.wire import Message

IdentityName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]{0,127}$")]
"""Whom a token is for: a person or a program, as `ci` or `ada@example.org`."""
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
TEXT_MAX = 2048


class Role(StrEnum):
    """What an identity is in a project; `fedbus_api.access.rights` says what each may do."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    VIEWER = "viewer"


class TokenRecord(Message):
    """A bearer token: one role in one project, or in every project when `project` is None."""

    token: TokenId
    secret: Sha256
    name: IdentityName
    role: Role
    project: ProjectId | None = None
    created: AwareDatetime
    created_by: str
    expires: AwareDatetime
    revoked: AwareDatetime | None = None
    revoked_by: str = ""


class ActRecord(Message):
    """A request that changes something: who, what, from where, and how it was answered.

    Written before the request is carried out, and again with `status` when it was answered. One without
    a status may have been carried out or not: the api ended in between.
    """

    who: Annotated[str, StringConstraints(max_length=256)]
    roles: tuple[Role, ...]
    method: Annotated[str, StringConstraints(max_length=16)]
    path: Annotated[str, StringConstraints(max_length=TEXT_MAX)]
    query: Annotated[str, StringConstraints(max_length=TEXT_MAX)] = ""
    address: Annotated[str, StringConstraints(max_length=64)] = ""
    asked: AwareDatetime
    status: Annotated[int, Field(ge=100, le=599)] | None = None
    made: Annotated[str, StringConstraints(max_length=TEXT_MAX)] = ""
