"""Carries out an operator's order to deliver a dead letter again.

What died in a work queue is put back on its old subject. A delivery of EVENTS or UPDATES, of COMMANDS or
RESULTS cannot be: the message lies in its stream for ever, and a second one would be another decision,
another update. So an entry is performed again right here, as a command's answers are looked at again, and
an update is counted again by a combiner. The letter goes only
after that is stored or done, so an order that was interrupted is carried out again; whoever gets
something twice knows it by its first id.
"""

import structlog
from fedbus_runtime.errors import Reject
from fedbus_runtime.ports import StoredMessage, Streams
from fedbus_schemas import dead_letters, subjects
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.dead_letters import LetterFate, LetterNote, Redo
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import COMMANDS, DEAD, EVENTS, INBOX, RESULTS, UPDATES, WORK
from fedbus_schemas.work import RecountItem

from fedbus_controller.commands import CommandHandlers, CommandPerformer
from fedbus_controller.handlers import Handlers
from fedbus_controller.perform import Performer

_log = structlog.get_logger(__name__)


class Inputs:
    """The handler of the `controllers` consumer: inputs of sessions, and orders about dead letters."""

    def __init__(
        self,
        streams: Streams,
        handlers: Handlers,
        performer: Performer,
        commands: CommandHandlers,
        command_performer: CommandPerformer,
    ) -> None:
        self._streams = streams
        self._handlers = handlers
        self._performer = performer
        self._commands = commands
        self._command_performer = command_performer

    async def on_message(self, message: StoredMessage) -> None:
        """Handle whatever came in."""
        project, session = subjects.token(message.subject, 1), subjects.token(message.subject, 3)
        if message.subject == subjects.redo(project, session):
            await self._redo(project, message)
        else:
            await self._handlers.on_input(message)

    async def _redo(self, project: str, message: StoredMessage) -> None:
        try:
            order = read(Redo, message.data)
        except Unreadable as error:
            raise Reject(RefusalCode.UNREADABLE, str(error)) from error
        everything = subjects.all_dead(project)
        found = await self._streams.read(DEAD, everything, after=order.letter - 1, limit=1)
        if not found or found[0].sequence != order.letter:
            _log.info("redo.no_op", project=project, letter=order.letter, why="it is gone")
            return
        [letter] = found
        await self._deliver(letter)
        note = note_of(letter, LetterFate.RETRIED, order.by)
        subject = subjects.dead_note(project, letter.sequence, note.fate)
        await self._streams.append(subject, note.to_bytes(), message_id=subject)
        await self._streams.delete(DEAD, letter.sequence)
        _log.info("redo.done", project=project, letter=letter.sequence, by=order.by)

    async def _deliver(self, letter: StoredMessage) -> None:
        stream, subject = subjects.buried(letter.subject)
        if stream in (INBOX.name, WORK.name):
            headers = {
                name: text
                for name, text in letter.headers.items()
                if not name.startswith("Dead-") and name != dead_letters.MESSAGE_ID
            }
            await self._streams.append(
                subject, letter.data, message_id=f"redo.{letter.sequence}", headers=headers
            )
        elif stream == EVENTS.name:
            sequence = int(letter.headers[dead_letters.SEQUENCE])
            entries = await self._streams.read(EVENTS, subject, after=sequence - 1, limit=1)
            for entry in entries:
                await self._performer.on_entry(entry)
        elif stream == COMMANDS.name:
            _, project, _, command = subject.split(".")
            await self._command_performer.perform(project, command)
        elif stream == RESULTS.name:
            _, project, _, command, _ = subject.split(".")
            await self._commands.look(project, command)
        elif stream == UPDATES.name:
            await self._recount(letter, subject)
        else:
            detail = f"what died in {stream} cannot be delivered again; drop it"
            raise Reject(RefusalCode.NOT_POSSIBLE_NOW, detail)

    async def _recount(self, letter: StoredMessage, subject: str) -> None:
        project, session = subjects.token(subject, 1), subjects.token(subject, 3)
        item = RecountItem(
            project=project,
            session=session,
            subject=subject,
            sequence=int(letter.headers[dead_letters.SEQUENCE]),
        )
        await self._streams.append(
            subjects.work(project, session, item.kind),
            item.to_bytes(),
            message_id=f"redo.{letter.sequence}",
        )


def note_of(letter: StoredMessage, fate: LetterFate, by: str) -> LetterNote:
    """Say what was done with a letter."""
    stream, subject = subjects.buried(letter.subject)
    return LetterNote(
        letter=letter.sequence,
        fate=fate,
        by=by,
        stream=stream,
        subject=subject,
        code=letter.headers.get(dead_letters.CODE, ""),
        detail=letter.headers.get(dead_letters.DETAIL, ""),
        buried=letter.time,
    )
