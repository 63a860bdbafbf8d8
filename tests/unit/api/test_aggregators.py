"""Aggregation rules over REST: what there is, and what is refused at a session's start."""

import pytest


async def test_the_rules_are_listed_with_their_parameters(world) -> None:
    async with world.client() as client:
        page = (await client.get("/v1/aggregators")).json()
        rules = {one["name"]: one for one in page["items"]}
        assert rules["fedavg"]["rule"] == "fedavg/1"
        assert rules["fedadam"]["parameters"]["properties"]["beta2"]["default"] == 0.99


async def test_all_parameters_are_kept(world, file) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        body = {"model": model, "session": "s-1", "aggregator": "fedavgm"}
        given = {"aggregator_parameters": {"momentum": 0.5}}
        answer = await client.post("/v1/sessions", json={**body, **given})
        assert answer.status_code == 201, answer.text
        state = world.state("s-1")
        assert state.settings.aggregator_parameters == {
            "weighting": "examples",
            "learning_rate": 1.0,
            "momentum": 0.5,
        }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"aggregator": "fedavgx"}, "there are"),
        ({"aggregator": "fedadam", "aggregator_parameters": {"beta3": 1}}, "it has weighting"),
        ({"aggregator": "fedadam", "aggregator_parameters": {"beta1": 2}}, "less than 1"),
    ],
)
async def test_what_a_rule_cannot_do_is_refused_at_the_start(world, file, given, says) -> None:
    async with world.client() as client:
        model = (await client.post("/v1/models", content=file)).json()["digest"]
        answer = await client.post("/v1/sessions", json={"model": model, **given})
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid"
        assert says in answer.json()["detail"]
