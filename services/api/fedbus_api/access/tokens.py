"""The api's bearer tokens: random, kept as SHA-256, one role each, with an end, and revocable at once.

A token is `flt_<id>_<secret>`: the id finds its record in TOKENS, which is read anew at each request, so
that a revocation holds for the next one at every api.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fedbus_runtime.errors import Conflict
from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.access_views import MadeTokenView, NewToken, TokenView
from fedbus_schemas.codec import read
from fedbus_schemas.identities import TokenRecord
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import TOKENS

from fedbus_api.access import bearers
from fedbus_api.access.identity import Identity
from fedbus_api.access.rights import Right
from fedbus_api.problems import Problem

KIND = "flt"
TOKENS_MAX = 1_000
"""Tokens that a project has at most, those that ended among them."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Makes, finds and revokes tokens."""

    streams: Streams
    clock: Clock

    async def identify(self, bearer: str) -> Identity | None:
        """Find whose token this is; None when it is nobody's. Raises `Problem` for one that has ended."""
        given = bearers.given(KIND, bearer)
        if given is None:
            return None
        found = await self._find(given.id)
        if found is None:
            return None
        record = read(TokenRecord, found.data)
        if not given.holds(record.secret):
            return None
        if record.revoked is not None:
            raise Problem(RefusalCode.TOKEN_REVOKED, f"token {record.token} of {record.name}")
        if record.expires <= self.clock.now():
            detail = (
                f"token {record.token} of {record.name} ended {record.expires:%Y-%m-%d %H:%M} UTC"
            )
            raise Problem(RefusalCode.TOKEN_EXPIRED, detail)
        return Identity(
            id=record.token,
            name=record.name,
            kind="token",
            roles={record.project: frozenset({record.role})},
            expires=record.expires,
        )

    async def make(self, project: ProjectId, wanted: NewToken, by: Identity) -> MadeTokenView:
        """Make a token; its secret is in the answer and nowhere else. Raises `Problem`."""
        if wanted.everywhere:
            _demand_everywhere(by)
        scope = subjects.EVERYWHERE if wanted.everywhere else project
        standing = await self.streams.subjects(TOKENS, subjects.token_record(scope))
        if len(standing) >= TOKENS_MAX:
            detail = f"project {project} has {TOKENS_MAX} tokens (the limit)"
            raise Problem(RefusalCode.TOO_LARGE, detail)
        now = self.clock.now()
        made = bearers.make(KIND)
        record = TokenRecord(
            token=made.id,
            secret=made.kept,
            name=wanted.name,
            role=wanted.role,
            project=None if wanted.everywhere else project,
            created=now,
            created_by=by.name,
            expires=now + timedelta(seconds=wanted.lifetime_s),
        )
        subject = subjects.token_record(scope, made.id)
        await self.streams.append(subject, record.to_bytes(), expected=0)
        return MadeTokenView(**dict(_view(record, now)), bearer=made.bearer)

    async def tokens(self, project: ProjectId, by: Identity) -> list[TokenView]:
        """Give a project's tokens, and for those who administer every project those that hold everywhere."""
        scopes = [project]
        if by.may(Right.ADMINISTER, None):
            scopes.append(subjects.EVERYWHERE)
        wanted = [subjects.token_record(scope) for scope in scopes]
        now = self.clock.now()
        found = await self.streams.latest(TOKENS, wanted)
        return [_view(read(TokenRecord, one.data), now) for one in found]

    async def revoke(self, project: ProjectId, name: str, by: Identity) -> TokenView:
        """End a token now; one that has been revoked stays as it is. Raises `Problem`."""
        while True:
            found = await self._find(name)
            record = read(TokenRecord, found.data) if found is not None else None
            if found is None or record is None or record.project not in (None, project):
                raise Problem(RefusalCode.NOT_FOUND, f"token {name} in project {project}")
            if record.project is None:
                _demand_everywhere(by)
            now = self.clock.now()
            if record.revoked is not None:
                return _view(record, now)
            ended = record.model_copy(update={"revoked": now, "revoked_by": by.name})
            try:
                data, expected = ended.to_bytes(), found.sequence
                await self.streams.append(found.subject, data, expected=expected)
            except Conflict:
                continue  # somebody else was first: look again
            return _view(ended, now)

    async def _find(self, name: str) -> StoredMessage | None:
        return await self.streams.last(TOKENS, subjects.token_record("*", name))


def _demand_everywhere(by: Identity) -> None:
    if not by.may(Right.ADMINISTER, None):
        detail = "a token that holds in every project is for those who administer every project"
        raise Problem(RefusalCode.FORBIDDEN, detail)


def _view(record: TokenRecord, now: datetime) -> TokenView:
    state = "revoked" if record.revoked else "expired" if record.expires <= now else "valid"
    shown = {name: value for name, value in dict(record).items() if name != "secret"}
    return TokenView.model_validate({**shown, "state": state})
