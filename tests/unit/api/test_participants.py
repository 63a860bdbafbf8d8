"""Clients, combiners, refusals, status."""

from datetime import timedelta

from fedbus_schemas import subjects
from fedbus_schemas.records import Attribute, ClientAttributes
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


async def test_lists_controllers_by_what_they_decided_last(world, file) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        await client.post("/v1/sessions", json={"model": model, "session": "s-1", "rounds": 3})
        world.decider = "controller-2"
        world.complete("s-1", [A])
        listed = (await client.get("/v1/controllers")).json()["items"]
        assert [(one["name"], one["session"], one["round"]) for one in listed] == [
            ("controller-2", "s-1", 2),
            ("controller-1", "s-1", 1),
        ]
        assert (await client.get("/v1/controllers/count")).json() == {"count": 2}


async def test_renames_a_client_in_every_instance(world) -> None:
    join(world, A, DEVICES[0], "north")
    async with world.client() as client, world.client(world.another()) as other:
        assert (await other.get(f"/v1/clients/{A}")).json()["name"] == "north"
        answer = await client.patch(f"/v1/clients/{A}", json={"name": "south"})
        assert (answer.status_code, answer.json()["name"]) == (200, "south")
        assert (await other.get(f"/v1/clients/{A}")).json()["name"] == "south"
        unknown = await client.patch(f"/v1/clients/{B}", json={"name": "south"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "client_unknown")
        assert (await client.patch(f"/v1/clients/{A}", json={"name": ""})).status_code == 422


async def test_erases_who_a_pseudonym_is(world) -> None:
    join(world, A, DEVICES[0], "north")
    join(world, B, DEVICES[1], "south")
    now = world.clock.now()
    site = Attribute(value="eu", time=now, stream="a" * 16, number=1)
    for one in (A, B):
        content = ClientAttributes(client=one, attributes={"site": site})
        world.put(subjects.attributes_record("default", one), content.to_bytes())
    presence = world.servers.connections().presence
    await presence.seen("default", [A], now)
    async with world.client() as client, world.client(world.another()) as other:
        assert len((await other.get("/v1/attributes")).json()["items"]) == 2
        assert (await client.delete(f"/v1/clients/{A}")).status_code == 204
        for each in (client, other):
            assert (await each.get(f"/v1/clients/{A}")).json()["code"] == "client_unknown"
            left = (await each.get("/v1/attributes")).json()["items"]
            assert [one["client"] for one in left] == [B]
        assert (await client.delete(f"/v1/clients/{A}")).json()["code"] == "client_unknown"
        kept = b"".join(one.data for one in world.kept("REGISTRY"))
        assert A.encode() not in kept
        assert b"north" not in kept
        join(world, "c" + "n" * 16, DEVICES[0], "north again")
        names = [one["name"] for one in (await other.get("/v1/clients")).json()["items"]]
        assert sorted(names) == ["north again", "south"]
