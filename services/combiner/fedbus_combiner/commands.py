"""Takes in what clients say about commands: answers, progress, and tasks of their own.

An answer is stored once for good under its client and command; the bus itself refuses a second one. A
client can only speak of commands that were given to it.
"""

from fedbus_core.commands.state import Command
from fedbus_runtime.errors import AlreadyStored
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Blobs, Streams
from fedbus_schemas import keys, subjects
from fedbus_schemas.asks import Answer, Noted
from fedbus_schemas.codec import digest
from fedbus_schemas.commands import (
    AUTONOMOUS,
    RESULT_BYTES_MAX,
    CommandAnswer,
    CommandGrantRequest,
    CommandKept,
    CommandProgress,
    StartTask,
    TakeUpCommand,
    own_prefix,
)
from fedbus_schemas.ids import ClientId, CommandId, ProjectId
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import RESULTS

from fedbus_combiner.grants import Granting


class CommandAsks:
    """The one writer of RESULTS and PROGRESS."""

    def __init__(
        self,
        streams: Streams,
        log: FoldedLog[Command],
        blobs: Blobs,
        granting: Granting,
    ) -> None:
        self._streams = streams
        self._log = log
        self._blobs = blobs
        self._granting = granting

    async def answer(
        self, project: ProjectId, sender: ClientRecord, given: CommandAnswer
    ) -> Answer:
        """Store an answer, or say why not. Raises `Away` when a server is."""
        content = given.to_bytes()
        state = await self._log.newest(project, given.command)
        refusal = _refuses(state, sender.client, given.command)
        if refusal is not None and refusal.code is not RefusalCode.COMMAND_ENDED:
            return Answer(refusal=refusal)
        subject = subjects.result_of(project, given.command, sender.client)
        if refusal is not None:
            # A resend after the end is answered as the first time, if there was one.
            return await self._stored_before(subject, given.command, content) or Answer(
                refusal=refusal
            )
        if given.blob is not None:
            key = keys.result(project, sender.client, given.blob.digest)
            if await self._blobs.size(key) != given.blob.size:
                return Answer.refused(RefusalCode.BLOB_MISSING, f"result {given.blob.digest}")
        try:
            await self._streams.append(subject, content)
        except AlreadyStored:
            first = await self._stored_before(subject, given.command, content)
            if first is None:
                raise
            return first
        return _kept(given.command, content)

    async def progress(
        self, project: ProjectId, sender: ClientRecord, given: CommandProgress
    ) -> Answer:
        """Keep how far a client is: only its last word."""
        state = await self._log.newest(project, given.command)
        refusal = _refuses(state, sender.client, given.command)
        if refusal is not None:
            return Answer(refusal=refusal)
        subject = subjects.progress(project, given.command, sender.client)
        await self._streams.append(subject, given.to_bytes())
        return Answer(noted=Noted())

    async def start_task(
        self, project: ProjectId, sender: ClientRecord, given: StartTask
    ) -> Answer:
        """Hand a client's own task to the controllers, under the client's attested pseudonym."""
        if not given.command.startswith(own_prefix(sender.client)):
            detail = f"the id of a task of your own begins with {own_prefix(sender.client)}"
            return Answer.refused(RefusalCode.NOT_YOURS, detail)
        if not given.task.startswith(AUTONOMOUS):
            return Answer.refused(RefusalCode.INVALID, f"task: a client starts {AUTONOMOUS}NAME")
        if given.parent is not None:
            parent = await self._log.newest(project, given.parent)
            if parent is None or not parent.is_for(sender.client):
                return Answer.refused(RefusalCode.NOT_TARGETED, f"parent {given.parent}")
        taken = TakeUpCommand(client=sender.client, **dict(given))
        subject = subjects.command_input(project, given.command, "started")
        name = f"{project}.{given.command}.started"
        await self._streams.append(subject, taken.to_bytes(), message_id=name)
        return Answer(noted=Noted())

    async def grant(
        self, project: ProjectId, sender: ClientRecord, wanted: CommandGrantRequest
    ) -> Answer:
        """Grant the download of a command's model, or the upload of a result."""
        state = await self._log.newest(project, wanted.command)
        refusal = _refuses(state, sender.client, wanted.command)
        if refusal is not None:
            return Answer(refusal=refusal)
        assert state is not None
        if wanted.purpose == "download":
            if state.created.model != wanted.blob:
                detail = f"model {wanted.blob.digest} is not the command's"
                return Answer.refused(RefusalCode.BLOB_NOT_GRANTED, detail)
            return self._granting.download(keys.model(project, wanted.blob.digest))
        if wanted.blob.size > RESULT_BYTES_MAX:
            detail = f"a result has at most {RESULT_BYTES_MAX} bytes"
            return Answer.refused(RefusalCode.TOO_LARGE, detail)
        key = keys.result(project, sender.client, wanted.blob.digest)
        return await self._granting.upload(key, wanted.blob)

    async def ended(
        self, project: ProjectId, commands: tuple[CommandId, ...]
    ) -> tuple[CommandId, ...]:
        """Give those of these commands that are over."""
        states = [(one, await self._log.newest(project, one)) for one in commands]
        return tuple(one for one, state in states if state is not None and state.ended is not None)

    async def _stored_before(
        self, subject: str, command: CommandId, content: bytes
    ) -> Answer | None:
        first = await self._streams.last(RESULTS, subject)
        if first is None:
            return None
        if first.data != content:
            detail = f"command {command}: another answer was stored first"
            return Answer.refused(RefusalCode.ALREADY_ANSWERED, detail)
        return _kept(command, content)


def _refuses(state: Command | None, client: ClientId, command: CommandId) -> Refusal | None:
    """Give the reason why a client may say nothing about a command, or None."""
    if state is None:
        return Refusal(code=RefusalCode.COMMAND_UNKNOWN, detail=f"command {command}")
    if not state.is_for(client):
        return Refusal(code=RefusalCode.NOT_TARGETED, detail=f"command {command}")
    if state.ended is not None:
        detail = f"command {command} is {state.ended.status}"
        return Refusal(code=RefusalCode.COMMAND_ENDED, detail=detail)
    return None


def _kept(command: CommandId, content: bytes) -> Answer:
    return Answer(kept=CommandKept(command=command, answer=digest(content)))
