"""Answers a client that comes (back) online: its open tasks, and what became of what it still keeps."""

from fedbus_core.rounds.history import receipt_from
from fedbus_core.rounds.log import read_entry
from fedbus_core.rounds.mail import receipts
from fedbus_core.rounds.state import Session
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Streams
from fedbus_schemas import subjects
from fedbus_schemas.asks import Answer, PendingUpdate, SessionReceipt, Sync, Synced
from fedbus_schemas.codec import read
from fedbus_schemas.ids import ClientId, ProjectId
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import EVENTS, MAIL
from fedbus_schemas.tasks import Fate, Receipt, SignedMail

from fedbus_combiner.commands import CommandAsks


class Syncing:
    """Reads mailboxes and receipts for one client."""

    def __init__(self, streams: Streams, log: FoldedLog[Session], commands: CommandAsks) -> None:
        self._streams = streams
        self._log = log
        self._commands = commands

    async def sync(self, project: ProjectId, sender: ClientRecord, asked: Sync) -> Answer:
        """Answer a sync. Raises `Away` when a server is."""
        boxes = await self._streams.latest(MAIL, [subjects.mail(project, sender.device)])
        found = []
        for pending in asked.pending:
            last_word = await self._receipt(project, sender.client, pending)
            if last_word is not None:
                fields = last_word.model_dump(exclude={"kind"})
                found.append(SessionReceipt(session=pending.session, **fields))
        mail = tuple(read(SignedMail, box.data) for box in boxes)
        ended = await self._commands.ended(project, asked.commands)
        return Answer(synced=Synced(mail=mail, receipts=tuple(found), ended=ended))

    async def _receipt(
        self, project: ProjectId, client: ClientId, pending: PendingUpdate
    ) -> Receipt | None:
        given_up = Receipt(round=pending.round, attempt=pending.attempt, fate=Fate.GIVEN_UP)
        state = await self._log.newest(project, pending.session)
        if state is None:
            return given_up
        if state.round is not None and state.round.is_attempt(pending.round, pending.attempt):
            return None
        for receipt in receipts(state, client):
            if (receipt.round, receipt.attempt) == (pending.round, pending.attempt):
                return receipt
        entries = await self._streams.read(EVENTS, subjects.event(project, pending.session))
        events = [event for entry in entries for event in read_entry(entry.data)[1]]
        return receipt_from(events, pending.round, pending.attempt, client) or given_up
