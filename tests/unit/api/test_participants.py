"""Clients, combiners, refusals, status."""

from datetime import timedelta

from fedbus_schemas import subjects
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord

A, B = ("c" + one * 16 for one in "ab")
DEVICES = ["U" + one * 55 for one in "AB"]


def join(world, client, device, name) -> None:
    record = ClientRecord(
        device=device, client=client, name=name, key="k" * 43, since=world.clock.now()
    )
    world.put(subjects.client_record("default", device), record.to_bytes())


async def test_lists_clients_with_presence(world) -> None:
    join(world, A, DEVICES[0], "north")
    join(world, B, DEVICES[1], "south")
    now = world.clock.now()
    presence = world.servers.connections().presence
    await presence.seen("default", [B], now - timedelta(minutes=5))
    await presence.seen("default", [A], now)
    async with world.client() as client:
        listed = (await client.get("/v1/clients")).json()["items"]
        assert [(one["name"], one["online"]) for one in listed] == [
            ("south", False),
            ("north", True),
        ]
        assert listed[0]["last_seen"] is not None
        one = (await client.get(f"/v1/clients/{A}")).json()
        assert (one["device"], one["online"]) == (DEVICES[0], True)
        world.redis.away = True
        one = (await client.get(f"/v1/clients/{A}")).json()
        assert one["online"] is None


async def test_lists_combiners_by_their_last_round(world, file) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        await client.post("/v1/sessions", json={"model": model, "session": "s-1", "rounds": 3})
        world.complete("s-1", [A], workers=("combiner-1", "combiner-2"))
        world.complete("s-1", [A], workers=("combiner-1",))
        listed = (await client.get("/v1/combiners")).json()["items"]
        assert [(one["name"], one["round"]) for one in listed] == [
            ("combiner-1", 2),
            ("combiner-2", 1),
        ]


async def test_lists_refusals_the_last_first(world) -> None:
    join(world, A, DEVICES[0], "north")
    for number in range(1200):
        refusal = Refusal(code=RefusalCode.ROUND_CLOSED, detail=str(number))
        subject = subjects.refusal_note("default", DEVICES[0], "submit.round_closed")
        world.put(subject, refusal.to_bytes())
    async with world.client() as client:
        listed = (await client.get("/v1/refusals?limit=500")).json()["items"]
        assert [int(one["detail"]) for one in listed] == list(range(1199, 699, -1))
        assert (listed[0]["client"], listed[0]["verb"]) == (A, "submit")
        assert listed[0]["meaning"].startswith("The round")


async def test_shows_the_project_at_a_glance(world, file) -> None:
    join(world, A, DEVICES[0], "north")
    await world.servers.connections().presence.seen("default", [A], world.clock.now())
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        await client.post("/v1/sessions", json={"model": model, "session": "s-1"})
        view = (await client.get("/v1/status")).json()
        assert view["sessions"] == {"running": 1}
        assert (view["clients"], view["clients_online"], view["models_uploaded"]) == (1, 1, 1)
        assert view["servers"] == {"bus": "ok", "records": "ok", "store": "ok"}
