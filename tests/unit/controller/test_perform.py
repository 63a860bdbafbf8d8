"""A performer that was stopped, wrote an old mail and then lost the bus: it makes up for it."""

from fedbus_controller.leftovers import Leftovers
from fedbus_controller.perform import Performer
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.log import fold, seal
from fedbus_core.rounds.state import Session
from fedbus_runtime.errors import BusAway
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import START, ManualClock
from fedbus_runtime.memory_records import MemoryRoundRecords
from fedbus_schemas import subjects
from fedbus_schemas.events import Participant
from fedbus_schemas.inputs import Input
from fedbus_schemas.models import ModelRef
from fedbus_schemas.sessions import SessionSettings, StartSession, StopSession
from fedbus_schemas.streams import EVENTS, STREAMS

PROJECT, SESSION = "default", "s-perform"
SUBJECT = subjects.event(PROJECT, SESSION)
COHORT = (Participant(client="c" + "a" * 16, key="A" * 43),)
MODEL = ModelRef(digest="0" * 64, size=8, layout="1" * 64, exponents=(0,))


class Mailing:
    """Remembers what mail was sent last. While the first is sent, the session is stopped and the bus goes."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self.number = 0
        self.sent = 0

    async def send(self, state: Session) -> None:
        self.sent += 1
        self.number = state.number
        if self.sent == 1:
            await append(self._world, StopSession())
            self._world.bus.server.away = True


class Signer:
    public = "A" * 43

    def sign(self, domain: bytes, content: str) -> str:
        return "A" * 86


async def append(world: MemoryWorld, given: Input) -> None:
    """Decide on an input and store it."""
    state: Session | None = None
    for entry in await world.bus.streams.read(EVENTS, SUBJECT):
        state = fold(state, entry.data, entry.sequence)
    facts = Facts(PROJECT, SESSION, given.kind, START, COHORT)
    data = seal(state, PROJECT, SESSION, decide(state, given, facts).events, given.kind, START)
    await world.bus.streams.append(SUBJECT, data)


async def performer() -> tuple[MemoryWorld, Mailing, Performer]:
    world = MemoryWorld(ManualClock())
    await world.bus.deliveries.prepare(STREAMS, [])
    settings = SessionSettings()
    await append(world, StartSession(session=SESSION, settings=settings, model=MODEL))
    mailing = Mailing(world)
    made = Performer(
        FoldedLog[Session](world.bus.streams, fold),
        world.bus.streams,
        MemoryRoundRecords(world.redis),
        mailing,  # type: ignore[arg-type]  # it stands for one that sends
        Signer(),  # type: ignore[arg-type]
        world.blobs,
        Leftovers(world.blobs, ManualClock()),
    )
    return world, mailing, made


async def test_an_old_mail_is_written_anew_when_its_entry_is_performed_again() -> None:
    world, mailing, made = await performer()
    [first] = await world.bus.streams.read(EVENTS, SUBJECT)
    await away(made.on_entry(first))
    world.bus.server.away = False
    await made.on_entry(first)
    assert (mailing.sent, mailing.number) == (2, 2)
    await made.on_entry(first)
    assert mailing.sent == 2, "once is enough"


async def test_an_old_mail_is_written_anew_when_all_is_repeated() -> None:
    world, mailing, made = await performer()
    await away(made.repeat(PROJECT, SESSION))
    assert made.unsure == {(PROJECT, SESSION)}
    world.bus.server.away = False
    await made.repeat(PROJECT, SESSION)
    assert (mailing.number, made.unsure) == (2, set())


async def away(work) -> None:
    try:
        await work
    except BusAway:
        return
    raise AssertionError("the bus was away")
