"""A whole federation in one loop: servers in memory, services and clients as processes, faults on time."""

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from fedbus import _tensorfile
from fedbus._updates import Update, UpdateKey
from fedbus_combiner.main import body as combiner
from fedbus_combiner.settings import CombinerSettings
from fedbus_controller.main import body as controller
from fedbus_controller.settings import ControllerSettings, SigningSection
from fedbus_core.aggregation.round_sum import model_ref
from fedbus_core.rounds.log import LogBroken, fold
from fedbus_core.rounds.state import Session, SessionPhase
from fedbus_runtime.connections import Servers
from fedbus_runtime.errors import Away
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_streams import MemoryStream, MemoryStreams, matches
from fedbus_runtime.ports import RoundKey, Tally
from fedbus_runtime.service import LoopEnded, Service
from fedbus_schemas import keys, subjects
from fedbus_schemas.asks import Answer, SessionReceipt, Stored
from fedbus_schemas.codec import UnknownEvent, digest
from fedbus_schemas.sessions import (
    NumbersSettings,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
)
from fedbus_schemas.streams import INBOX, STREAMS, UPDATES
from fedbus_schemas.wire import Message

from tests.simulation.clients import PROJECT, Liar, SimKept, honest, opened
from tests.simulation.loop import VirtualLoop
from tests.simulation.plan import COMBINERS, CONTROLLERS, ClientPlan, Fault, Plan
from tests.simulation.ports import SimClock, connections
from tests.simulation.processes import Counter, Process, own_task
from tests.simulation.recording import Recording

LOOK_S = 0.5
SETTLE_S = 4.0
"""After the end everything has so long to stay as it is."""
RESTART_S = 0.5
"""How soon a supervisor starts a process again that ended by itself."""

MODEL = _tensorfile.write({"w": np.array([0.5, -0.25], np.float32)})
SETTINGS: dict[str, ControllerSettings | CombinerSettings] = {
    **{
        name: ControllerSettings(
            instance=name, signing=SigningSection(seed_file=Path("controllers"))
        )
        for name in CONTROLLERS
    },
    **{name: CombinerSettings(instance=name) for name in COMBINERS},
}


@dataclass(frozen=True, slots=True)
class _Ports:
    """What `Service` asks of the servers."""

    ports: Any


@dataclass(frozen=True, slots=True)
class Told:
    """Something a client was told, by which incarnation."""

    process: Process
    what: Stored | SessionReceipt


class World:
    """One simulation while it runs, and what it left."""

    def __init__(self, plan: Plan, loop: VirtualLoop, recording: Recording) -> None:
        self.plan = plan
        self.loop = loop
        self.recording = recording
        self.memory = MemoryWorld(SimClock())
        self.server = self.memory.bus.server
        for stream in STREAMS:
            self.server.prepare(stream)
        self.consumers = self.memory.bus.deliveries._consumers
        self.redis = self.memory.redis
        self.blobs = self.memory.blobs
        self.blobs.content[keys.model(PROJECT, digest(MODEL))] = MODEL
        self.violations: list[str] = []
        self.stored: list[Told] = []
        self.receipts: list[Told] = []
        self.disks: dict[str, dict[UpdateKey, tuple[Update, bytes | None]]] = {}
        self.processes: dict[str, Process] = {}
        self.names = tuple(f"s-{number}" for number in range(1, plan.sessions + 1))
        self.hurt: set[str] = set()
        self._counters: dict[str, Counter] = {}
        self._faults = sorted(
            (one for one in plan.faults if self._is_servers(one)), key=lambda one: one.step
        )
        self._steps = 0
        self._folded: dict[str, Session] = {}
        self._group: asyncio.TaskGroup | None = None

    # --- running -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end, or to the time by which the end should have come."""
        self.loop.on_task = own_task
        async with asyncio.TaskGroup() as self._group:
            for name in (*CONTROLLERS, *COMBINERS):
                self._start(name)
            for client in self.plan.clients:
                self.disks[client.name] = {}
                self._start(client.name)
            self.spawn(self._operate())
            await self._until_done()
            for process in list(self.processes.values()):
                process.crash()
            for task in list(self._group._tasks):
                task.cancel()

    @property
    def steps(self) -> int:
        """Port calls made so far, by all processes."""
        return self._steps

    def calls(self) -> dict[str, int]:
        """Port calls made so far, by process."""
        return {name: counter.steps for name, counter in self._counters.items()}

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None
        self._group.create_task(work, context=Context())

    def violate(self, text: str) -> None:
        """Note that something happened which must never happen."""
        self.recording.note("VIOLATION", text)
        self.violations.append(text)

    async def _until_done(self) -> None:
        settled_s = 0.0
        while settled_s < SETTLE_S:
            await asyncio.sleep(LOOK_S)
            left = self.left()
            settled_s = settled_s + LOOK_S if not left else 0.0
            if self.loop.time() > self.plan.ends_s:
                if left:
                    self.violate(f"after {self.plan.ends_s:g} s there is left: {'; '.join(left)}")
                return
            if self.violations:
                return

    def left(self) -> list[str]:
        """Say what keeps the world from being at its end."""
        found: list[str] = []
        for name in self.names:
            state = self.fold(name)
            if state is None or not state.ended:
                phase = state.round.phase if state and state.round else ""
                found.append(f"{name} is {state.phase if state else 'not started'} {phase}")
        if self.server.away:
            found.append("the bus is away")
        for stream in (INBOX.name, "WORK"):
            kept = self.server.streams[stream].messages
            if kept:
                found.append(
                    f"{len(kept)} in {stream}: {sorted(m.subject for m in kept.values())[:3]}"
                )
        for loans in self.consumers._loans.values():
            kept = self.server.streams[loans.consumer.stream].messages
            ahead = [
                message
                for sequence, message in kept.items()
                if sequence > loans.cursor and matches(loans.consumer.filter, message.subject)
            ]
            if loans.until or ahead:
                found.append(f"{loans.consumer.name} has {len(loans.until)} unacknowledged")
        found += self._unsettled()
        return found

    def _unsettled(self) -> Iterator[str]:
        """Say which processes have still to do with what was done to them."""
        for name, process in self.processes.items():
            if process.bus.is_cut:
                yield f"{name} is cut off"
            if process.is_stopped:  # what it wrote last, it may have to mend when it wakes
                yield f"{name} is stopped"
            if process.kept is not None and process.kept.content:
                yield f"{name} keeps {[str(key) for key in process.kept.content]}"

    def fold(self, session: str) -> Session | None:
        """Fold a session's log, straight from the stream."""
        kept = self.server.streams["EVENTS"]
        state = self._folded.get(session)
        done = state.sequence if state is not None else 0
        for sequence in kept.sequences.get(subjects.event(PROJECT, session), ()):
            if sequence <= done:
                continue
            try:
                state = fold(state, kept.messages[sequence].data, sequence)
            except (LogBroken, UnknownEvent, AssertionError) as error:
                self.violate(f"{session}: the log does not fold: {error}")
                return None
            self._folded[session] = state
        return state

    def stream(self, name: str) -> MemoryStream:
        return self.server.streams[name]

    # --- processes -----------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        counter = self._counters.get(name)
        if counter is None:
            faults = [one for one in self.plan.faults if one.target == name]
            counter = self._counters[name] = Counter(name, faults=faults)
        process = Process(
            counter,
            self.recording,
            self.plan.noise,
            self.loop.stream(f"{name}/{counter.steps}"),
            self._on_step,
            self._on_crash,
        )
        self.processes[name] = process
        self.recording.note(name, "starts")
        assert self._group is not None
        client = next((one for one in self.plan.clients if one.name == name), None)
        work = self._service(process) if client is None else self._client(process, client)
        process.start(self._watched(process, work), self._group)

    async def _watched(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        """A process that ends by itself is started again. While it starts, an absent server is an excuse."""
        try:
            await work
        except* (Away, LoopEnded) as ended:
            self.recording.note(process.name, f"ends: {_leaves(ended)}")
            if process.ready and process.alive:
                self.violate(f"{process.name} ended: {_leaves(ended)}")
        except* Exception as bugs:  # noqa: BLE001  # told as a violation
            if process.alive:  # a process that was killed does nothing any more, not even fail
                self.violate(f"{process.name} ended: {_leaves(bugs)}")
        if not process.alive:
            return  # whoever killed it starts it again
        process.alive = False
        self.loop.call_later(RESTART_S, self._start, process.name)

    async def _service(self, process: Process) -> None:
        while self.server.away or self.redis.away or self.blobs.away or process.bus.is_cut:
            await asyncio.sleep(0.2)
        servers = cast(Servers, _Ports(connections(self, process)))
        async with asyncio.TaskGroup() as tasks:
            settings = SETTINGS[process.name]
            if isinstance(settings, ControllerSettings):
                await controller(Service(settings, servers, tasks))
            else:
                await combiner(Service(settings, servers, tasks))
            process.ready = True

    async def _client(self, process: Process, client: ClientPlan) -> None:
        process.compute_s, process.skew_s = client.compute_s, client.skew_s
        if client.kind == "liar":
            await Liar(self, process).run()
            return
        process.kept = SimKept(self.disks[client.name] if client.durable else {})
        await honest(self, process)

    def _on_crash(self, process: Process, down_s: float) -> None:
        self.loop.call_later(down_s, self._start, process.name)

    # --- faults of servers -----------------------------------------------------------------------

    def _is_servers(self, fault: Fault) -> bool:
        return fault.target in ("bus", "redis", "store") or fault.kind == "halt"

    def _on_step(self) -> None:
        self._steps += 1
        while self._faults and self._faults[0].step <= self._steps:
            fault = self._faults.pop(0)
            self.recording.note("FAULT", f"{fault.kind} {fault.target}, {fault.for_s:.1f} s")
            self.hurt.add(fault.target)
            getattr(self, f"_do_{fault.kind}")(fault)

    def _do_lose(self, fault: Fault) -> None:
        servers: dict[str, Any] = {"bus": self.server, "redis": self.redis, "store": self.blobs}
        server = servers[fault.target]
        if server.away:
            return
        server.away = True
        if fault.target == "bus":
            self._tell_bus(lost=True)
        self.loop.call_later(fault.for_s, self._come_back, fault.target)

    def _come_back(self, target: str) -> None:
        self.recording.note(target, "is back")
        if target == "bus":
            self.server.away = False
            self.server.restart()
            self._tell_bus(lost=False)
        elif target == "redis":
            self.redis.away = False
        else:
            self.blobs.away = False

    def _tell_bus(self, *, lost: bool) -> None:
        for process in self.processes.values():
            if lost:
                process.bus.lost.set()
            else:
                process.bus.lost.clear()
                process.bus.tell_return()
        for watcher in list(self.server.watchers):
            watcher()

    def _do_forget(self, fault: Fault) -> None:
        """The server restarts so fast that only its memory tells."""
        self.server.restart()
        for process in self.processes.values():
            process.bus.lost.set()
        self._tell_bus(lost=False)

    def _do_flush(self, fault: Fault) -> None:
        self.redis.flush()

    def _do_restore(self, fault: Fault) -> None:
        self.loop.call_later(fault.for_s, self.redis.restore, self.redis.snapshot())

    def _do_slow(self, fault: Fault) -> None:
        self._slow(fault.target, 0.4)
        self.loop.call_later(fault.for_s, self._slow, fault.target, 0.0)

    def _slow(self, server: str, slow_s: float) -> None:
        for process in self.processes.values():
            links = {"bus": process.bus, "redis": process.records, "store": process.store}
            links[server].slow_s = slow_s

    def _do_halt(self, fault: Fault) -> None:
        self.spawn(self._halt(fault))

    async def _halt(self, fault: Fault) -> None:
        """Pause a session, and resume it later: when it is seen to be paused, as the api does."""
        await self._command(fault.target, PauseSession(), f"pause-{fault.step}")
        await asyncio.sleep(fault.for_s)
        was_paused = False
        for attempt in itertools.count():
            state = self.fold(fault.target)
            paused = state is not None and state.phase is SessionPhase.PAUSED
            if (was_paused and not paused) or (state is not None and state.ended):
                return
            if paused:
                await self._command(fault.target, ResumeSession(), f"resume-{fault.step}-{attempt}")
            was_paused = paused
            await asyncio.sleep(5.0)

    # --- the operator ----------------------------------------------------------------------------

    async def _operate(self) -> None:
        self.server.prepare(INBOX)
        plan = self.plan
        for number, name in enumerate(self.names, start=1):
            settings = SessionSettings(
                rounds=plan.rounds,
                target=plan.target,
                minimum=plan.minimum,
                round_timeout_s=plan.deadline_s,
                attempts_max=plan.attempts,
                batch_size=plan.batch,
                inline_bytes_max=plan.inline,
                validate=plan.validate,
                numbers=NumbersSettings(cohort_bits=11),
                seed=number,
            )
            given = StartSession(session=name, settings=settings, model=model_ref(MODEL))
            await asyncio.sleep(0.2)
            await self._command(name, given, f"start-{name}")

    async def _command(self, session: str, command: Message, name: str) -> None:
        streams = MemoryStreams(self.server)
        while True:
            try:
                subject = subjects.command(PROJECT, session)
                await streams.append(subject, command.to_bytes(), message_id=name)
            except Away:
                await asyncio.sleep(0.3)
            else:
                self.recording.note("operator", f"{name} for {session}")
                return

    # --- what clients are told ---------------------------------------------------------------------

    def told(self, process: Process, answer: Answer) -> None:
        """A client got an answer: what it says `stored` of must be stored, now and as it says."""
        if answer.stored is not None:
            self.stored.append(Told(process, answer.stored))
            self._check_stored(process, answer.stored)
        if answer.synced is not None:
            for receipt in answer.synced.receipts:
                self.receipts.append(Told(process, receipt))
            for signed in answer.synced.mail:
                self._told_receipts(process, signed.to_bytes())

    def told_mail(self, process: Process, data: bytes) -> None:
        """A client heard a live message."""
        self._told_receipts(process, data)

    def _told_receipts(self, process: Process, data: bytes) -> None:
        mail = opened(data)
        if mail is None:
            return
        for receipt in mail.receipts:
            fields = {name: getattr(receipt, name) for name in type(receipt).model_fields}
            self.receipts.append(
                Told(process, SessionReceipt.model_construct(session=mail.session, **fields))
            )

    def _check_stored(self, process: Process, told: Stored) -> None:
        message = self.stream("UPDATES").messages.get(told.sequence)
        if message is None:
            self.violate(f"{process.name} was told stored, and it is not: {told}")
            return
        _, _, _, session, number, _, attempt = message.subject.split(".")
        if (session, int(number), int(attempt)) != (told.session, told.round, told.attempt):
            self.violate(f"{process.name} was told stored of another's update: {told}")
        elif told.update not in message.data.decode():
            self.violate(f"{process.name} was told stored, another update is: {told}")

    def check_tally(self, key: RoundKey, tally: Tally) -> None:
        """Redis counts no update that is not stored."""
        pattern = subjects.update(key.project, key.session, key.round, "*", key.attempt)
        stored = self.stream(UPDATES.name).matching(pattern)
        if tally.stored > len(stored):
            self.violate(f"Redis counts {tally.stored} updates, {len(stored)} are stored: {key}")


def _leaves(group: BaseExceptionGroup[Any]) -> list[str]:
    found: list[str] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [repr(one)]
    return found
