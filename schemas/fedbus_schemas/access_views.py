"""What the api tells of those who use it: their tokens, their acts, and who one is oneself."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from fedbus_schemas.identities import IdentityName, Role, TokenId
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.wire import Message

LIFETIME_MAX = timedelta(days=366)
LIFETIME_DEFAULT = timedelta(days=90)


class NewToken(Message):
    """A token to be made: for whom, in which role, for how long; `everywhere` = in every project."""

    model_config = ConfigDict(extra="forbid")

    name: IdentityName
    role: Role
    lifetime_s: Annotated[int, Field(ge=1, le=int(LIFETIME_MAX.total_seconds()))] = int(
        LIFETIME_DEFAULT.total_seconds()
    )
    everywhere: bool = False


class TokenView(Message):
    """A token without its secret. `project` None: it holds in every project."""

    token: TokenId
    name: str
    role: Role
    project: ProjectId | None = None
    created: AwareDatetime
    created_by: str
    expires: AwareDatetime
    revoked: AwareDatetime | None = None
    revoked_by: str = ""
    state: Literal["valid", "expired", "revoked"]


class MadeTokenView(TokenView):
    """A token that was just made. `bearer` is shown this once: only its SHA-256 is kept."""

    bearer: str


class ActView(Message):
    """A request that changed something, or was to. `status` None: no answer was noted."""

    act: str
    sequence: int
    who: str
    roles: tuple[Role, ...]
    method: str
    path: str
    query: str = ""
    address: str = ""
    asked: AwareDatetime
    status: int | None = None
    made: str = ""


class RoleView(Message):
    """A role in one project; `project` None: in every one."""

    role: Role
    project: ProjectId | None = None


class IdentityView(Message):
    """Who the caller is, how it was found out, and what it is where."""

    name: str
    kind: Literal["anonymous", "first", "token", "oidc"]
    roles: tuple[RoleView, ...]
    expires: AwareDatetime | None = None
