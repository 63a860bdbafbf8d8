"""Stands before every route: who calls, may they do this, how often, how much; and what they did.

It comes before the body is read, so that nobody unknown can make the api hold one.
"""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from fedbus_runtime.budgets import Budgets
from fedbus_runtime.errors import Away
from fedbus_runtime.ports import Clock
from fedbus_schemas.codec import digest
from fedbus_schemas.identities import TEXT_MAX, ActRecord
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.refusals import RefusalCode
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedbus_api.access.acts import Act, Acts
from fedbus_api.access.identity import ANYONE, FIRST, STATE, Identity
from fedbus_api.access.oidc import Oidc
from fedbus_api.access.rights import GUARDED, Door, Need, doors, holders
from fedbus_api.access.tokens import Tokens
from fedbus_api.problems import Problem, respond

DEFAULT_PROJECT = "default"
READING = ("GET",)
RECHECK_AFTER = timedelta(seconds=5)
"""An answer that goes on for longer is cut off once the caller's token no longer holds."""

_project: TypeAdapter[ProjectId] = TypeAdapter(ProjectId)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How callers are known and what is written of them. Without `first` and `oidc` anyone may do anything."""

    first: str | None
    tokens: Tokens
    oidc: Oidc | None
    acts: Acts
    budgets: Budgets
    clock: Clock
    body_bytes_max: int

    async def identify(self, authorization: str | None) -> Identity:
        """Find who calls. Raises `Problem`, and `Away` when it cannot be found out now."""
        if self.first is None and self.oidc is None:
            return ANYONE
        scheme, _, bearer = (authorization or "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() == "bearer" and bearer:
            if self.first is not None and hmac.compare_digest(
                digest(bearer.encode()), digest(self.first.encode())
            ):
                return FIRST
            identity = await self.tokens.identify(bearer)
            if identity is None and self.oidc is not None:
                identity = await self.oidc.identify(bearer)
            if identity is not None:
                return identity
        detail = "Authorization: a valid bearer token is needed"
        headers = {"WWW-Authenticate": "Bearer"}
        raise Problem(RefusalCode.UNAUTHORIZED, detail, headers=headers)


class Guard:
    """The ASGI middleware."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._doors = doors()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http" or not _guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            passing = await self._admit(scope)
        except Problem as problem:
            await respond(problem)(scope, receive, send)
        except Away as away:
            await respond(Problem(RefusalCode.RETRY_LATER, str(away)))(scope, receive, send)
        else:
            await self._pass(passing, scope, receive, send)

    async def _admit(self, scope: Scope) -> "_Passing":
        headers = Headers(scope=scope)
        door = next((one for one in self._doors if one.pattern.fullmatch(scope["path"])), None)
        need = door.needs.get(scope["method"]) if door is not None else None
        identity = await self._identify(scope, need, headers.get("authorization"))
        wait_s = self._access.budgets.take(identity.id)
        if wait_s > 0:
            detail = f"{identity.name} asks more often than FEDBUS_API__REQUESTS_PER_S allows"
            again = {"Retry-After": str(int(wait_s) + 1)}
            raise Problem(RefusalCode.RATE_LIMITED, detail, headers=again)
        if need is None:
            raise _no_route(door, scope)
        project = _project_of(scope)
        act = None
        allowed = _allows(identity, need, project)
        if scope["method"] not in READING and not need.public:
            act = await self._access.acts.begin(
                project, self._record(scope, identity, project, refused=not allowed)
            )
        if not allowed:
            raise _forbidden(identity, need, project)
        if not need.upload and _length(headers) > self._access.body_bytes_max:
            raise _too_large(self._access.body_bytes_max)
        scope.setdefault("state", {})[STATE] = identity
        return _Passing(headers.get("authorization"), need, act)

    async def _identify(
        self, scope: Scope, need: Need | None, authorization: str | None
    ) -> Identity:
        if need is not None and need.public:
            address = _address(scope)
            return Identity(id=f"address:{address}", name=address, kind="anonymous")
        return await self._access.identify(authorization)

    def _record(
        self, scope: Scope, identity: Identity, project: ProjectId, *, refused: bool
    ) -> ActRecord:
        return ActRecord(
            who=f"{identity.kind}:{identity.name}"[:256],
            roles=tuple(sorted(identity.roles_in(project))),
            method=scope["method"][:16],
            path=scope["path"][:TEXT_MAX],
            query=scope["query_string"].decode("latin-1")[:TEXT_MAX],
            address=_address(scope),
            asked=self._access.clock.now(),
            status=HTTPStatus.FORBIDDEN if refused else None,
        )

    async def _pass(self, passing: "_Passing", scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(self._access, passing, send)
        body = receive if passing.need.upload else _Bounded(receive, self._access.body_bytes_max)
        try:
            await self._app(scope, body, answer)
        finally:
            if passing.act is not None:
                await self._access.acts.end(passing.act, answer.status, answer.made)


@dataclass(frozen=True, slots=True)
class _Passing:
    authorization: str | None
    need: Need
    act: Act | None


class _Bounded:
    """A body that may be read up to a length."""

    def __init__(self, receive: Receive, bytes_max: int) -> None:
        self._receive = receive
        self._left = bytes_max
        self._bytes_max = bytes_max

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            problem = _too_large(self._bytes_max)
            raise HTTPException(problem.status, problem.detail)
        return message


class _Answer:
    """Notes how the request is answered, and cuts off a long answer when the token no longer holds."""

    def __init__(self, access: Access, passing: _Passing, send: Send) -> None:
        self._access = access
        self._passing = passing
        self._send = send
        self._checked = access.clock.monotonic()
        self.status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self.made = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.made = Headers(raw=message["headers"]).get("location", "")[:TEXT_MAX]
        elif self._passing.need.public:
            pass  # nobody was asked who they are
        elif self._access.clock.monotonic() - self._checked > RECHECK_AFTER.total_seconds():
            await self._check_again()
        await self._send(message)

    async def _check_again(self) -> None:
        self._checked = self._access.clock.monotonic()
        try:
            await self._access.identify(self._passing.authorization)
        except Away:
            return  # asked again with the next part
        except Problem as problem:
            raise OSError(f"the caller's token no longer holds: {problem.detail}") from problem


def _guarded(path: str) -> bool:
    return path == GUARDED or path.startswith(f"{GUARDED}/")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return (client[0] if client else "")[:64]


def _no_route(door: Door | None, scope: Scope) -> Problem:
    if door is None:
        return Problem(RefusalCode.NOT_FOUND, f"no such route: {scope['path']}")
    detail = f"{scope['method']} is not possible on {scope['path']}"
    allow = {"Allow": ", ".join(sorted(door.needs))}
    return Problem(RefusalCode.INVALID, detail, status=405, headers=allow)


def _project_of(scope: Scope) -> ProjectId:
    given = QueryParams(scope["query_string"]).getlist("project")
    if len(given) > 1:
        raise Problem(RefusalCode.INVALID, "query.project: one project a request")
    try:
        return _project.validate_python(given[0] if given else DEFAULT_PROJECT)
    except ValidationError as error:
        detail = "query.project: lower-case letters, digits and dashes, at most 32"
        raise Problem(RefusalCode.INVALID, detail) from error


def _allows(identity: Identity, need: Need, project: ProjectId) -> bool:
    if need.right is None:
        return True
    if need.anywhere:
        return identity.may_somewhere(need.right)
    return identity.may(need.right, project)


def _forbidden(identity: Identity, need: Need, project: ProjectId) -> Problem:
    roles = " or ".join(holders(need.right)) if need.right is not None else ""
    mine = ", ".join(sorted(identity.roles_in(project))) or "none"
    detail = f"{identity.name} has in project {project} the roles: {mine}; this needs {roles}"
    return Problem(RefusalCode.FORBIDDEN, detail)


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "0")
    return int(text) if text.isdecimal() else 0


def _too_large(bytes_max: int) -> Problem:
    detail = f"a request has {bytes_max} bytes at most (FEDBUS_API__BODY_BYTES_MAX)"
    return Problem(RefusalCode.TOO_LARGE, detail)
