"""Who calls: a name, how it was found out, and its roles."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, Request
from fedbus_schemas.access_views import IdentityView, RoleView
from fedbus_schemas.identities import Role
from fedbus_schemas.ids import ProjectId

from fedbus_api.access.rights import ROLES, Right

Roles = Mapping[ProjectId | None, frozenset[Role]]
"""By project; those under None hold in every project."""
STATE = "caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A caller. `id` names it for limits, `name` for people."""

    id: str
    name: str
    kind: Literal["anonymous", "first", "token", "oidc"]
    roles: Roles = field(default_factory=dict)
    expires: datetime | None = None

    def roles_in(self, project: ProjectId | None) -> frozenset[Role]:
        """Give the roles that hold in a project; of None those that hold in every one."""
        everywhere = self.roles.get(None, frozenset())
        return everywhere | self.roles.get(project, frozenset())

    def may(self, right: Right, project: ProjectId | None) -> bool:
        """Say whether one of its roles there has the right."""
        return any(right in ROLES[role] for role in self.roles_in(project))

    def may_somewhere(self, right: Right) -> bool:
        """Say whether it has the right in any project at all."""
        return any(right in ROLES[role] for roles in self.roles.values() for role in roles)

    def view(self) -> IdentityView:
        """Show it."""
        roles = [
            RoleView(role=role, project=project)
            for project, some in self.roles.items()
            for role in sorted(some)
        ]
        return IdentityView(
            name=self.name, kind=self.kind, roles=tuple(roles), expires=self.expires
        )


_EVERYTHING: Roles = {None: frozenset({Role.ADMIN})}
ANYONE = Identity(id="anonymous", name="anonymous", kind="anonymous", roles=_EVERYTHING)
"""Whoever calls an api that asks for no token: development only."""
FIRST = Identity(id="first", name="first administrator", kind="first", roles=_EVERYTHING)
"""Who has the token that the deployment was made with."""


def caller(request: Request) -> Identity:
    """Give the caller to a route."""
    identity: Identity = request.scope["state"][STATE]
    return identity


Caller = Annotated[Identity, Depends(caller)]
