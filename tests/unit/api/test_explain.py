"""`/explain`: each client's part in a round, over the api's own sources."""

from fedbus_schemas import subjects
from fedbus_schemas.records import AttributesRecord
from fedbus_schemas.refusals import RefusalCode, RefusalNote

from tests.unit.api.conftest import CLIENTS
from tests.unit.api.test_participants import DEVICES, A, B, join
from tests.unit.api.test_records import log

C = "c" + "c" * 16
PATH = "/v1/sessions/s-1/rounds/1/explain"


async def begin(world, client, file, **more) -> None:
    for name, device in zip((A, B), DEVICES, strict=False):
        join(world, name, device, f"site-{name[1]}")
    digest = (await client.post("/v1/models", content=file)).json()["digest"]
    answer = await client.post(
        "/v1/sessions", json={"model": digest, "session": "s-1", "rounds": 1, **more}
    )
    assert answer.status_code < 300, answer.text


async def test_explains_an_open_and_a_completed_round(world, file) -> None:
    world.online = CLIENTS[:2]
    async with world.client() as client:
        await begin(world, client, file)
        await world.submit("s-1", A, train_s=2.0)
        now = (await client.get(PATH)).json()
        assert now["counts"] == {"stored": 1, "asked": 1}
        assert [one["name"] for one in now["clients"]] == ["site-a", "site-b"]
        world.complete("s-1", [A])
        note = RefusalNote(code=RefusalCode.ROUND_CLOSED, detail="too late", session="s-1", round=1)
        world.put(subjects.refusal_note("default", DEVICES[1], "submit"), note.to_bytes())
        then = (await client.get(PATH)).json()
        assert (then["outcome"], then["counts"]) == ("completed", {"counted": 1, "late": 1})
        assert then["clients"][0]["stored_s"] > 0
        assert then["clients"][1]["code"] == "round_closed"
        assert then["longest"] in {one["name"] for one in then["phases"]}
        assert "1 counted" in then["summary"]
        one = (await client.get(PATH, params={"client": "site-b"})).json()
        assert [each["client"] for each in one["clients"]] == [B]
        late = (await client.get(PATH, params={"standing": "late"})).json()
        assert [each["client"] for each in late["clients"]] == [B]
        unknown = await client.get("/v1/sessions/s-1/rounds/9/explain")
        assert unknown.json()["code"] == "round_unknown"


async def test_takes_attributes_as_they_stood_when_the_round_opened(world, file) -> None:
    """A client that moved to the right site after the opening was not meant then."""
    world.online = CLIENTS[:1]
    async with world.client() as client:
        for name, site in ((A, "eu"), (B, "us")):
            log(world, name, attributes(world, 1, site))
        where = [{"key": "site", "op": "eq", "value": "eu"}]
        await begin(world, client, file, clients={"where": where})
        log(world, B, attributes(world, 2, "eu"))
        found = {one["client"]: one for one in (await client.get(PATH)).json()["clients"]}
        assert found[A]["standing"] == "asked"
        assert found[B]["standing"] == "not_meant"
        assert "site=eu" in found[B]["why"]


def attributes(world, number, site) -> AttributesRecord:
    return AttributesRecord(number=number, time=world.clock.now(), attributes={"site": site})
