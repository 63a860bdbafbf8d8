"""What clients logged, as the api lists it."""

from datetime import timedelta

import pytest
from fedbus_api import records as read_side
from fedbus_schemas import subjects
from fedbus_schemas.records import (
    Attribute,
    AttributesRecord,
    Backlog,
    ClientAttributes,
    EventRecord,
    Level,
    Mark,
    MetricsRecord,
    ResultRecord,
    StoredRecords,
    TelemetryRecord,
)

from tests.unit.api.test_participants import DEVICES, A, B, join

MARKS = (Mark(stream="a" * 16, batch=1),)
MODEL = "0" * 64


def log(world, client, *records) -> None:
    for kind in dict.fromkeys(one.kind for one in records):
        some = tuple(one for one in records if one.kind == kind)
        content = StoredRecords(marks=MARKS, records=some)
        world.put(subjects.logged("default", client, kind), content.to_bytes())


def metric(world, number, session="s-1", **values) -> MetricsRecord:
    return MetricsRecord(
        number=number,
        time=world.clock.now() - timedelta(hours=1),
        session=session,
        round=1,
        model=MODEL,
        metrics=values,
        step=number,
    )


async def items(world, path, **query):
    async with world.client() as client:
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]


async def test_lists_metrics_one_number_an_item(world) -> None:
    log(world, A, metric(world, 1, loss=0.5, accuracy=0.8), metric(world, 2, loss=0.4))
    log(world, B, metric(world, 1, session="s-2", loss=0.9))
    found = await items(world, "/v1/metrics")
    assert [(one["client"], one["key"], one["value"]) for one in found] == [
        (B, "loss", 0.9),
        (A, "loss", 0.4),
        (A, "accuracy", 0.8),
        (A, "loss", 0.5),
    ]
    assert found[-1]["session"] == "s-1"
    assert (found[-1]["step"], found[-1]["round"], found[-1]["model"]) == (1, 1, MODEL)
    assert found[-1]["logged"] < found[-1]["stored"]
    assert len(await items(world, "/v1/metrics", session="s-1", key="loss")) == 2
    best = await items(world, "/v1/metrics", key="loss", sort="value", limit=1)
    assert best[0]["value"] == 0.4
    assert len(await items(world, "/v1/metrics", value__lt=0.6, client=A)) == 2
    async with world.client() as client:
        assert (await client.get("/v1/metrics/count")).json() == {"count": 4}
        page = (await client.get("/v1/metrics", params={"limit": 3})).json()
        rest = await client.get("/v1/metrics", params={"limit": 3, "cursor": page["next"]})
        assert [one["value"] for one in rest.json()["items"]] == [0.5]


async def test_lists_attributes_now_and_as_they_changed(world) -> None:
    join(world, A, DEVICES[0], "north")
    join(world, B, DEVICES[1], "south")
    now = world.clock.now()
    log(world, A, AttributesRecord(number=1, time=now, attributes={"site": "us", "gpu": 1}))
    log(world, A, AttributesRecord(number=2, time=now, attributes={"site": "eu", "gpu": None}))
    attributes = {
        "site": Attribute(value="eu", time=now, stream="a" * 16, number=2),
        "gpu": Attribute(time=now, stream="a" * 16, number=2),
    }
    content = ClientAttributes(client=A, attributes=attributes)
    world.put(subjects.attributes_record("default", A), content.to_bytes())
    [one] = await items(world, "/v1/attributes")
    assert (one["client"], one["name"], one["key"], one["value"]) == (A, "north", "site", "eu")
    assert len(await items(world, "/v1/attributes", key="site", value="eu")) == 1
    changes = await items(world, "/v1/attributes/history", client=A)
    assert [(one["key"], one.get("value")) for one in changes] == [
        ("gpu", None),
        ("site", "eu"),
        ("gpu", 1),
        ("site", "us"),
    ]
    async with world.client() as client:
        found = (await client.get("/v1/selection", params={"where": "site=eu"})).json()
        assert found["chosen"] == [A]
        assert found["left_out"] == {B: "site=eu: the client does not have this attribute"}
        named = (await client.get("/v1/selection", params={"id": ["south", A]})).json()
        assert named["chosen"] == [A, B]
        wrong = await client.get("/v1/selection", params={"where": "site="})
        assert wrong.status_code == 422
        assert "query.where: 'site=': write a value" in wrong.json()["detail"]


async def test_lists_telemetry_results_and_events(world) -> None:
    now = world.clock.now()
    log(
        world,
        A,
        TelemetryRecord(number=1, time=now, key="battery", payload={"volts": 3.7}),
        ResultRecord(number=2, time=now, key="image-1", payload=[1, None], session="s-1"),
        EventRecord(number=3, time=now, level=Level.ERROR, text="on fire"),
    )
    [telemetry] = await items(world, "/v1/telemetry", key="battery")
    assert telemetry["payload"] == {"volts": 3.7}
    [result] = await items(world, "/v1/inference-results", session="s-1")
    assert result["payload"] == [1, None]
    [event] = await items(world, "/v1/status-events", level="error")
    assert event["text"] == "on fire"
    assert await items(world, "/v1/status-events", level="info") == []


async def test_shows_the_backlog_a_client_told_last(world) -> None:
    for total in (5, 3):
        content = Backlog(total=total, bytes=100, dropped=1, oldest_age_s=60.5)
        world.put(subjects.backlog("default", A), content.to_bytes())
    [one] = await items(world, "/v1/backlogs", total__gt=0)
    assert (one["client"], one["total"], one["dropped"], one["link"]) == (A, 3, 1, "healthy")
    assert one["reported"]


async def test_what_cannot_be_read_is_left_out(world) -> None:
    world.put(subjects.logged("default", A, "metrics"), b"no json")
    world.put(subjects.backlog("default", A), b"no json")
    log(world, A, metric(world, 1, loss=0.5))
    assert len(await items(world, "/v1/metrics")) == 1
    assert await items(world, "/v1/backlogs") == []


async def test_only_so_many_bytes_are_looked_at(world, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_side, "BYTES_MAX", 10_000)
    small = world.another()
    for number in range(1, 101):
        log(world, A, metric(world, number, loss=number))
    rows = await small.records.metrics.rows("default")
    assert 10 < len(rows) < 60
    assert [one.step for one in rows] == list(range(101 - len(rows), 101))
