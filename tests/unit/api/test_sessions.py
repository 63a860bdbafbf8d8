"""Sessions over REST: starting, orders, views, and what they survive."""

import asyncio
import hashlib
from datetime import timedelta

import pytest
from fedbus_schemas.sessions import StopSession
from fedbus_schemas.views import RoundAttempts, SessionView, TimelineView

A, B, C = ("c" + one * 16 for one in "abc")
START = "/v1/sessions"


async def started(client, file, **settings):
    """Upload a model and start session `s-1` from it."""
    model = (await client.post("/v1/models", content=file)).json()["digest"]
    body = {"model": model, "session": "s-1", "rounds": 2, "minimum": 1, "target": 2, **settings}
    answer = await client.post(START, json=body)
    assert answer.status_code == 201, answer.text
    return SessionView.model_validate_json(answer.content), body


async def test_starts_a_session_and_shows_it(world, file) -> None:
    async with world.client() as client:
        view, body = await started(client, file, name="digits", train={"lr": 0.5})
        assert (view.phase, view.rounds_total, view.name) == ("running", 2, "digits")
        assert view.round is not None
        assert (view.round.number, view.round.invited, view.round.target) == (1, 6, 2)
        assert view.model == view.initial_model == hashlib.sha256(file).hexdigest()
        again = await client.post(START, json=body)
        assert again.status_code == 200
        assert again.headers["location"] == "/v1/sessions/s-1?project=default"
        other = await client.post(START, json=body | {"rounds": 3})
        assert (other.status_code, other.json()["code"]) == (409, "already_exists")
        listed = (await client.get(START)).json()
        assert [one["session"] for one in listed["items"]] == ["s-1"]
        assert (await client.get("/v1/sessions/s-1?project=other")).status_code == 404


async def test_an_idempotency_key_makes_one_session_only(world, file) -> None:
    async with world.client() as client:
        _, body = await started(client, file)
        del body["session"]
        headers = {"Idempotency-Key": "mine"}
        first = await client.post(START, json=body, headers=headers)
        second = await client.post(START, json=body, headers=headers)
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["session"] == second.json()["session"]


async def test_orders_are_answered_when_the_log_shows_them(world, file) -> None:
    async with world.client() as client:
        await started(client, file)
        for order, phase in (("pause", "paused"), ("resume", "running")):
            answer = await client.post(f"{START}/s-1/{order}")
            assert (answer.status_code, answer.json()["phase"]) == (200, phase)
        answer = await client.post(f"{START}/s-1/extend", json={"rounds": 3})
        assert answer.json()["rounds_total"] == 5
        twice = [
            await client.post(
                f"{START}/s-1/extend", json={"rounds": 1}, headers={"Idempotency-Key": "k"}
            )
            for _ in range(2)
        ]
        assert [one.json()["rounds_total"] for one in twice] == [6, 6]
        reused = await client.post(
            f"{START}/s-1/extend", json={"rounds": 9}, headers={"Idempotency-Key": "k"}
        )
        assert (reused.status_code, reused.json()["code"]) == (409, "already_exists")
        world.redis.flush()  # then the log knows it
        key = {"Idempotency-Key": "k"}
        thrice = await client.post(f"{START}/s-1/extend", json={"rounds": 1}, headers=key)
        assert (thrice.status_code, thrice.json()["rounds_total"]) == (200, 6)
        refused = await client.post(f"{START}/s-1/resume")
        assert (refused.status_code, refused.json()["code"]) == (409, "not_possible_now")
        stopped = await client.post(f"{START}/s-1/stop", json={"reason": "enough"})
        assert (stopped.json()["phase"], stopped.json()["reason"]) == ("stopped", "enough")
        late = await client.post(f"{START}/s-1/pause")
        assert (late.status_code, late.json()["code"]) == (409, "session_ended")
        unknown = await client.post(f"{START}/s-none/stop")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "session_unknown")


async def test_says_so_when_no_controller_decides(new_world, file) -> None:
    world = new_world(decides=False)
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        answer = await client.post(START, json={"model": model, "session": "s-1"})
        assert (answer.status_code, answer.json()["code"]) == (503, "retry_later")
        assert answer.headers["retry-after"] == "1"
        assert [one.subject for one in world.kept("INBOX")] == ["fl.default.in.s-1.command"]


async def test_a_decision_on_another_instance_wakes_the_answer(new_world, file) -> None:
    world = new_world(decides=False)
    world.settings = world.settings.model_copy(update={"decision_wait": timedelta(seconds=30)})
    async with world.client(world.another()) as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        body = {"model": model, "session": "s-1"}
        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(client.post(START, json=body))
            while not world.kept("INBOX"):
                await asyncio.sleep(0)
            world.decide_all()
        assert asked.result().status_code == 201


async def test_the_live_count_comes_from_redis(world, file) -> None:
    """Fails if the api stops asking Redis for what is stored in the open round."""
    async with world.client() as client:
        await started(client, file)
        await world.submit("s-1", A)
        await world.count("s-1", {B: 2, C: 3})  # Redis alone says three
        view = (await client.get(f"{START}/s-1")).json()
        assert view["round"]["stored"] == 3


async def test_documents_lie_in_redis_after_a_read(world, file, monkeypatch) -> None:
    """Fails if the api stops keeping its documents in Redis, or stops reading them there."""
    async with world.client() as client:
        await started(client, file)
        world.complete("s-1", [A, B])
        await client.get(f"{START}/s-1")
        kinds = {(kind, name) for _, kind, name in world.redis.content.documents}
        assert {("session", "s-1"), ("round", "s-1.1"), ("round", "s-1.2")} <= kinds
        asked = []
        monkeypatch.setattr(world.api.ports.streams, "read", lambda *_, **__: asked.append(1))
        document = await world.api.reader.session("default", "s-1")
        assert len(await world.api.reader.rounds(document, [2, 1])) == 2
        assert not asked  # only the head: nothing had to be made up for


async def snapshot(client):
    """Read everything that is made from documents."""
    paths = ("", "/rounds", "/rounds/1", "/rounds/2", "/rounds/1/timeline")
    answers = [await client.get(f"{START}/s-1{path}") for path in paths]
    answers += [await client.get(path) for path in (START, "/v1/models", "/v1/combiners")]
    assert {one.status_code for one in answers} == {200}
    return [one.json() for one in answers]


@pytest.mark.parametrize(
    "fault", ["flushed", "stale", "away", "foreign", "a round lost", "garbage"]
)
async def test_views_survive_redis(world, file, fault) -> None:
    async with world.client() as client:
        await started(client, file)
        await world.submit("s-1", A)
        await client.get(f"{START}/s-1")
        stale = world.redis.snapshot()
        world.complete("s-1", [A, B])
        await world.submit("s-1", B, number=2)
        before = await snapshot(client)
        documents = world.redis.content.documents
        match fault:
            case "flushed":
                world.redis.flush()
            case "stale":
                world.redis.restore(stale)
            case "away":
                world.redis.away = True
            case "foreign":
                place = ("default", "session", "s-1")
                number, data = documents[place]
                head = b'"head":"'
                at = data.index(head) + len(head)
                documents[place] = (number, data[:at] + b"0" * 64 + data[at + 64 :])
            case "a round lost":
                del documents["default", "round", "s-1.1"]
            case "garbage":
                for place in documents:
                    documents[place] = (0, b"{}")
        assert await snapshot(client) == before
        async with world.client(world.another()) as second:
            assert await snapshot(second) == before


async def test_shows_rounds_with_metrics_refusals_and_who_is_missing(world, file) -> None:
    async with world.client() as client:
        await started(client, file)
        refused = ({"client": C, "code": "not_finite", "detail": "w"},)
        model = world.complete("s-1", [A, B], refused=refused, metrics={"loss": 0.5})
        world.validate("s-1", A, 1, model, accuracy=0.5, weight=1)
        world.validate("s-1", B, 1, model, accuracy=0.75, weight=3)
        world.validate("s-1", C, 1, "0" * 64, accuracy=0.0, weight=9)  # of another model
        answer = await client.get(f"{START}/s-1/rounds/1")
        shown = RoundAttempts.model_validate_json(answer.content).attempts[0]
        assert (shown.outcome, shown.counted, shown.missing, shown.weight) == (
            "completed",
            2,
            3,
            20,
        )
        assert [(one.client, one.code) for one in shown.refused] == [(C, "not_finite")]
        assert "NaN" in shown.refused[0].meaning
        assert shown.metrics == {"loss": 0.5}
        assert (shown.validation.reports, shown.validation.weight) == (2, 4)
        assert shown.validation.metrics == {"accuracy": 0.6875}
        listed = (await client.get(f"{START}/s-1/rounds?limit=1")).json()
        assert [one["number"] for one in listed["items"]] == [2]
        rest = (await client.get(f"{START}/s-1/rounds?cursor={listed['next']}")).json()
        assert [one["number"] for one in rest["items"]] == [1]
        assert rest["next"] is None
        session = (await client.get(f"{START}/s-1")).json()
        assert session["validation"]["metrics"] == {"accuracy": 0.6875}
        missing = await client.get(f"{START}/s-1/rounds/9")
        assert (missing.status_code, missing.json()["code"]) == (404, "round_unknown")


async def test_lays_out_where_the_time_went(world, file) -> None:
    async with world.client() as client:
        await started(client, file)
        world.clock.advance(10)
        await world.submit("s-1", A, download_s=1, train_s=5, upload_s=2)
        await world.submit("s-1", B, download_s=0, train_s=90, upload_s=1)
        world.complete("s-1", [A, B], timings={"read_s": 0.1, "fold_s": 0.2, "store_s": 0.3})
        answer = await client.get(f"{START}/s-1/rounds/1/timeline")
        view = TimelineView.model_validate_json(answer.content)
        spans = {(one.name, one.who): (one.start_s, one.end_s) for one in view.spans}
        stored = spans["stored", A][0]
        assert spans["upload", A] == (pytest.approx(stored - 2), stored)
        assert spans["train", A] == (pytest.approx(stored - 7), pytest.approx(stored - 2))
        assert spans["download", A] == (pytest.approx(stored - 8), pytest.approx(stored - 7))
        assert spans["train", B][0] == 0.0  # what a client claims is cut at the opening
        fold = spans["fold", "combiner-1"]
        assert fold[1] - fold[0] == pytest.approx(0.2)
        assert spans["completed", "controller"][1] == view.duration_s
        assert view.left_out == 0


async def test_an_order_that_the_controllers_refuse_gets_their_reason(world, file) -> None:
    async with world.client() as client:
        await started(client, file)
        world.bus.watchers.clear()
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(client.post(f"{START}/s-1/pause"))
            while len(world.kept("INBOX")) < 2:
                await asyncio.sleep(0)
            world.feed("s-1", StopSession())  # somebody else was first
            world.decide_all()
        answer = asked.result()
        assert (answer.status_code, answer.json()["code"]) == (409, "session_ended")
