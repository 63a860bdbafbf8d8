"""Events -> effects. A durable consumer on EVENTS, acked last: a crash between deciding and acting loses
nothing. Every effect says how things should be for the newest state, so doing it again is harmless.
"""

from typing import assert_never

import structlog
from fedbus_core.rounds.effects import (
    AskFinish,
    DropUpdates,
    Effect,
    Forget,
    KeepDeadline,
    KeepLive,
    KeepMail,
    SignHead,
    deadline,
    effects,
    everything,
    in_order,
    makes_partials,
)
from fedbus_core.rounds.log import read_entry
from fedbus_core.rounds.state import Session
from fedbus_runtime import tracing
from fedbus_runtime.errors import AlreadyStored, Away, RecordsAway, Reject, StoreAway
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Blobs, RoundKey, RoundRecords, StoredMessage, Streams
from fedbus_runtime.signing_keys import Signer
from fedbus_runtime.together import together
from fedbus_schemas import keys, signing, subjects
from fedbus_schemas.codec import digest
from fedbus_schemas.envelope import Head, SignedHead
from fedbus_schemas.events import (
    AnyEvent,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundReopened,
)
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import INBOX

from fedbus_controller.leftovers import Leftovers
from fedbus_controller.mailing import Mailing
from fedbus_controller.retention import drop_updates

_log = structlog.get_logger(__name__)


class Performer:
    """Performs the effects of entries."""

    def __init__(
        self,
        log: FoldedLog[Session],
        streams: Streams,
        records: RoundRecords,
        mailing: Mailing,
        signer: Signer,
        blobs: Blobs,
        leftovers: Leftovers,
    ) -> None:
        self._fold = log
        self._streams = streams
        self._records = records
        self._mailing = mailing
        self._signer = signer
        self._blobs = blobs
        self._leftovers = leftovers
        self.unsure: set[tuple[ProjectId, SessionId]] = set()
        """Sessions whose mail was written, and then no server said whether it is still the newest."""

    async def on_entry(self, message: StoredMessage) -> None:
        """Perform what one stored entry asks for. Raises `Away`: then it is performed again later."""
        entry, events = read_entry(message.data)
        state = await self._fold.newest(entry.project, entry.session)
        if state is None:
            raise Reject(RefusalCode.SESSION_UNKNOWN, "the entry's session is not in the log")
        _about(state, events)
        wanted = effects(state, entry.number, digest(message.data), events)
        if (entry.project, entry.session) in self.unsure and KeepMail() not in wanted:
            wanted = (KeepMail(), *wanted)
        await self._perform_all(state, wanted)

    async def repeat(self, project: ProjectId, session: SessionId) -> None:
        """Perform all that a session's state asks for: a server may have forgotten it."""
        state = await self._fold.newest(project, session)
        if state is not None:
            await self._perform_all(state, everything(state))

    async def _perform_all(self, state: Session, wanted: tuple[Effect, ...]) -> None:
        """Perform effects, and once more what a newer entry changed meanwhile.

        Mail and the deadline replace what was there. A performer that was paused could put an old one
        over a newer one: so the log is read again after writing, and who finds it moved writes anew.
        """
        away: Away | None = None
        while wanted:
            if KeepMail() in wanted:
                self.unsure.add((state.project, state.session))
            before = (state.number, state.mail_number, deadline(state))
            for some in in_order(wanted):
                async with together() as tasks:
                    doing = [tasks.create_task(self._unless_away(state, one)) for one in some]
                away = next(filter(None, (each.result() for each in doing)), away)
            newest = await self._fold.newest(state.project, state.session)
            assert newest is not None, "a log does not go away"
            number, mail_number, at = before
            wanted = ()
            if newest.number != number:
                wanted += (KeepMail(),) if newest.mail_number != mail_number else ()
                wanted += (deadline(newest),) if deadline(newest) != at else ()
            state = newest
        self.unsure.discard((state.project, state.session))
        if away is not None:
            raise away

    async def _unless_away(self, state: Session, effect: Effect) -> RecordsAway | StoreAway | None:
        """Perform an effect; what needs neither Redis nor the store is not held up by them."""
        try:
            await self._perform(state, effect)
        except (RecordsAway, StoreAway) as away:
            return away
        return None

    async def _perform(self, state: Session, effect: Effect) -> None:
        match effect:
            case KeepMail():
                await self._mailing.send(state)
            case KeepDeadline():
                await self._keep_deadline(state, effect)
            case KeepLive():
                await self._records.put_round(effect.live)
            case AskFinish():
                subject = subjects.work(state.project, state.session, "finish")
                await self._streams.append(
                    subject, effect.item.to_bytes(), message_id=effect.work_id
                )
            case SignHead():
                await self._sign_head(state, effect)
            case Forget():
                key = RoundKey(state.project, state.session, effect.round, effect.attempt)
                await self._forget_partials(state, effect.round)
                await self._leftovers.drop(state, effect.round, effect.attempt)
                await self._records.forget(key)
            case DropUpdates():
                await self._drop_updates(state, effect)
            case _:
                assert_never(effect)

    async def _drop_updates(self, state: Session, effect: DropUpdates) -> None:
        project, session = state.project, state.session
        subject = subjects.updates_of_session(project, session)
        if effect.round is not None and effect.attempt is not None:
            subject = subjects.updates_of(project, session, effect.round, effect.attempt)
        await drop_updates(self._streams, self._blobs, project, session, subject)

    async def _forget_partials(self, state: Session, number: int) -> None:
        """Delete the partial sums of this round and of those before it, which may have left some.

        They are a cache, so a store that is away holds nobody up: the next round's end deletes them.
        """
        if _makes_no_partials(state):
            return
        try:
            kept = await self._blobs.list(keys.partials(state.project, state.session))
            await self._blobs.delete([one for one in kept if keys.round_of_partial(one) <= number])
        except StoreAway as away:
            _log.warning("partials.kept", session=state.session, why=str(away))

    async def _keep_deadline(self, state: Session, effect: KeepDeadline) -> None:
        subject = subjects.schedule(state.project, state.session)
        if effect.at is None or effect.message is None:
            await self._streams.cancel(INBOX, subject)
            return
        target = subjects.deadline(state.project, state.session)
        await self._streams.schedule(subject, target, effect.message.to_bytes(), effect.at)

    async def _sign_head(self, state: Session, effect: SignHead) -> None:
        head = Head(
            project=state.project,
            session=state.session,
            number=effect.number,
            entry=effect.entry,
        )
        content = head.to_bytes().decode()
        signed = SignedHead(
            head=content,
            key=self._signer.public,
            signature=self._signer.sign(signing.HEAD, content),
        )
        subject = subjects.head(state.project, state.session, effect.number)
        try:
            await self._streams.append(subject, signed.to_bytes())
        except AlreadyStored:
            return


def _about(state: Session, events: tuple[AnyEvent, ...]) -> None:
    """Show performing an entry in the trace of the attempt that it opens, or else ends or moves on."""
    for event in reversed(events):
        if isinstance(
            event, RoundOpened | RoundClosing | RoundReopened | RoundCompleted | RoundFailed
        ):
            key = RoundKey(state.project, state.session, event.round, event.attempt)
            tracing.about("dispatch" if isinstance(event, RoundOpened) else "perform", key)
            tracing.tell(performed=tuple(one.TYPE for one in events))
            return


def _makes_no_partials(state: Session) -> bool:
    """Say whether the last attempt was one in which nobody folds ahead of the finish."""
    last = state.outcome
    return last is not None and not makes_partials(state.settings, last.base, len(last.cohort))
