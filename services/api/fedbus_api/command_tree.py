"""Commands as people see them: made from the log, the results and the progress on each look.

Nothing is kept but folded logs, and each look reads what is newer, so every instance tells the same.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from fedbus_core.commands.decide import OPEN_MAX
from fedbus_core.commands.log import read_entry
from fedbus_core.commands.state import Command
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import StoredMessage, Streams
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable, digest, read
from fedbus_schemas.command_events import CommandCreated, CommandEnded
from fedbus_schemas.command_views import ClientPartView, CommandList, CommandView
from fedbus_schemas.commands import (
    AUTONOMOUS,
    TARGETS_MAX,
    ClientStatus,
    CommandAnswer,
    CommandProgress,
    CommandStatus,
    RunCommand,
    StepCommand,
    StopCommand,
)
from fedbus_schemas.ids import ClientId, CommandId, ProjectId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import COMMANDS, PROGRESS, RESULTS

from fedbus_api.problems import Problem
from fedbus_api.watching import Watch

COMMANDS_MAX = 1_000
"""Commands that a list looks at, the newest ones."""


@dataclass(frozen=True, slots=True)
class _Times:
    created: datetime
    ended: datetime | None


@dataclass(slots=True)
class CommandTree:
    """Runs, shows and ends commands."""

    streams: Streams
    watch: Watch
    registry: ClientRegistry
    log: FoldedLog[Command]
    wait_s: float
    _times: dict[tuple[ProjectId, CommandId], _Times] = field(default_factory=dict)

    async def run(self, project: ProjectId, order: RunCommand) -> CommandView:
        """Begin a command and answer once a controller has decided it."""
        if order.task.startswith(AUTONOMOUS):
            detail = "task: a client begins autonomous tasks by itself"
            raise Problem(RefusalCode.INVALID, detail)
        known = await self.log.newest(project, order.command)
        if known is not None:
            if _is_of(known, order):
                return await self.view(known)  # the same order, sent again
            raise Problem(RefusalCode.ALREADY_EXISTS, f"command {order.command}")
        if order.parent is not None and await self.log.newest(project, order.parent) is None:
            raise Problem(RefusalCode.COMMAND_UNKNOWN, f"parent {order.parent}")
        await self._check_named(project, order)
        name = f"{project}.{order.command}.run"
        state = await self._until(
            project,
            order.command,
            lambda _: True,
            self.wait_s,
            lambda: self._publish(project, order.command, order, name),
        )
        if state is None:
            detail = (
                f"command {order.command}: no controller decided in time; it is stored and will be"
            )
            raise Problem(RefusalCode.RETRY_LATER, detail)
        return await self.view(state)

    async def end(
        self, project: ProjectId, command: CommandId, order: StepCommand | StopCommand
    ) -> CommandView:
        """End a command by an order and answer once that is decided."""
        state = await self.known(project, command)
        if state.ended is not None:
            raise Problem(RefusalCode.COMMAND_ENDED, f"the command is {state.ended.status}")
        name = secrets.token_hex(16)
        await self._until(
            project,
            command,
            _is_over,
            self.wait_s,
            lambda: self._publish(project, command, order, name),
        )
        return await self.show(project, command, 0)

    async def show(self, project: ProjectId, command: CommandId, wait_s: float) -> CommandView:
        """Show a command; with `wait_s`, once it has ended or that time is over."""
        await self.known(project, command)
        if wait_s:
            await self._until(project, command, _is_over, wait_s)
        return await self.view(await self.known(project, command))

    async def commands(
        self, project: ProjectId, parent: CommandId | None, *, roots: bool, limit: int
    ) -> CommandList:
        """List commands, the newest first: all, the roots, or the children of one. Shows `limit` of them."""
        found = await self.streams.subjects(COMMANDS, subjects.command_log(project))
        heads = await self.streams.latest(COMMANDS, sorted(found)) if found else []
        states = []
        for head in reversed(heads[-COMMANDS_MAX:]):
            entry, _ = read_entry(head.data)
            if found[head.subject] != entry.number:
                continue  # its first entries have aged out
            state = await self._at(project, head)
            if state is None or (roots and state.created.parent is not None):
                continue
            if parent is None or state.created.parent == parent:
                states.append(state)
        shown = [await self.view(state) for state in states[:limit]]
        return CommandList(items=tuple(shown), count=len(states))

    async def view(self, state: Command) -> CommandView:
        """Show a command in full."""
        created, ended = state.created, state.ended
        parts = await self.parts(state)
        begun = any(one.status is not ClientStatus.SENT for one in parts)
        status = CommandStatus.RUNNING if begun else CommandStatus.CREATED
        over = {ClientStatus.COMPLETED, ClientStatus.FAILED, ClientStatus.REFUSED}
        fractions = [1.0 if one.status in over else one.fraction or 0.0 for one in parts]
        times = await self._times_of(state)
        return CommandView(
            command=created.command,
            task=created.task,
            status=ended.status if ended else status,
            reason=ended.reason if ended else None,
            detail=ended.detail if ended else "",
            parameters=created.parameters,
            model=created.model,
            targets=created.targets,
            parent=created.parent,
            correlation=created.correlation,
            origin=created.origin,
            progress=sum(fractions) / len(fractions) if fractions else 0.0,
            completed=sum(one.status is ClientStatus.COMPLETED for one in parts),
            failed=sum(one.status is ClientStatus.FAILED for one in parts),
            refused=sum(one.status is ClientStatus.REFUSED for one in parts),
            created=times.created,
            deadline=state.deadline,
            ended=times.ended,
            number=state.number,
            trace_id=created.trace_id,
        )

    async def parts(self, state: Command) -> list[ClientPartView]:
        """Give every client's part."""
        created, of = state.created, (state.project, state.command)
        results = _by_client(
            await self.streams.read(RESULTS, subjects.result_of(*of), limit=TARGETS_MAX)
        )
        progress = _by_client(
            await self.streams.read(PROGRESS, subjects.progress(*of), limit=TARGETS_MAX)
        )
        records = await self.registry.by_clients(state.project, created.targets)
        found = []
        for client in created.targets:
            name = records[client].name if client in records else ""
            part = ClientPartView(client=client, name=name, status=ClientStatus.SENT)
            if client in results:
                part = _answered(part, results[client], state)
            elif client in progress:
                part = _progressed(part, progress[client])
            if state.ended is not None and client not in results:
                part = part.model_copy(update={"status": ClientStatus.MISSING})
            found.append(part)
        return found

    async def known(self, project: ProjectId, command: CommandId) -> Command:
        """Give a command's state. Raises `Problem` when there is none."""
        state = await self.log.newest(project, command)
        if state is None:
            raise Problem(RefusalCode.COMMAND_UNKNOWN, f"command {command} in project {project}")
        return state

    async def _at(self, project: ProjectId, head: StoredMessage) -> Command | None:
        """Give the state that ends in this entry; the log is read only when it was not folded before."""
        command = subjects.token(head.subject, 3)
        kept = self.log.cached(project, command)
        if kept is not None and (kept.sequence, kept.head) == (head.sequence, digest(head.data)):
            return kept
        return await self.log.newest(project, command)

    async def _until(
        self,
        project: ProjectId,
        command: CommandId,
        holds: Callable[[Command], bool],
        wait_s: float,
        publish: Callable[[], Awaitable[None]] | None = None,
    ) -> Command | None:
        """Give the state once it is so; None when that takes too long."""

        async def look() -> Command | None:
            state = await self.log.newest(project, command)
            return state if state is not None and holds(state) else None

        live = subjects.live_command(project, command)
        return await self.watch.until(live, look, wait_s, publish)

    async def _check_named(self, project: ProjectId, order: RunCommand) -> None:
        if not order.clients.ids:
            return
        records = await self.registry.everyone(project)
        known = {one.client for one in records} | {one.name for one in records}
        missing = [one for one in order.clients.ids if one not in known]
        if missing:
            raise Problem(RefusalCode.CLIENT_UNKNOWN, f"clients: {', '.join(missing[:5])}")

    async def _publish(
        self,
        project: ProjectId,
        command: CommandId,
        order: RunCommand | StepCommand | StopCommand,
        name: str,
    ) -> None:
        subject = subjects.command_input(project, command, "order")
        await self.streams.append(subject, order.to_bytes(), message_id=name)

    async def _times_of(self, state: Command) -> _Times:
        key = (state.project, state.command)
        kept = self._times.get(key)
        if kept is not None and (kept.ended is not None or state.ended is None):
            return kept
        subject = subjects.command_log(*key)
        entries = await self.streams.read(COMMANDS, subject, limit=OPEN_MAX)
        created, ended = entries[0].time, None
        for entry in entries:
            for event in read_entry(entry.data)[1]:
                if isinstance(event, CommandCreated):
                    created = entry.time
                elif isinstance(event, CommandEnded):
                    ended = entry.time
        while len(self._times) >= COMMANDS_MAX:
            del self._times[next(iter(self._times))]
        times = self._times[key] = _Times(created, ended)
        return times


def _by_client(answers: Iterable[StoredMessage]) -> dict[ClientId, StoredMessage]:
    return {subjects.token(one.subject, 4): one for one in answers}


def _is_of(state: Command, order: RunCommand) -> bool:
    """Say whether the command was begun by an order like this one."""
    created = state.created
    return (
        created.task,
        created.parameters,
        created.model,
        created.parent,
        created.correlation,
    ) == (
        order.task,
        order.parameters,
        order.model,
        order.parent,
        order.correlation or order.command,
    )


def _is_over(state: Command) -> bool:
    return state.ended is not None


def _answered(part: ClientPartView, message: StoredMessage, state: Command) -> ClientPartView:
    answer = read(CommandAnswer, message.data)
    late = state.ended is not None and message.sequence > state.ended.cutoff
    fields = {"value", "blob", "code", "detail", "duration_s"}
    given = {name: getattr(answer, name) for name in fields}
    status = ClientStatus(answer.outcome.value)
    return part.model_copy(
        update={**given, "status": status, "late": late, "time": message.time, "fraction": 1.0}
    )


def _progressed(part: ClientPartView, message: StoredMessage) -> ClientPartView:
    try:
        told = read(CommandProgress, message.data)
    except Unreadable:
        return part
    update = {"status": told.status, "fraction": told.fraction, "text": told.text}
    return part.model_copy(update={**update, "time": message.time})
