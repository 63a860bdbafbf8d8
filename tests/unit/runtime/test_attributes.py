"""Attributes of clients: read once, kept up to date, and used to choose."""

from datetime import UTC, datetime, timedelta

from fedbus_runtime.attributes import AttributeTable
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.memory_streams import MemoryServer, MemoryStreams
from fedbus_runtime.retention import RecordsRetention
from fedbus_schemas import subjects
from fedbus_schemas.ids import Scalar
from fedbus_schemas.records import Attribute, ClientAttributes
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.selection import ClientQuery, parse_conditions
from fedbus_schemas.streams import RECORDS, REGISTRY

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(letter: str) -> ClientRecord:
    return ClientRecord(
        device="U" + letter.upper() * 55,
        client="c" + letter * 16,
        name=f"site-{letter}",
        key="k" * 43,
        since=NOW,
    )


class World:
    def __init__(self) -> None:
        self.server = MemoryServer(ManualClock())
        self.server.prepare(REGISTRY)
        self.streams = MemoryStreams(self.server)
        self.table = AttributeTable(self.streams)
        self.clients = [record(letter) for letter in "cab"]

    async def put(self, letter: str, **given: Scalar | None) -> None:
        client = record(letter).client
        attributes = {
            key: Attribute(value=value, time=NOW, stream="a" * 16, number=1)
            for key, value in given.items()
        }
        content = ClientAttributes(client=client, attributes=attributes)
        subject = subjects.attributes_record("p", client)
        await self.streams.append(subject, content.to_bytes())

    async def chosen(self, text: str, *ids: str) -> str:
        query = ClientQuery(ids=ids, where=parse_conditions(text))
        choice = await self.table.choose("p", query, self.clients)
        assert len(choice.chosen) + len(choice.left_out) == len(self.clients)
        return "".join(one.name[-1] for one in choice.chosen)


async def test_clients_are_chosen_by_what_they_are_now() -> None:
    world = World()
    assert await world.chosen("") == "abc"
    assert await world.chosen("site=eu") == ""
    await world.put("a", site="eu")
    await world.put("b", site="eu", gpu=2)
    assert await world.chosen("site=eu") == "ab"
    await world.put("a", site="us")
    assert await world.chosen("site=eu") == "b"
    await world.put("b", site=None)
    assert await world.chosen("site") == "a"
    assert await world.chosen("", "site-b", "c" + "c" * 16) == "bc"


async def test_each_left_out_client_has_its_reason() -> None:
    world = World()
    await world.put("a", gpu=1)
    query = ClientQuery(where=parse_conditions("gpu>=2"))
    choice = await world.table.choose("p", query, world.clients)
    assert choice.left_out["c" + "a" * 16] == "gpu>=2: it is 1"
    assert "does not have" in choice.left_out["c" + "b" * 16]


async def test_what_cannot_be_read_is_left_out_and_another_project_is_another() -> None:
    world = World()
    await world.streams.append(subjects.attributes_record("p", "c" + "a" * 16), b"no json")
    await world.put("b", site="eu")
    assert await world.chosen("site") == "b"
    assert await world.table.everyone("q") == {}


async def test_no_condition_asks_nobody() -> None:
    world = World()
    world.server.away = True
    assert await world.chosen("", "site-a") == "a"


def test_how_long_records_are_kept_is_a_setting() -> None:
    kept = RecordsRetention.model_validate({"age": "P7D", "bytes": 2**30, "batches_per_kind": 5})
    stream = kept.stream()
    assert (stream.age_max, stream.bytes_max, stream.per_subject_max) == (timedelta(7), 2**30, 5)
    assert stream.subjects == RECORDS.subjects
    assert RecordsRetention().stream() == RECORDS
