"""Every setting of a session does what its description says, seen at the servers."""

import asyncio
from datetime import datetime

from fedbus_auditor.api import Access, Api
from fedbus_auditor.export import bundle
from fedbus_auditor.signatures import check
from fedbus_core.audit.replay import Verdict, replay
from fedbus_core.audit.verify import verify
from fedbus_local.stack import LocalStack

from tests.e2e.stores import store_of
from tests.stacks import Bytes, Federation, Json, eventually, federation
from tests.trainers import LARGE, TINY


async def members(fed: Federation, session: str) -> list[set[str]]:
    """Give the names of those counted in each round."""
    clients = (await fed.ask("GET", "/v1/clients", params={"limit": 200}))["items"]
    names = {one["client"]: one["name"] for one in clients}
    return [{names[client] for client in one["clients"]} for one in await fed.rounds(session)]


async def test_asks_only_the_clients_that_are_named(stack: LocalStack) -> None:
    async with federation(stack, clients=4) as fed:
        wanted = fed.names[1:3]
        session = await fed.start(TINY, rounds=2, minimum=2, clients={"ids": wanted})
        await fed.ended(session)
        assert await members(fed, session) == [set(wanted)] * 2
        assert (await fed.show(session))["settings"]["clients"]["ids"] == wanted


async def test_waits_for_clients_that_meet_its_conditions(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        where = [{"key": "gpu", "op": "gte", "value": 1}]
        session = await fed.start(TINY, rounds=1, minimum=1, clients={"where": where})
        view = await fed.show(session)
        assert (view["phase"], view.get("round")) == ("waiting", None)
        await fed.order(session, "stop")


async def test_starts_from_the_newest_model_and_names_those_it_makes(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        first = await fed.ended(await fed.start(TINY, rounds=1))
        body = {"minimum": 2, "rounds": 1, "model_prefix": "digits-", "helper": "numpy"}
        started = await fed.ask("POST", "/v1/sessions", json=body)
        assert started["initial_model"] == first
        session = started["session"]

        async def ended() -> bool:
            return bool((await fed.show(session))["phase"] == "completed")

        await eventually(ended, "the second session ends")
        named = await fed.ask("GET", "/v1/models", params={"session": session})
        assert [one["name"] for one in named["items"]] == ["digits-1"]


async def test_lists_its_runs_and_takes_another_timeout(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        session = await fed.start(TINY, rounds=2)
        first = await fed.ended(session)
        await fed.order(session, "extend", rounds=1, round_timeout_s=33)
        story = fed.stories[session]
        await story.until(lambda: story.end and len(story.all("session.completed.v1")) == 2, "end")
        runs = (await fed.ask("GET", f"/v1/sessions/{session}/runs"))["items"]
        assert [(one["run"], one["rounds"], one["round_timeout_s"]) for one in runs] == [
            (2, 1, 33),
            (1, 2, 120),
        ]
        assert [one["outcome"] for one in runs] == ["completed", "completed"]
        assert (runs[1]["model"], runs[0]["model"]) == (first, (await fed.show(session))["model"])
        opened = (await fed.rounds(session))[-1]
        assert seconds(opened) == 33.0
        listed = await fed.ask("GET", "/v1/runs/count", params={"session": session})
        assert listed["count"] == 2


def seconds(view: Json) -> float:
    """Give how long a round had."""
    opened, deadline = (datetime.fromisoformat(view[name]) for name in ("opened", "deadline"))
    return round((deadline - opened).total_seconds(), 0)


async def test_deletes_updates_after_each_round_when_asked(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        kept = await fed.start(LARGE, rounds=1)
        await fed.ended(kept)
        session = await fed.start(LARGE, rounds=2, keep_updates=False, seed=11)
        await fed.ended(session)
        await eventually(lambda: nothing_stored(fed, session, 2), "the updates are gone")
        async with store_of(stack) as store:
            left = await store.list(f"{fed.project}/updates/")
            assert len(left) == 2, "those of the other session"
        assert all(one["pruned"] for one in await fed.rounds(session))
        assert not (await fed.rounds(kept))[0]["pruned"]
        await fed.assert_sound(kept)
        notes, verdicts = await asyncio.to_thread(judged, stack, fed.project, session)
        assert "updates_pruned" in notes
        assert verdicts == [Verdict.IMPOSSIBLE] * 2


async def test_archiving_deletes_what_is_left_and_ends_it_for_good(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        session = await fed.start(LARGE, rounds=1)
        await fed.ended(session)
        view = await fed.order(session, "archive")
        assert view["archived"]
        await eventually(lambda: nothing_stored(fed, session, 1), "the updates are gone")
        async with store_of(stack) as store:
            assert not await store.list(f"{fed.project}/updates/")
            assert await store.list(f"{fed.project}/models/")
        refused = await fed.http.post(f"/v1/sessions/{session}/extend", json={"rounds": 1})
        assert (refused.status_code, refused.json()["code"]) == (409, "session_ended")
        notes, _ = await asyncio.to_thread(judged, stack, fed.project, session)
        assert {"updates_pruned", "blob_pruned"} <= notes


async def nothing_stored(fed: Federation, session: str, rounds: int) -> bool:
    """Look into the stream; messages go after their blobs."""
    base = f"/v1/sessions/{session}/audit"
    for number in range(1, rounds + 1):
        if (await fed.http.get(f"{base}/updates/{number}/1")).text:
            return False
    return True


def judged(stack: LocalStack, project: str, session: str) -> tuple[set[str], list[Verdict]]:
    """Verify and replay; a pruned session verifies, and what cannot be replayed is told."""
    access = Access(stack.api_url, stack.layout.keys / "api.token")
    with Api(access, project, session) as source:
        reader = Bytes(b"".join(bundle(source, project, session)))
    report = verify(reader, stack.trust, check)
    assert report.ok, report.findings
    again = replay(reader, batch_size=2, order_seed=5)
    assert all("pruned" in one.detail for one in again.rounds)
    return {one.code.value for one in report.findings}, [one.verdict for one in again.rounds]


async def test_refuses_server_functions_clearly(stack: LocalStack) -> None:
    async with federation(stack, clients=1) as fed:
        for body, code in (("aggregate", "invalid"), ("client_selection", "not_supported")):
            source = (
                f"class {'X' if code == 'invalid' else 'ServerFunctions'}:\n def {body}(self): ..."
            )
            answer = await fed.http.post("/v1/sessions", json={"server_functions": source})
            assert (answer.status_code, answer.json()["code"]) == (422, code)
