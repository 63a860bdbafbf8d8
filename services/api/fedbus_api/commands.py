"""Hands commands to the controllers and waits, for a bounded time, until the log shows the decision.

The api decides nothing. It asks the pure `decide` beforehand, only to refuse at once what cannot be; the
truth is what is then in the log.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fedbus_core.aggregation.round_sum import grid_numbers
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.state import Session
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Clock, Documents, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import digest, read
from fedbus_schemas.envelope import Entry
from fedbus_schemas.events import (
    SessionArchived,
    SessionExtended,
    SessionPaused,
    SessionResumed,
    SessionStopped,
)
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ArchiveSession,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.streams import EVENTS

from fedbus_api.documents import SessionDocument
from fedbus_api.problems import Problem, refused
from fedbus_api.reading import Reader
from fedbus_api.watching import Watch

DECISION_WAIT_S = 10.0
KEY_BYTES = 16
COMMAND = "command"
"""The kind of document that remembers an Idempotency-Key."""

Order = PauseSession | ResumeSession | StopSession | ExtendSession | ArchiveSession
Look = Callable[[], Awaitable[SessionDocument | None]]
DECISIONS: dict[type[Order], str] = {
    PauseSession: SessionPaused.TYPE,
    ResumeSession: SessionResumed.TYPE,
    StopSession: SessionStopped.TYPE,
    ExtendSession: SessionExtended.TYPE,
    ArchiveSession: SessionArchived.TYPE,
}


@dataclass(frozen=True, slots=True)
class Commands:
    """Starts sessions and gives orders to them."""

    streams: Streams
    watch: Watch
    documents: Documents
    clock: Clock
    reader: Reader
    log: FoldedLog[Session]
    wait_s: float = DECISION_WAIT_S

    async def start(
        self, project: ProjectId, command: StartSession, key: str | None
    ) -> tuple[SessionDocument, bool]:
        """Start a session; give it, and whether it is new. The same command again changes nothing."""
        _check_numbers(command.settings)
        standing = await self.reader.session(project, command.session)
        if standing is not None:
            return _same(standing, command), False
        name = _message_id(project, command.session, command, key or "first")
        document = await self._decided(
            project,
            command.session,
            lambda: self._publish(project, command.session, command, name),
            lambda: self.reader.session(project, command.session),
        )
        if document is None:
            raise self._undecided(project, command.session)
        return _same(document, command), True

    async def order(
        self, project: ProjectId, session: SessionId, command: Order, key: str | None
    ) -> SessionDocument:
        """Give an order to a session and wait until it is decided. `key` makes a repetition harmless."""
        request = _fingerprint(session, command)
        if key is not None and await self._done(project, key, request):
            return await self._known(project, session)
        name = _message_id(project, session, command, key or secrets.token_hex(KEY_BYTES))
        state = await self._possible(project, session, command, name)
        if name not in state.causes:
            document = await self._carry_out(project, session, command, name, state.sequence)
        else:
            document = await self._known(project, session)
        if key is not None:
            await self._remember(project, key, request)
        return document

    async def _possible(
        self, project: ProjectId, session: SessionId, command: Order, name: str
    ) -> Session:
        """Give the state. Raises `Problem` when the order makes no sense in it and was not decided before."""
        state = await self.log.newest(project, session)
        if state is None:
            raise Problem(RefusalCode.SESSION_UNKNOWN, f"session {session}")
        facts = Facts(project=project, session=session, cause="", now=self.clock.now())
        expected = decide(state, command, facts)
        if expected.refusal is not None and name not in state.causes:
            raise refused(expected.refusal)
        return state

    async def _carry_out(
        self, project: ProjectId, session: SessionId, command: Order, name: str, after: int
    ) -> SessionDocument:
        async def look() -> SessionDocument | None:
            entries = await self.streams.read(EVENTS, subjects.event(project, session), after=after)
            shown = any(_shows(one.data, name, DECISIONS[type(command)]) for one in entries)
            return await self.reader.session(project, session) if shown else None

        document = await self._decided(
            project, session, lambda: self._publish(project, session, command, name), look
        )
        if document is None:
            # Perhaps the session moved on and the controllers refused the order: a refusal is no entry.
            await self._possible(project, session, command, name)
            raise self._undecided(project, session)
        return document

    async def _publish(
        self, project: ProjectId, session: SessionId, command: StartSession | Order, name: str
    ) -> None:
        subject = subjects.command(project, session)
        await self.streams.append(subject, command.to_bytes(), message_id=name)

    def _undecided(self, project: ProjectId, session: SessionId) -> Problem:
        detail = (
            f"session {session}: no controller decided within {self.wait_s:g} s; "
            "the command is stored and will be decided as soon as one runs"
        )
        location = {"Location": f"/v1/sessions/{session}?project={project}"}
        return Problem(RefusalCode.RETRY_LATER, detail, headers=location)

    async def _known(self, project: ProjectId, session: SessionId) -> SessionDocument:
        document = await self.reader.session(project, session)
        if document is None:
            raise Problem(RefusalCode.SESSION_UNKNOWN, f"session {session}")
        return document

    async def _done(self, project: ProjectId, key: str, request: str) -> bool:
        """Say whether the order with this key was carried out. Redis may have forgotten it; the log knows."""
        try:
            kept = await self.documents.get(project, COMMAND, _name(key))
        except RecordsAway:
            return False
        if kept is not None and kept[1].decode() != request:
            detail = "Idempotency-Key: it was used for another request"
            raise Problem(RefusalCode.ALREADY_EXISTS, detail)
        return kept is not None

    async def _remember(self, project: ProjectId, key: str, request: str) -> None:
        try:
            await self.documents.put(project, COMMAND, _name(key), 1, request.encode())
        except RecordsAway:
            return  # the log knows it as a cause

    async def _decided(
        self,
        project: ProjectId,
        session: SessionId,
        publish: Callable[[], Awaitable[None]],
        look: Look,
    ) -> SessionDocument | None:
        """Publish, and look whenever the session's log grows. None: nothing was seen within `wait_s`."""
        live = subjects.live_event(project, session)
        return await self.watch.until(live, look, self.wait_s, publish)


def _check_numbers(settings: SessionSettings) -> None:
    """Refuse numbers that leave no precision, before a combiner meets them."""
    try:
        grid_numbers(settings.numbers)
    except ValueError as error:
        raise Problem(RefusalCode.INVALID, f"numbers: {error}") from error


def _same(document: SessionDocument, command: StartSession) -> SessionDocument:
    """Give a session that was begun by just this command. Raises `Problem` when by another."""
    same = document.settings == command.settings and document.package == command.package
    if not same or document.initial.digest != command.model.digest:
        detail = f"session {command.session} exists, with other settings, model or package"
        raise Problem(RefusalCode.ALREADY_EXISTS, detail)
    return document


def _shows(data: bytes, name: str, wanted: str) -> bool:
    """Say whether an entry is the decision on the command with this id (or one just like it)."""
    entry = read(Entry, data)
    return entry.cause == name or any(event.type == wanted for event in entry.events)


def _message_id(
    project: ProjectId, session: SessionId, command: StartSession | Order, key: str
) -> str:
    """Name a command; the controllers note it as the cause of what they decide."""
    return f"{project}.{session}.{command.kind}.{_name(key)[:32]}"


def _fingerprint(session: SessionId, command: Order) -> str:
    return digest(f"{session}/".encode() + command.to_bytes())


def _name(key: str) -> str:
    """Make a document's name of whatever text a caller chose as its key."""
    return digest(key.encode())
