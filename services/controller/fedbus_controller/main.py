"""Runs a controller: `python -m fedbus_controller [--print-settings]`."""

from contextlib import suppress
from functools import partial
from pathlib import Path

from fedbus_core.commands.log import fold as fold_command
from fedbus_core.commands.state import Command
from fedbus_core.rounds.log import fold
from fedbus_core.rounds.state import Session
from fedbus_runtime.attributes import AttributeTable
from fedbus_runtime.connections import tls_of
from fedbus_runtime.consumer import consume
from fedbus_runtime.errors import BusAway
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.metrics import (
    QUEUE_PENDING,
    QUEUE_UNSETTLED,
    SESSIONS_OPEN,
    SESSIONS_WAITING,
)
from fedbus_runtime.nats_accounts import NatsAccounts
from fedbus_runtime.nats_connection import NatsOptions
from fedbus_runtime.ports import Deliveries, StoredMessage, Wire
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.service import Service, run
from fedbus_runtime.signing_keys import Signer
from fedbus_runtime.spans import Tracing
from fedbus_schemas import subjects
from fedbus_schemas.streams import (
    ANSWERS,
    COMMAND_PERFORMERS,
    COMMANDERS,
    COMMANDS,
    CONSUMERS,
    CONTROLLERS,
    PERFORMERS,
    STREAMS,
    TRACERS,
)

from fedbus_controller.archiving import Archiving
from fedbus_controller.candidates import Candidates
from fedbus_controller.commands import CommandHandlers, CommandPerformer, OpenCommands
from fedbus_controller.devices import DeviceKeys, Devices
from fedbus_controller.handlers import Handlers
from fedbus_controller.leftovers import Leftovers
from fedbus_controller.mailing import Mailing
from fedbus_controller.open_sessions import OpenSessions, if_possible
from fedbus_controller.perform import Performer
from fedbus_controller.redo import Inputs
from fedbus_controller.round_spans import RoundSpans
from fedbus_controller.settings import ControllerSettings
from fedbus_controller.small_models import SmallModels

ROUNDS_SHOWN_AT_ONCE_MAX = 128
"""Ended rounds on their way to the collector of traces at once."""


def main() -> None:
    """Run until a signal ends it."""
    run("controller", ControllerSettings, body)


async def body(service: Service[ControllerSettings]) -> None:
    """Wire the parts and start the loops."""
    ports = service.connections
    settings = service.settings
    signer = Signer(settings.signing.seed_file)
    records = settings.records.stream()
    retention = settings.retention
    streams = [records if one.name == records.name else retention.of(one) for one in STREAMS]
    await ports.deliveries.prepare(streams, CONSUMERS)
    if service.tracing is not None:
        await _show_rounds(service, service.tracing)
    log = FoldedLog[Session](ports.streams, fold)
    registry = ClientRegistry(ports.streams)
    candidates = Candidates(ports.presence, registry, AttributeTable(ports.streams))
    open_sessions = OpenSessions(ports.streams, ports.wire, log)
    small = SmallModels(ports.blobs)
    handlers = Handlers(
        log, ports.streams, candidates, open_sessions, small, ports.clock, settings.instance
    )
    mailing = Mailing(ports.streams, small, registry, signer)
    leftovers = Leftovers(ports.blobs, ports.clock)
    performer = Performer(
        log, ports.streams, ports.records, mailing, signer, ports.blobs, leftovers
    )
    command_log = FoldedLog[Command](ports.streams, fold_command, COMMANDS, subjects.command_log)
    open_commands = OpenCommands(ports.streams, ports.wire, command_log)
    commands = CommandHandlers(command_log, ports.streams, candidates, registry, open_commands)
    command_performer = CommandPerformer(command_log, ports.streams, registry, signer)
    inputs = Inputs(ports.streams, handlers, performer, commands, command_performer)
    await open_sessions.read()
    service.measure_with(partial(_measure, ports.deliveries, open_sessions))
    await open_commands.read()
    service.supervise("commands", open_commands.follow())
    service.supervise(
        "command-repeats", _repeat_commands(ports.wire, open_commands, command_performer)
    )
    if settings.devices.keys is not None:
        _let_in_and_shut_out(service, settings.devices.keys, signer)
    service.supervise("sessions", open_sessions.follow(handlers.on_waiting))
    service.supervise("registry", registry.follow(ports.wire))
    service.supervise("looks", open_sessions.look_again(ports.clock, handlers.on_waiting))
    service.supervise("repeats", _repeat(ports.wire, open_sessions, performer))
    archiving = Archiving(ports.streams, open_sessions, retention)
    service.supervise("archiving", archiving.run(ports.clock, handlers.on_old))
    service.supervise(
        "notices", ports.wire.serve(subjects.ALL_NOTICES, "controllers", handlers.on_notice)
    )
    for consumer, handler in (
        (CONTROLLERS, inputs.on_message),
        (PERFORMERS, performer.on_entry),
        (COMMANDERS, commands.on_input),
        (COMMAND_PERFORMERS, command_performer.on_entry),
        (ANSWERS, commands.on_answer),
    ):
        loop = consume(
            ports.deliveries,
            ports.streams,
            consumer,
            handler,
            ports.clock,
            concurrency=settings.limits.sessions,
            key=_session,
            shown=service.tracing,
        )
        service.supervise(consumer.name, loop)


async def _measure(deliveries: Deliveries, sessions: OpenSessions) -> None:
    """Say how much there is to do. Of several controllers each tells the same."""
    SESSIONS_OPEN.set(len(sessions.open))
    SESSIONS_WAITING.set(len(sessions.waiting))
    for consumer in CONSUMERS:
        depth = await deliveries.depth(consumer)
        QUEUE_PENDING.set(depth.pending, consumer=consumer.name)
        QUEUE_UNSETTLED.set(depth.unsettled, consumer=consumer.name)


def _let_in_and_shut_out(
    service: Service[ControllerSettings], folder: Path, signer: Signer
) -> None:
    """Sign devices' tokens, and keep the bus's revocations."""
    ports, settings = service.connections, service.settings
    keys = DeviceKeys.load(folder)
    accounts = NatsAccounts(
        NatsOptions(
            urls=settings.nats.urls,
            name=f"{settings.instance}-accounts",
            seed=keys.system_seed,
            token=keys.system_token,
            tls=tls_of(settings.nats),
        )
    )
    devices = Devices(
        streams=ports.streams,
        wire=ports.wire,
        clock=ports.clock,
        accounts=accounts,
        keys=keys,
        lifetime=settings.devices.lifetime,
        trust=(signer.public,),
    )
    service.supervise("tokens", devices.serve())
    service.supervise("revocations", devices.follow())


async def _show_rounds(service: Service[ControllerSettings], shown: Tracing) -> None:
    ports = service.connections
    await ports.deliveries.prepare((), (TRACERS,))
    loop = consume(
        ports.deliveries,
        ports.streams,
        TRACERS,
        RoundSpans(ports.streams, ports.clock, shown).on_entry,
        ports.clock,
        concurrency=ROUNDS_SHOWN_AT_ONCE_MAX,
        key=_message,
    )
    service.supervise(TRACERS.name, loop)


async def _repeat(wire: Wire, sessions: OpenSessions, performer: Performer) -> None:
    """Perform every open session's effects at the start, and again whenever the bus comes back."""
    while True:
        with suppress(BusAway):  # it is away again: its return repeats everything
            for project, session in sorted(sessions.open | performer.unsure):
                await if_possible(performer.repeat(project, session), unless=BusAway)
        await wire.returned()


async def _repeat_commands(wire: Wire, commands: OpenCommands, performer: CommandPerformer) -> None:
    """As `_repeat`, for every open command."""
    while True:
        with suppress(BusAway):
            for project, command in sorted(commands.open):
                await if_possible(performer.perform(project, command), unless=BusAway)
        await wire.returned()


def _message(message: StoredMessage) -> str:
    """Every message is a key of its own: rounds that ended are shown in any order."""
    return str(message.sequence)


def _session(message: StoredMessage) -> str:
    """The key within which messages go one by one: project and session."""
    return f"{subjects.token(message.subject, 1)}.{subjects.token(message.subject, 3)}"
