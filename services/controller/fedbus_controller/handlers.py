"""Inputs -> decide -> append -> ack. What this service listens to stands here.

| input                        | comes as                                  |
| ---------------------------- | ----------------------------------------- |
| an operator's command        | INBOX `fl.<project>.in.<session>.command` |
| a finish item's result       | INBOX `fl.<project>.in.<session>.result`  |
| a deadline that fired        | INBOX `fl.<project>.in.<session>.deadline`|
| "deliver that again"         | INBOX `fl.<project>.in.<session>.redo` (`redo.py`) |
| "the target is reached"      | a request on `fl.<project>.notice.<session>` |
| "clients came online"        | a request on `fl.<project>.notice.any`    |
"""

from datetime import datetime

import structlog
from fedbus_core.rounds.decide import Decision, Facts, decide
from fedbus_core.rounds.log import LogBroken, seal
from fedbus_core.rounds.state import Session
from fedbus_runtime import tracing
from fedbus_runtime.consumer import original_id
from fedbus_runtime.errors import Conflict, Reject, Retry
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.metrics import APPEND_CONFLICTS
from fedbus_runtime.ports import Clock, Request, RoundKey, StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import UnknownEvent, Unreadable, read_input
from fedbus_schemas.events import Participant, RoundOpened
from fedbus_schemas.ids import InstanceName, ProjectId, SessionId
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.selection import ClientQuery
from fedbus_schemas.sessions import ArchiveSession, StartSession
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.work import FinishResult

from fedbus_controller import measuring
from fedbus_controller.candidates import Candidates
from fedbus_controller.open_sessions import OpenSessions
from fedbus_controller.small_models import SmallModels

ATTEMPTS_MAX = 5
"""Decisions of one input that may lose the race before it is given back to the queue."""
CONFLICT_RETRY_S = 0.1
RETENTION = "retention"
"""The cause of an archiving by rule."""

_log = structlog.get_logger(__name__)


class Handlers:
    """Decides on inputs. Holds nothing that the log does not hold."""

    def __init__(
        self,
        log: FoldedLog[Session],
        streams: Streams,
        candidates: Candidates,
        open_sessions: OpenSessions,
        small: SmallModels,
        clock: Clock,
        instance: InstanceName,
    ) -> None:
        """`instance` is this controller's name: it stands in the entries."""
        self._instance = instance
        self._fold = log
        self._streams = streams
        self._candidates = candidates
        self._open_sessions = open_sessions
        self._small = small
        self._clock = clock

    async def on_input(self, message: StoredMessage) -> None:
        """Handle a stored input. Its time is when the server stored it."""
        _, project, _, session, _ = message.subject.split(".")
        try:
            given = read_input(message.data)
        except Unreadable as error:
            raise Reject(RefusalCode.UNREADABLE, str(error)) from error
        if isinstance(given, FinishResult) and given.model and given.inline:
            self._small.offer(project, given.model, given.inline)
        await self._settle(project, session, given, original_id(message), message.time)

    async def on_notice(self, request: Request) -> bytes | None:
        """Handle a notice; the answer says that the log now stands where the notice wants it."""
        _, project, _, session = request.subject.split(".")
        given = read_input(request.data)
        if session == subjects.ANY_SESSION:
            waiting = [one for of, one in self._open_sessions.waiting if of == project]
        else:
            waiting = [session]
        for one in waiting:
            await self._settle(project, one, given, None, self._clock.now())
        return b"{}"

    async def on_waiting(self, project: ProjectId, session: SessionId) -> None:
        """Look whether the clients that a session waits for are there by now."""
        await self._settle(project, session, ClientsChanged(), None, self._clock.now())

    async def on_old(self, project: ProjectId, session: SessionId) -> None:
        """Archive a session that has ended and is kept no longer."""
        await self._settle(project, session, ArchiveSession(), RETENTION, self._clock.now())

    async def _settle(
        self, project: ProjectId, session: SessionId, given: Input, name: str | None, now: datetime
    ) -> None:
        """Decide and append, again on newer state when somebody else appended first.

        `name` is a stored input's id. A notice has none: the same words are a new notice after every
        entry, and what it may still decide then, the state says.
        """
        log = _log.bind(project=project, session=session, input=given.kind, cause=name)
        if isinstance(given, FinishResult | DeadlineFired | TargetReached):
            tracing.about("decide", RoundKey(project, session, given.round, given.attempt))
            tracing.tell(input=given.kind)
        for _ in range(ATTEMPTS_MAX):
            try:
                state = await self._fold.newest(project, session)
                cause = name or f"notice.{given.kind}.{state.number if state else 0}"
                online: tuple[Participant, ...] = ()
                if not isinstance(given, TargetReached):
                    online = await self._candidates.online(project, now, _asked_last(state))
                stored, cutoff = await self._arrived(state, given)
                meant = await self._candidates.meant(project, _query(state, given), online)
                facts = Facts(project, session, cause, now, meant, cutoff, stored)
                decision = decide(state, given, facts)
                if not decision.events:
                    # Notices repeat themselves; only a stored input that changes nothing is worth a line.
                    (log.info if name else log.debug)("input.no_op", why=_why(decision))
                    return
                before = state.round if state else None
                data = seal(state, project, session, decision.events, cause, now, self._instance)
                state = await self._fold.append(
                    project, session, data, state.sequence if state else 0
                )
            except Conflict:
                log.info("append.conflict")
                APPEND_CONFLICTS.add()
                continue
            except (LogBroken, UnknownEvent) as error:
                log.critical("log.broken", why=str(error))
                raise
            measuring.count(before, state.settings.round_timeout_s, decision.events, now)
            events = [event.TYPE for event in decision.events]
            log.info("decided", number=state.number, events=events)
            tracing.tell(decided=tuple(events))
            for event in decision.events:
                if isinstance(event, RoundOpened):
                    opened = RoundKey(project, session, event.round, event.attempt)
                    tracing.about("select", opened)
                    tracing.tell(input=given.kind, invited=len(event.cohort))
            return
        raise Retry("other controllers were faster each time", CONFLICT_RETRY_S)

    async def _arrived(self, state: Session | None, given: Input) -> tuple[int, int]:
        """Count the updates stored for the open attempt, and find the last: only a closing needs it."""
        if state is None or state.round is None:
            return 0, 0
        opened = state.round
        subject = subjects.updates_of(state.project, state.session, opened.number, opened.attempt)
        stored = 0
        match given:
            case TargetReached() | DeadlineFired():
                pass
            case FinishResult() if len(given.counted) < opened.target:
                stored = len(await self._streams.subjects(UPDATES, subject))
            case _:
                return 0, 0
        last = await self._streams.last(UPDATES, subject)
        return stored, last.sequence if last else 0


def _query(state: Session | None, given: Input) -> ClientQuery | None:
    """Give whom the session may ask."""
    if state is not None:
        return state.settings.clients
    return given.settings.clients if isinstance(given, StartSession) else None


def _asked_last(state: Session | None) -> tuple[Participant, ...]:
    if state is None:
        return ()
    if state.round is not None:
        return state.round.opened.cohort
    return state.outcome.cohort if state.outcome is not None else ()


def _why(decision: Decision) -> str:
    assert decision.refusal is not None, "a decision without events says why"
    return f"{decision.refusal.code}: {decision.refusal.detail}"
