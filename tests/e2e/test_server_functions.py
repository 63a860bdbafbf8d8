"""An operator's own code makes the models: by REST, over a killed combiner, replayed, failing, refused."""

import asyncio

import httpx
from fedbus_local.stack import LocalStack

from tests.stacks import federation
from tests.trainers import TINY

MEAN = """
class ServerFunctions(ServerFunctionsBase):
    def __init__(self):
        self.rounds = 0

    def aggregate(self, previous_global, client_updates):
        self.rounds += 1
        examples = sum(metadata["num_examples"] for _, metadata in client_updates.values())
        print("round", self.rounds, random.random())
        return {
            name: sum(one[name] * told["num_examples"] for one, told in client_updates.values()) / examples
            for name in previous_global
        }
"""
FAILING = MEAN.replace(
    "self.rounds += 1", "self.rounds += 1\n        if self.rounds == 2: raise ValueError('mine')"
)


async def test_the_code_survives_its_combiner_and_is_run_again(stack: LocalStack) -> None:
    async with federation(stack, clients=3) as fed:
        session = await fed.start(TINY, rounds=3, server_functions=MEAN)
        story = fed.stories[session]
        await story.until(lambda: story.of_round("round.closing.v1", 2), "round 2 closes")
        await asyncio.to_thread(stack.kill, "combiner-1", restart=True)
        await fed.ended(session)
        completed = story.all("round.completed.v1")
        assert {one.data["rule"] for one in completed} == {"server_functions/1"}
        assert len({one.data["state"]["digest"] for one in completed}) == 3
        await fed.assert_sound(session)  # replay runs the code again
        functions = (await fed.show(session))["settings"]["functions"]
        code = functions["code"]["digest"]
        shown = await fed.http.get(f"/v1/server-functions/{code}", params={"project": fed.project})
        assert shown.text == MEAN
        same = await fed.start(TINY, rounds=1, functions=functions, aggregator="server_functions")
        await fed.ended(same)


async def test_a_failing_function_fails_the_session_with_the_users_line(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        session = await fed.start(TINY, rounds=3, server_functions=FAILING)
        await fed.ended(session, "failed")
        await fed.assert_sound(session)
        [failed] = fed.stories[session].all("round.failed.v1")
        assert (failed.data["round"], failed.data["reason"]) == (2, "server_functions")
        assert "raise ValueError('mine'): ValueError: mine" in failed.data["detail"]


async def test_what_is_no_code_of_that_kind_is_refused(stack: LocalStack) -> None:
    async with federation(stack, clients=0) as fed:
        for code, told in (
            ("x = (", "no Python"),
            ("class Other: pass", "no class ServerFunctions"),
        ):
            answer = await fed.http.post(
                "/v1/server-functions", content=code, params={"project": fed.project}
            )
            assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
            assert told in answer.json()["detail"]
