"""Runs a combiner: `python -m fedbus_combiner [--print-settings]`. Adding one is starting this."""

from datetime import timedelta
from functools import partial

from fedbus_core.aggregation.known_answers import self_test
from fedbus_core.commands.log import fold as fold_command
from fedbus_core.commands.state import Command
from fedbus_core.rounds.log import fold
from fedbus_core.rounds.state import Session
from fedbus_runtime.connections import Connections
from fedbus_runtime.consumer import consume
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.metrics import CLIENTS_ONLINE
from fedbus_runtime.ports import StoredMessage
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.service import Service, run
from fedbus_schemas import subjects
from fedbus_schemas.streams import COMBINERS, COMMANDS, CONSUMERS, TALLIES

from fedbus_combiner.asks import Asks
from fedbus_combiner.commands import CommandAsks
from fedbus_combiner.finish import Finishing
from fedbus_combiner.fold import Folding
from fedbus_combiner.functions import run_and_log
from fedbus_combiner.grants import Granting
from fedbus_combiner.ingest import Ingest
from fedbus_combiner.live_rounds import LiveRounds
from fedbus_combiner.notes import Notes
from fedbus_combiner.records import Records
from fedbus_combiner.settings import CombinerSettings
from fedbus_combiner.signal import Signal
from fedbus_combiner.summing import Summing
from fedbus_combiner.sync import Syncing
from fedbus_combiner.tally import Tallies
from fedbus_combiner.transfers import Places
from fedbus_combiner.updates import Updates
from fedbus_combiner.work import Work

ONLINE = timedelta(seconds=30)
PROJECTS_MEASURED_MAX = 100
"""Projects of which the metrics say who is online."""


def main() -> None:
    """Run until a signal ends it."""
    run("combiner", CombinerSettings, body)


async def body(service: Service[CombinerSettings]) -> None:
    """Check this machine's arithmetic, wire the parts, start the loops."""
    self_test()
    ports = service.connections
    limits = service.settings.limits
    await ports.deliveries.await_ready(CONSUMERS)
    log = FoldedLog[Session](ports.streams, fold)
    rounds = LiveRounds(ports.streams, ports.records, log)
    notes = Notes(ports.streams, ports.clock)
    arrivals = Signal(ports.wire)
    registry = ClientRegistry(ports.streams)
    service.measure_with(partial(_measure, ports, registry))
    command_log = FoldedLog[Command](ports.streams, fold_command, COMMANDS, subjects.command_log)
    granting = Granting(log, ports.blobs, ports.grants, ports.clock)
    commands = CommandAsks(ports.streams, command_log, ports.blobs, granting)
    asks = Asks(
        streams=ports.streams,
        log=log,
        registry=registry,
        presence=ports.presence,
        clock=ports.clock,
        notes=notes,
        arrivals=arrivals,
        ingest=Ingest(ports.streams, rounds, log),
        granting=granting,
        syncing=Syncing(ports.streams, log, commands),
        places=Places(ports.transfers, limits.of_transfers, ports.clock),
        records=Records(ports.streams, ports.clock, service.settings.records),
        commands=commands,
    )
    tallies = Tallies(ports.streams, ports.wire, ports.records, rounds)
    service.supervise("notes", notes.run())
    service.supervise("registry", registry.follow(ports.wire))
    service.supervise("arrivals", arrivals.run())
    service.supervise("asks", ports.wire.serve(subjects.ALL_ASKS, "combiners", asks.on_ask))
    for consumer, handler, concurrency in (
        (TALLIES, tallies.on_update, limits.tallies),
        (COMBINERS, _work(service, log, tallies).on_item, limits.work),
    ):
        loop = consume(
            ports.deliveries,
            ports.streams,
            consumer,
            handler,
            ports.clock,
            concurrency=concurrency,
            key=_message,
            shown=service.tracing,
        )
        service.supervise(consumer.name, loop)


def _work(service: Service[CombinerSettings], log: FoldedLog[Session], tallies: Tallies) -> Work:
    ports = service.connections
    instance = service.settings.instance
    updates = Updates(ports.streams, ports.blobs)
    summing = Summing(updates, ports.blobs, ports.clock)
    return Work(
        Folding(instance, log, updates, summing, ports.blobs, ports.records),
        Finishing(
            instance,
            log,
            ports.streams,
            updates,
            summing,
            ports.blobs,
            ports.records,
            ports.clock,
            run_and_log,
        ),
        tallies,
    )


async def _measure(ports: Connections, registry: ClientRegistry) -> None:
    """Count who is online in the projects whose clients asked this process."""
    since = ports.clock.now() - ONLINE
    for project in registry.projects[:PROJECTS_MEASURED_MAX]:
        heard = await ports.presence.online(project, since)
        CLIENTS_ONLINE.set(len(heard or {}), project=project)


def _message(message: StoredMessage) -> str:
    """Every message is a key of its own: items and counts need no order."""
    return str(message.sequence)
