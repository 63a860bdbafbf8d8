"""Everything a client can ask, as a table: verb to message and handler. The server attests who asks.

What came is read here, once, and a handler gets the message. An
`Away` server gives the answer "retry later" with nothing lost: the client sends the same again.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import structlog
from fedbus_core.rounds.admission import admit_report
from fedbus_core.rounds.state import Session
from fedbus_runtime import tracing
from fedbus_runtime.errors import Away
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.joined import Joined
from fedbus_runtime.metrics import ASK_SECONDS, ASKS
from fedbus_runtime.ports import Clock, Presence, Request, RoundKey, Streams
from fedbus_runtime.registry import ClientRegistry
from fedbus_runtime.signing_keys import verify
from fedbus_schemas import signing, subjects
from fedbus_schemas.asks import (
    RENEW,
    VERBS,
    Answer,
    Beat,
    GrantRequest,
    Hello,
    Noted,
    PiecesRequest,
    Sync,
    TransferDone,
    Welcome,
)
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.commands import (
    CommandAnswer,
    CommandGrantRequest,
    CommandProgress,
    StartTask,
)
from fedbus_schemas.ids import ClientId, DeviceKey, ProjectId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.traces import trace_id
from fedbus_schemas.updates import ValidationReport
from fedbus_schemas.wire import Message

from fedbus_combiner.commands import CommandAsks
from fedbus_combiner.declines import Declines
from fedbus_combiner.grants import Granting
from fedbus_combiner.ingest import Ingest, read_submission
from fedbus_combiner.notes import Notes
from fedbus_combiner.records import Records
from fedbus_combiner.signal import Signal
from fedbus_combiner.sync import Syncing
from fedbus_combiner.transfers import Places

BEAT_S = 10.0
"""How often a client says that it is there."""
ABSENT_FOR = timedelta(minutes=1)
"""A client that says goodbye counts as last heard of so long ago: longer than anybody counts as online."""

ATTEMPTS_LOOKED_AT_MAX = 16
"""Attempts of a round among which the trace of a validation is looked for."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Verb(Generic[T]):
    """How a verb's message is read (raises `Unreadable`), and who answers it (raises `Away`)."""

    read: Callable[[bytes], T]
    handle: Callable[[ProjectId, ClientRecord, T], Awaitable[Answer]]

    async def answer(self, project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
        """Read, and answer."""
        try:
            message = self.read(data)
        except Unreadable as error:
            return Answer.refused(RefusalCode.UNREADABLE, str(error))
        return await self.handle(project, sender, message)


def _verb(
    kind: type[M], handle: Callable[[ProjectId, ClientRecord, M], Awaitable[Answer]]
) -> Verb[M]:
    return Verb(partial(read, kind), handle)


class Asks:
    """Answers the clients' requests."""

    def __init__(
        self,
        *,
        streams: Streams,
        log: FoldedLog[Session],
        registry: ClientRegistry,
        presence: Presence,
        clock: Clock,
        notes: Notes,
        arrivals: Signal,
        ingest: Ingest,
        granting: Granting,
        syncing: Syncing,
        places: Places,
        records: Records,
        commands: CommandAsks,
    ) -> None:
        self._streams = streams
        self._log = log
        self._registry = registry
        self._presence = presence
        self._clock = clock
        self._notes = notes
        self._arrivals = arrivals
        self._records = records
        self._heard: dict[ProjectId, dict[ClientId, None]] = {}
        self._turns: WeakValueDictionary[ProjectId, Joined[None]] = WeakValueDictionary()
        granted = places.for_grants(granting.grant, granting.refuses)
        pieced = places.for_grants(granting.pieces, granting.refuses)
        self._verbs: dict[str, Verb[Any]] = {
            "beat": _verb(Beat, self._on_beat),
            "sync": _verb(Sync, syncing.sync),
            "grant": _verb(GrantRequest, granted),
            "pieces": _verb(PiecesRequest, pieced),
            "submit": Verb(read_submission, places.for_submissions(ingest.submit)),
            "done": _verb(TransferDone, places.for_endings(granting.forget)),
            "decline": Verb(bytes, Declines(ingest, notes).decline),  # noted as it came
            "report": _verb(ValidationReport, self._on_report),
            "records": Verb(bytes, records.take),  # weighed before it is read
            "start_task": _verb(StartTask, commands.start_task),
            "progress": _verb(CommandProgress, commands.progress),
            "answer": _verb(CommandAnswer, commands.answer),
            "command_grant": _verb(CommandGrantRequest, commands.grant),
        }

    async def on_ask(self, request: Request) -> bytes | None:
        """Answer one request, whatever it holds; not what controllers answer."""
        _, project, _, device, verb = request.subject.split(".")
        if verb == RENEW:
            return None
        told = verb if verb in VERBS else "unknown"
        with ASK_SECONDS.timed(verb=told):
            answer = await self._judge(project, device, verb, request)
        refusal = answer.refusal
        ASKS.add(verb=told, code="ok" if refusal is None else refusal.code.value)
        return answer.to_bytes()

    async def _judge(
        self, project: ProjectId, device: DeviceKey, verb: str, request: Request
    ) -> Answer:
        if request.sender != device:
            answer = Answer.refused(RefusalCode.NOT_YOURS, "the server attests another sender")
        else:
            try:
                answer = await self._answer(project, device, verb, request.data)
            except Away as away:
                answer = Answer.refused(RefusalCode.RETRY_LATER, str(away))
        if answer.refusal is not None:
            tracing.failed(answer.refusal.code.value)
            _log.info("ask.refused", verb=verb, device=device, code=answer.refusal.code.value)
            self._notes.refused(project, device, verb, request.data, answer.refusal)
        return answer

    async def _answer(
        self, project: ProjectId, device: DeviceKey, verb: str, data: bytes
    ) -> Answer:
        if verb == "hello":
            return await self._on_hello(project, device, data)
        known = self._verbs.get(verb)
        if known is None:
            return Answer.refused(RefusalCode.VERB_UNKNOWN, f"no verb {verb[:32]!r}")
        sender = await self._registry.by_device(project, device)
        if sender is None:
            return Answer.refused(RefusalCode.CLIENT_UNKNOWN, "say hello first")
        return await known.answer(project, sender, data)

    async def _on_hello(self, project: ProjectId, device: DeviceKey, data: bytes) -> Answer:
        try:
            hello = read(Hello, data)
        except Unreadable as error:
            return Answer.refused(RefusalCode.UNREADABLE, str(error))
        if not verify(hello.key, signing.HELLO, device, hello.proof):
            return Answer.refused(RefusalCode.BAD_SIGNATURE, "the proof does not fit the key")
        record = await self._registry.by_device(project, device)
        if record is None:
            record = ClientRecord(
                device=device,
                client=_new_pseudonym(),
                name=hello.name,
                key=hello.key,
                since=self._clock.now(),
            )
            record = await self._registry.enter(project, record)
        if record.key != hello.key:
            return Answer.refused(RefusalCode.KEY_CHANGED, "not the key of the first hello")
        await self._seen(project, record.client)
        self._arrivals.fire(project)
        return Answer(welcome=Welcome(client=record.client, beat_s=BEAT_S))

    async def _on_beat(self, project: ProjectId, sender: ClientRecord, beat: Beat) -> Answer:
        if beat.leaving:
            self._heard.get(project, {}).pop(sender.client, None)
            heard = self._clock.now() - ABSENT_FOR
            await self._presence.gone(project, [sender.client], heard)
        else:
            await self._seen(project, sender.client)
        await self._records.beat(project, sender, beat)
        return Answer(noted=Noted())

    async def _seen(self, project: ProjectId, client: ClientId) -> None:
        """Note that a client is there; those who are heard together are noted in one call."""
        self._heard.setdefault(project, {})[client] = None
        turn = self._turns.setdefault(project, Joined())
        await turn.call(lambda: self._note_seen(project))

    async def _note_seen(self, project: ProjectId) -> None:
        heard = self._heard.pop(project, {})
        if heard:
            await self._presence.seen(project, list(heard), self._clock.now())

    async def _on_report(
        self, project: ProjectId, sender: ClientRecord, report: ValidationReport
    ) -> Answer:
        key = _validated(project, report)
        if key is not None:
            tracing.about("report", key, sender.client)
        state = await self._log.newest(project, report.session)
        refusal = admit_report(state, report.session, report.round, sender.client)
        if refusal is not None:
            return Answer(refusal=refusal)
        subject = subjects.validation(project, sender.client, report.session, report.round)
        await self._streams.append(subject, report.to_bytes())
        return Answer(noted=Noted())


def _validated(project: ProjectId, report: ValidationReport) -> RoundKey | None:
    """Find the attempt that made the model of a report: the one whose trace the client names."""
    named = tracing.named_trace()
    for attempt in range(1, ATTEMPTS_LOOKED_AT_MAX + 1) if named is not None else ():
        if named == trace_id(project, report.session, report.round, attempt):
            return RoundKey(project, report.session, report.round, attempt)
    return None


def _new_pseudonym() -> str:
    """Make a random name: it says nothing about who it is."""
    return "c" + base64.b32encode(secrets.token_bytes(10)).decode().lower()
