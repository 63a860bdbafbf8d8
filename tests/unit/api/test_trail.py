"""The trail of models, what is in them, their stages, and sessions beside each other."""

import numpy as np
import pytest
from fedbus_core.aggregation.tensorfile import write

A, B = ("c" + one * 16 for one in "ab")


async def upload(client, content) -> str:
    return str((await client.post("/v1/models", content=content)).json()["digest"])


async def two_branches(world, client, file) -> dict[str, str]:
    """One session of two rounds from the seed, one of a round from its first model."""
    seed = await upload(client, file)
    await client.post("/v1/sessions", json={"model": seed, "session": "s-1", "rounds": 2})
    one, two = world.complete("s-1", [A]), world.complete("s-1", [A, B])
    await client.post("/v1/sessions", json={"model": one, "session": "s-2", "rounds": 1})
    return {"seed": seed, "one": one, "two": two, "branch": world.complete("s-2", [B])}


async def test_follows_a_model_to_all_that_was_made_from_it(world, file) -> None:
    async with world.client() as client:
        made = await two_branches(world, client, file)
        path = f"/v1/models/{made['seed']}/descendants"
        found = (await client.get(path, params={"sort": "created"})).json()
        assert [one["digest"] for one in found["items"]] == [
            made[n] for n in ("one", "two", "branch")
        ]
        of_session = (await client.get(path, params={"session": "s-2"})).json()
        assert [one["digest"] for one in of_session["items"]] == [made["branch"]]
        ends = (await client.get("/v1/models/leaves")).json()
        assert {one["digest"] for one in ends["items"]} == {made["two"], made["branch"]}
        parent = (await client.get(f"/v1/models/{made['branch']}/parent")).json()
        assert parent["digest"] == made["one"]
        none = await client.get(f"/v1/models/{made['seed']}/parent")
        assert (none.status_code, none.json()["code"]) == (404, "not_found")


async def test_describes_tensors_and_tells_the_values_of_small_models(world) -> None:
    half = np.array([[1.5, -2.0], [0.0, 0.5]], np.float16)
    content = write({"w": half, "n": np.array([3, 4], np.int64), "e": np.zeros((0, 3), np.float32)})
    async with world.client() as client:
        digest = await upload(client, content)
        path = f"/v1/models/{digest}/parameters"
        shown = (await client.get(path)).json()
        assert (shown["parameters"], shown["size"]) == (6, len(content))
        empty, n, w = shown["tensors"]
        assert (w["name"], w["dtype"], w["shape"]) == ("w", "F16", [2, 2])
        assert (w["least"], w["most"], w["mean"], w["zeros"]) == (-2.0, 1.5, 0.0, 1)
        assert w["norm"] == pytest.approx(6.5**0.5)
        assert w["deviation"] == pytest.approx(float(half.astype(float).std()))
        assert w["values"] is None
        assert (n["mean"], empty["parameters"], empty.get("mean")) == (3.5, 0, None)
        with_values = (await client.get(path, params={"values": True})).json()
        assert with_values["tensors"][2]["values"] == [1.5, -2.0, 0.0, 0.5]


async def test_tells_no_values_of_large_models(world) -> None:
    world.settings.__dict__["model_bytes_max"] = 10**6
    async with world.client(world.another()) as client:
        digest = await upload(client, write({"w": np.zeros(10_001, np.float32)}))
        path = f"/v1/models/{digest}/parameters"
        assert (await client.get(path)).json()["tensors"][0]["zeros"] == 10_001
        refused = await client.get(path, params={"values": True})
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


async def test_promotes_and_rolls_back(world, file) -> None:
    async with world.client() as client, world.client(world.another()) as other:
        made = await two_branches(world, client, file)
        production = "/v1/stages/production"
        assert (await client.get(production)).status_code == 404
        for name in ("one", "two"):
            body = {"model": made[name], "reason": f"try {name}"}
            assert (await client.put("/v1/stages/candidate", json=body)).status_code == 200
            answer = await client.put(f"{production}", json={"from_stage": "candidate"})
            assert answer.json()["model"] == made[name]
        await client.put(production, json={"model": made["branch"]})
        again = (await client.put(production, json={"model": made["branch"]})).json()
        assert len(again["history"]) == 3
        key = {"Idempotency-Key": "k1"}
        for _ in range(2):
            back = (await client.post(f"{production}/rollback", headers=key)).json()
            assert back["model"] == made["two"]
        back = (await other.post(f"{production}/rollback", json={"reason": "worse"})).json()
        assert (back["model"], back["reason"]) == (made["one"], "worse")
        ended = await client.post(f"{production}/rollback")
        assert (ended.status_code, ended.json()["code"]) == (409, "not_possible_now")
        shown = (await other.get(production)).json()
        assert [one["model"] for one in shown["history"]] == [
            made[name] for name in ("one", "two", "branch", "two", "one")
        ]
        assert shown["history"][-1]["by"] == "anonymous"
        listed = (await client.get("/v1/stages", params={"stage": "candidate"})).json()
        assert [one["model"] for one in listed["items"]] == [made["two"]]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid"),
        ({"model": "0" * 64, "from_stage": "candidate"}, 422, "invalid"),
        ({"model": "0" * 64}, 404, "not_found"),
        ({"from_stage": "nowhere"}, 404, "not_found"),
        ({"stage": "candidate"}, 422, "invalid"),
    ],
)
async def test_promotes_nothing_unknown(world, body, status, code) -> None:
    async with world.client() as client:
        answer = await client.put("/v1/stages/production", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert not world.kept("REGISTRY")


async def test_compares_two_sessions(world, file) -> None:
    async with world.client() as client:
        model = await upload(client, file)
        for session, more in (("s-1", {"train": {"lr": 0.1}}), ("s-2", {"minimum": 2})):
            body = {"model": model, "session": session, "rounds": 2, **more}
            await client.post("/v1/sessions", json=body)
        world.complete("s-1", [A, B], metrics={"loss": 0.5})
        world.complete("s-1", [A, B], metrics={"loss": 0.25})
        world.complete("s-2", [A, B], metrics={"loss": 0.75})
        shown = (await client.get("/v1/sessions/s-1/compare/s-2")).json()
        assert (shown["same_start"], shown["same_result"]) == (True, False)
        assert shown["settings"] == [
            {"setting": "minimum", "first": 1, "second": 2},
            {"setting": "train.lr", "first": 0.1, "second": None},
        ]
        losses = [
            [one[side]["metrics"].get("loss") for side in ("first", "second")]
            for one in shown["rounds"]
        ]
        assert losses == [[0.5, 0.75], [0.25, None]]
        missing = await client.get("/v1/sessions/s-1/compare/s-9")
        assert missing.json()["code"] == "session_unknown"
