"""Commands: inputs -> decide -> append -> ack; then from the log, mail to the clients and the deadline.

| what | comes as |
| --- | --- |
| an operator's order, a client's own task, a fired deadline | INBOX `fl.<project>.cin.<command>.…` |
| a client's answer | RESULTS `fl.<project>.res.<command>.<client>` |
| an entry of a command's log | COMMANDS `fl.<project>.cmd.<command>` |
"""

import asyncio
from datetime import datetime

import structlog
from fedbus_core.commands.decide import Answered, CommandFacts, decide
from fedbus_core.commands.log import read_entry, seal
from fedbus_core.commands.mail import mail
from fedbus_core.commands.state import Command
from fedbus_core.rounds.log import LogBroken
from fedbus_runtime.attributes import AttributeTable
from fedbus_runtime.consumer import original_id
from fedbus_runtime.errors import Conflict, Reject, Retry
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import StoredMessage, Streams, Wire
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.signing_keys import Signer
from fedbus_runtime.together import together
from fedbus_schemas import subjects
from fedbus_schemas.codec import UnknownEvent, Unreadable, read, read_command_input
from fedbus_schemas.command_events import CommandEnded
from fedbus_schemas.commands import (
    TARGETS_MAX,
    AnswersCame,
    CommandAnswer,
    CommandInput,
    CommandTimeout,
    RunCommand,
    TakeUpCommand,
)
from fedbus_schemas.ids import ClientId, CommandId, DeviceKey, ProjectId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import COMMANDS, INBOX, RESULTS

from fedbus_controller.candidates import Candidates
from fedbus_controller.mailing import PUBLISHES_MAX, signed_mail

ATTEMPTS_MAX = 5
CONFLICT_RETRY_S = 0.1
WITHDRAWN_S = 3_600.0
"""How long the mail of a withdrawn task stays: who comes back later asks whether its command is over."""

_log = structlog.get_logger(__name__)


class OpenCommands:
    """Which commands are open, and who began them: for the limits, and to perform them again."""

    def __init__(self, streams: Streams, wire: Wire, log: FoldedLog[Command]) -> None:
        self._streams = streams
        self._wire = wire
        self._fold = log
        self.open: dict[tuple[ProjectId, CommandId], ClientId | None] = {}

    async def read(self) -> None:
        """Fold every command whose last entry does not end it."""
        found = sorted(await self._streams.subjects(COMMANDS, subjects.ALL_COMMANDS))
        for message in await self._streams.latest(COMMANDS, found):
            if not _ends(message):
                await self._look(
                    subjects.token(message.subject, 1), subjects.token(message.subject, 3)
                )

    async def follow(self) -> None:
        """Keep up with the live feed until cancelled."""
        async for message in self._wire.listen(subjects.live_command("*")):
            await self._look(subjects.token(message.subject, 1), subjects.token(message.subject, 3))

    def count(self, project: ProjectId, origin: ClientId | None) -> int:
        """Count the open commands of one origin."""
        return sum(of == project and who == origin for (of, _), who in self.open.items())

    async def _look(self, project: ProjectId, command: CommandId) -> None:
        try:
            state = await self._fold.newest(project, command)
        except (LogBroken, UnknownEvent) as error:
            _log.warning("command.unreadable", command=command, why=str(error))
            state = None  # its first entry has aged out, or a newer version wrote it
        if state is not None and state.ended is None:
            self.open[project, command] = state.created.origin
        else:
            self.open.pop((project, command), None)


def _ends(message: StoredMessage) -> bool:
    """Say whether an entry is the last one of its command."""
    try:
        _, events = read_entry(message.data)
    except (LogBroken, UnknownEvent):
        return False
    return any(isinstance(event, CommandEnded) for event in events)


class CommandHandlers:
    """Decides on commands. Holds nothing that the log does not hold."""

    def __init__(
        self,
        log: FoldedLog[Command],
        streams: Streams,
        candidates: Candidates,
        registry: ClientRegistry,
        open_commands: OpenCommands,
    ) -> None:
        self._fold = log
        self._streams = streams
        self._candidates = candidates
        self._registry = registry
        self._attributes = AttributeTable(streams)
        self._open = open_commands

    async def on_input(self, message: StoredMessage) -> None:
        """Handle a stored input. Its time is when the server stored it."""
        _, project, _, command, _ = message.subject.split(".")
        try:
            given = read_command_input(message.data)
        except Unreadable as error:
            raise Reject(RefusalCode.UNREADABLE, str(error)) from error
        await self._settle(project, command, given, original_id(message), message.time)

    async def on_answer(self, message: StoredMessage) -> None:
        """Look whether everyone has answered. The answer stored last looks for all before it."""
        _, project, _, command, _ = message.subject.split(".")
        newest = await self._streams.last(RESULTS, subjects.result_of(project, command))
        if newest is None or newest.sequence <= message.sequence:
            await self._look(project, command, message)

    async def look(self, project: ProjectId, command: CommandId) -> None:
        """Look whether everyone has answered; if so, the command ends."""
        newest = await self._streams.last(RESULTS, subjects.result_of(project, command))
        if newest is not None:
            await self._look(project, command, newest)

    async def _look(self, project: ProjectId, command: CommandId, newest: StoredMessage) -> None:
        state = await self._fold.newest(project, command)
        if state is None or state.ended is not None:
            return
        stored = await self._streams.subjects(RESULTS, subjects.result_of(project, command))
        if len(stored) >= len(state.created.targets):
            name = f"answers.{newest.sequence}"
            await self._settle(project, command, AnswersCame(), name, newest.time)

    async def _settle(
        self, project: ProjectId, command: CommandId, given: CommandInput, cause: str, now: datetime
    ) -> None:
        log = _log.bind(project=project, command=command, input=given.kind)
        for _ in range(ATTEMPTS_MAX):
            state = await self._fold.newest(project, command)
            facts = await self._facts(state, project, command, given, cause, now)
            decision = decide(state, given, facts)
            if not decision.events:
                refusal = decision.refusal
                log.info(
                    "command.no_op", why=f"{refusal.code}: {refusal.detail}" if refusal else ""
                )
                return
            data = seal(state, project, command, decision.events, cause, now)
            try:
                await self._fold.append(project, command, data, state.sequence if state else 0)
            except Conflict:
                continue
            log.info("command.decided", events=[event.TYPE for event in decision.events])
            return
        raise Retry("other controllers were faster each time", CONFLICT_RETRY_S)

    async def _facts(
        self,
        state: Command | None,
        project: ProjectId,
        command: CommandId,
        given: CommandInput,
        cause: str,
        now: datetime,
    ) -> CommandFacts:
        if state is None:
            origin = given.client if isinstance(given, TakeUpCommand) else None
            targets = await self._targets(project, given, now)
            count = self._open.count(project, origin)
            return CommandFacts(project, command, cause, now, targets, count)
        if isinstance(given, RunCommand | TakeUpCommand) or state.ended is not None:
            return CommandFacts(project, command, cause, now)
        subject = subjects.result_of(project, command)
        stored = await self._streams.read(RESULTS, subject, limit=TARGETS_MAX)
        answers = tuple(
            Answered(
                subjects.token(one.subject, 4), read(CommandAnswer, one.data).outcome, one.sequence
            )
            for one in stored
        )
        return CommandFacts(project, command, cause, now, answers=answers)

    async def _targets(
        self, project: ProjectId, given: CommandInput, now: datetime
    ) -> tuple[ClientId, ...]:
        if isinstance(given, TakeUpCommand):
            return (given.client,)
        if not isinstance(given, RunCommand):
            return ()
        if given.clients.ids:
            records = await self._registry.everyone(project)
        else:
            online = [one.client for one in await self._candidates.online(project, now)]
            records = list((await self._registry.by_clients(project, online)).values())
        choice = await self._attributes.choose(project, given.clients, records)
        return tuple(one.client for one in choice.chosen)


class CommandPerformer:
    """Performs what entries of commands ask for: mail and the one deadline. Twice is harmless."""

    def __init__(
        self,
        log: FoldedLog[Command],
        streams: Streams,
        registry: ClientRegistry,
        signer: Signer,
    ) -> None:
        self._fold = log
        self._streams = streams
        self._registry = registry
        self._signer = signer

    async def on_entry(self, message: StoredMessage) -> None:
        """Perform what one stored entry asks for, as of the newest state."""
        entry, _ = read_entry(message.data)
        await self.perform(entry.project, entry.command)

    async def perform(self, project: ProjectId, command: CommandId) -> None:
        """Give every target its mail, and keep the deadline; again when the log moved meanwhile."""
        number = 0
        while True:
            state = await self._fold.newest(project, command)
            if state is None or state.number == number:
                return
            number = state.number
            await self._send(state)
            await self._keep_deadline(state)

    async def _send(self, state: Command) -> None:
        over = state.ended is not None
        if state.created.origin is not None and not over:
            return  # its client is only told the end
        slots = asyncio.Semaphore(PUBLISHES_MAX)
        ttl_s = WITHDRAWN_S if over else None
        records = await self._registry.by_clients(state.project, state.created.targets)
        async with together() as group:
            for client, record in records.items():
                group.create_task(self._publish(slots, state, record.device, client, ttl_s))

    async def _publish(
        self,
        slots: asyncio.Semaphore,
        state: Command,
        device: DeviceKey,
        client: ClientId,
        ttl_s: float | None,
    ) -> None:
        subject = subjects.command_mail(state.project, device, state.command)
        async with slots:
            signed = signed_mail(self._signer, mail(state, device, client))
            await self._streams.append(subject, signed.to_bytes(), ttl_s=ttl_s)

    async def _keep_deadline(self, state: Command) -> None:
        subject = subjects.command_schedule(state.project, state.command)
        if state.ended is not None:
            await self._streams.cancel(INBOX, subject)
            return
        target = subjects.command_input(state.project, state.command, "timeout")
        message = CommandTimeout(due=state.deadline)
        await self._streams.schedule(subject, target, message.to_bytes(), state.deadline)
