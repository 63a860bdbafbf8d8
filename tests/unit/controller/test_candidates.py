"""Who can be asked: those heard of lately, and right after Redis forgot, those that were asked last too."""

from datetime import UTC, datetime, timedelta

from fedbus_controller.candidates import LEASE, YOUNG, Candidates
from fedbus_runtime.attributes import AttributeTable
from fedbus_runtime.memory import MemoryWorld
from fedbus_runtime.memory_clock import ManualClock
from fedbus_runtime.registry import ClientRegistry
from fedbus_schemas.events import Participant
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import CONSUMERS, STREAMS

NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C = (Participant(client="c" + letter * 16, key=letter * 43) for letter in "abc")


class Site:
    """A project that three clients joined."""

    def __init__(self) -> None:
        self.world = MemoryWorld(ManualClock(NOW))
        self.ports = self.world.connections()
        self.registry = ClientRegistry(self.ports.streams)
        self.candidates = Candidates(
            self.ports.presence, self.registry, AttributeTable(self.ports.streams)
        )

    async def open(self) -> None:
        await self.ports.deliveries.prepare(STREAMS, CONSUMERS)
        for one in (A, B, C):
            device = "U" + one.client[1].upper() * 55
            record = ClientRecord(
                device=device, client=one.client, name=one.client, key=one.key, since=NOW
            )
            await self.registry.enter("p", record)

    async def hear(self, *clients: Participant, at: datetime = NOW) -> None:
        await self.ports.presence.seen("p", [one.client for one in clients], at)


async def test_those_heard_of_within_the_lease_are_online() -> None:
    site = Site()
    await site.open()
    await site.hear(A, B)
    assert await site.candidates.online("p", NOW + LEASE, (C,)) == (A, B)
    await site.hear(A, at=NOW + LEASE)
    assert await site.candidates.online("p", NOW + LEASE + timedelta(seconds=1), (C,)) == (A,)


async def test_right_after_redis_forgot_those_asked_last_are_online_too() -> None:
    site = Site()
    await site.open()
    await site.hear(A, B, C)
    later = NOW + timedelta(minutes=1)
    site.world.redis.flush()
    assert await site.candidates.online("p", later, (A, B)) == (A, B, C)  # everybody known
    await site.hear(A, at=later)
    assert await site.candidates.online("p", later) == (A,)
    assert await site.candidates.online("p", later, (A, B)) == (A, B)
    assert await site.candidates.online("p", later + YOUNG, (A, B)) == (A,)


async def test_who_said_goodbye_right_after_redis_forgot_is_not_online() -> None:
    site = Site()
    await site.open()
    await site.hear(A)
    await site.ports.presence.gone("p", [B.client], NOW - timedelta(minutes=1))
    assert await site.candidates.online("p", NOW, (A, B, C)) == (A, C)


async def test_while_redis_is_away_everybody_known_is_online() -> None:
    site = Site()
    await site.open()
    await site.hear(A)
    site.world.redis.away = True
    assert await site.candidates.online("p", NOW, (B,)) == (A, B, C)
