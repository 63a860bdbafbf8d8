"""An order to deliver a dead letter again: where each kind goes, once, and what an interruption does."""

import pytest
from fedbus_controller.redo import Inputs
from fedbus_runtime.consumer import original_id
from fedbus_runtime.errors import BusAway, Reject
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.ports import StoredMessage
from fedbus_schemas import dead_letters, subjects
from fedbus_schemas.codec import read, read_work
from fedbus_schemas.dead_letters import LetterNote, Redo
from fedbus_schemas.streams import STREAMS
from fedbus_schemas.work import RecountItem

P, S = "p", "s-1"
FINISH = subjects.work(P, S, "finish")
UPDATE = subjects.update(P, S, 1, "c" + "a" * 16, 1)


class World:
    """The handler over memory; it stands in for the handlers and the performer itself."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.servers = MemoryWorld(self.clock)
        self.server = self.servers.bus.server
        for stream in STREAMS:
            self.server.prepare(stream)
        self.streams = self.servers.bus.streams
        self.inputs = Inputs(self.streams, *4 * [self])  # type: ignore[arg-type]  # each is asked for one method
        self.handled: list[StoredMessage] = []
        self.performed: list[int] = []
        self.commands: list[tuple[str, ...]] = []

    async def on_input(self, message: StoredMessage) -> None:
        self.handled.append(message)

    async def on_entry(self, message: StoredMessage) -> None:
        self.performed.append(message.sequence)

    async def perform(self, *command: str) -> None:
        self.commands.append(command)

    look = perform

    def put(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> int:
        return self.server.store(self.server.taking(subject), subject, data, headers or {}).sequence

    def bury(self, stream: str, subject: str, data: bytes = b"item", place: int = 7) -> int:
        headers = {
            dead_letters.CODE: "blob_missing",
            dead_letters.SEQUENCE: str(place),
            dead_letters.ORIGINAL_ID: "first-1",
            dead_letters.MESSAGE_ID: "WORK.combiners.7",
            "traceparent": "00-1",
        }
        return self.put(subjects.dead(stream, subject), data, headers)

    async def order(self, letter: int, project: str = P) -> None:
        subject = subjects.redo(project, S)
        data = Redo(letter=letter, by="ada").to_bytes()
        await self.inputs.on_message(StoredMessage(subject, 1, data, self.clock.now()))

    def kept(self, stream: str) -> list[StoredMessage]:
        return list(self.server.streams[stream].messages.values())


@pytest.mark.parametrize(
    ("stream", "subject"), [("WORK", FINISH), ("INBOX", subjects.result(P, S))]
)
async def test_what_was_in_a_queue_is_put_back_under_its_first_id(stream, subject) -> None:
    world = World()
    letter = world.bury(stream, subject)
    for _ in range(3):
        await world.order(letter)
    [again] = world.kept(stream)
    assert (again.subject, again.data) == (subject, b"item")
    assert original_id(again) == "first-1"
    assert again.headers["traceparent"] == "00-1"
    assert not [name for name in again.headers if name.startswith("Dead-")]
    assert world.kept("DEAD") == []
    [note] = [read(LetterNote, one.data) for one in world.kept("NOTES")]
    assert (note.letter, note.fate, note.by, note.subject) == (letter, "retried", "ada", subject)


async def test_an_entry_is_performed_again_and_an_update_counted_again() -> None:
    world = World()
    entry = world.put(subjects.event(P, S), b"entry")
    update = world.put(UPDATE, b"update")
    await world.order(world.bury("EVENTS", subjects.event(P, S), place=entry))
    await world.order(world.bury("UPDATES", UPDATE, place=update))
    assert world.performed == [entry]
    assert (len(world.kept("EVENTS")), len(world.kept("UPDATES"))) == (1, 1)
    [item] = [read_work(one.data) for one in world.kept("WORK")]
    assert item == RecountItem(project=P, session=S, subject=UPDATE, sequence=update)
    assert world.kept("DEAD") == []


async def test_a_commands_entry_is_performed_again_and_its_answers_looked_at_again() -> None:
    world = World()
    for stream, subject in (
        ("COMMANDS", subjects.command_log(P, "k1")),
        ("RESULTS", subjects.result_of(P, "k2", "c" + 16 * "a")),
    ):
        await world.order(world.bury(stream, subject, place=world.put(subject, b"{}")))
    assert world.commands == [(P, "k1"), (P, "k2")]
    assert (len(world.kept("COMMANDS")), len(world.kept("RESULTS"))) == (1, 1)
    assert world.kept("DEAD") == []


async def test_an_order_that_was_interrupted_delivers_once(monkeypatch) -> None:
    world = World()
    letter = world.bury("WORK", FINISH)

    async def away(*_: object) -> None:
        raise BusAway("killed here")

    with monkeypatch.context() as broken:
        broken.setattr(world.streams, "delete", away)
        with pytest.raises(BusAway):
            await world.order(letter)
    assert len(world.kept("DEAD")) == 1, "the letter goes last"
    await world.order(letter)
    assert (len(world.kept("WORK")), len(world.kept("NOTES"))) == (1, 1)
    assert world.kept("DEAD") == []


async def test_an_order_for_another_project_or_of_nonsense_does_nothing() -> None:
    world = World()
    letter = world.bury("WORK", FINISH)
    await world.order(letter, project="other")
    await world.order(letter + 1)
    assert len(world.kept("DEAD")) == 1
    with pytest.raises(Reject):
        await world.order(world.bury("NOTES", f"fl.{P}.note.refusal.x.y"))
    with pytest.raises(Reject):
        subject = subjects.redo(P, S)
        await world.inputs.on_message(StoredMessage(subject, 1, b"[]", world.clock.now()))


async def test_everything_else_goes_to_the_inputs() -> None:
    world = World()
    message = StoredMessage(subjects.command(P, S), 1, b"{}", world.clock.now())
    await world.inputs.on_message(message)
    assert world.handled == [message]
