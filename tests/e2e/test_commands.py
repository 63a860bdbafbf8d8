"""Commands on the whole stack: run, answered, refused, stopped, skipped, timed out, beside a session."""

import asyncio
import threading
from pathlib import Path

from fedbus import Settings, Trainer
from fedbus.consent.tasklog import NAME, read_lines
from fedbus.trainer import Model
from fedbus_local.stack import LocalStack

from tests.stacks import Federation, Json, eventually, federation
from tests.trainers import TINY


def predict(model: Model | None, settings: Settings) -> object:
    settings.progress(0.5, "half way")
    total = 0.0 if model is None else float(sum(one.sum() for one in model.values()))
    return {"sum": total, "asked": settings.get("asked"), "pad": "x" * int(settings.get("size", 0))}


class Hanging:
    """A function that goes on until it is told to stop."""

    def __init__(self) -> None:
        self.began, self.told = threading.Event(), threading.Event()

    def __call__(self, _model: Model | None, settings: Settings) -> object:
        self.began.set()
        while not settings.cancelled():
            self.told.wait(0.02)
        self.told.set()
        return None


async def run(fed: Federation, **body: Json) -> Json:
    return await fed.ask("POST", "/v1/commands", json=body)


async def over(fed: Federation, command: str) -> Json:
    return await fed.ask("GET", f"/v1/commands/{command}", params={"wait_s": 30})


async def results(fed: Federation, command: str) -> list[Json]:
    items: list[Json] = (await fed.ask("GET", f"/v1/commands/{command}/results"))["items"]
    return items


async def test_a_client_without_the_function_refuses_and_the_command_fails(
    stack: LocalStack,
) -> None:
    async with federation(stack, clients=2) as fed:
        await fed.online(2)
        made = await run(fed, task="custom:restart_pump", timeout_s=60)
        ended = await over(fed, made["command"])
        assert (ended["status"], ended["reason"], ended["refused"]) == ("failed", "answered", 2)
        assert {one["code"] for one in await results(fed, made["command"])} == {"task_unknown"}


async def test_inference_stop_step_and_timeout_beside_a_session(stack: LocalStack) -> None:
    hanging = Hanging()
    async with federation(stack, clients=2) as fed:
        trainer = Trainer(
            lambda model, _: (model, 1, {}),
            predict=predict,
            commands={"hang": hanging},
        )
        await fed.add("predictor", trainer)
        await fed.online(3)
        session = await fed.start(TINY, rounds=2)
        model = (await fed.show(session))["initial_model"]
        only = {"ids": ["predictor"]}

        hung = await run(fed, task="custom:hang", clients=only, timeout_s=60)
        await asyncio.to_thread(hanging.began.wait, 30)
        small = await run(
            fed, task="inference", model=model, clients=only, parameters={"asked": [1, None]}
        )
        large = await run(
            fed,
            task="inference",
            clients=only,
            parameters={"size": 40_000},
            parent=small["command"],
        )
        for command in (small, large):
            ended = await over(fed, command["command"])
            assert (ended["status"], ended["completed"], ended["progress"]) == ("completed", 1, 1.0)
        [part] = await results(fed, small["command"])
        assert '"asked":[1,null]' in part["value"]
        [part] = await results(fed, large["command"])
        assert part["blob"]["size"] > 40_000
        path = f"/v1/commands/{large['command']}/results/{part['client']}"
        assert len((await fed.ask("GET", path))["pad"]) == 40_000

        assert (await over_now(fed, hung["command"]))["status"] == "running"
        stopped = await fed.ask("POST", f"/v1/commands/{hung['command']}/stop", json={})
        assert stopped["status"] == "interrupted"
        assert await asyncio.to_thread(hanging.told.wait, 30)

        short = await run(fed, task="custom:hang", clients=only, timeout_s=1)
        assert (await over(fed, short["command"]))["status"] == "timed_out"
        skipped = await run(fed, task="custom:hang", clients=only, timeout_s=60)
        ended = await fed.ask("POST", f"/v1/commands/{skipped['command']}/step")
        assert (ended["status"], ended["reason"]) == ("failed", "stepped")

        roots = await fed.ask("GET", "/v1/commands", params={"roots": True})
        assert small["command"] in {one["command"] for one in roots["items"]}
        assert large["command"] not in {one["command"] for one in roots["items"]}
        await fed.ended(session)


async def over_now(fed: Federation, command: str) -> Json:
    async def looked() -> Json:
        view = await fed.ask("GET", f"/v1/commands/{command}")
        return view if view["status"] != "created" else None

    return await eventually(looked, "the command runs")


POLICY = """
[tasks]
inference = true
custom = ["look*"]

[outgoing]
results = ["custom:look"]
"""


async def test_the_owners_policy_comes_first_and_all_that_leaves_is_logged(
    stack: LocalStack, tmp_path: Path
) -> None:
    called: list[str] = []

    def function(_model: Model | None, settings: Settings) -> object:
        called.append(settings.command)
        return {"seen": 1}

    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    async with federation(stack, clients=1) as fed:
        functions = {"look": function, "reboot": function}
        trainer = Trainer(lambda model, _: (model, 1, {}), predict=function, commands=functions)
        await fed.add("owned", trainer, state_dir=tmp_path / "state", policy=policy)
        await fed.online(2)
        only = {"ids": ["owned"]}
        for task, rule in (("custom:reboot", "tasks.custom"), ("inference", "outgoing.results")):
            made = await run(fed, task=task, clients=only, timeout_s=60)
            assert (await over(fed, made["command"]))["status"] == "failed"
            [part] = await results(fed, made["command"])
            assert (part["status"], part["code"]) == ("refused", "declined")
            assert part["detail"].startswith(f"{rule}: ")
        assert called == [], "nothing of a declined command runs"

        order = {"command": "look-1", "task": "custom:look", "clients": only, "timeout_s": 60}
        made = await run(fed, **order)
        assert (await over(fed, "look-1"))["status"] == "completed"
        again = await run(fed, **order)
        assert again["number"] == 2, "the same order is the same command, which has ended"
        other = await fed.http.post("/v1/commands", json=order | {"parameters": {"at": 1}})
        assert (other.status_code, other.json()["code"]) == (409, "already_exists")
        assert called == [made["command"]]
    [log] = (tmp_path / "state").glob(f"*/{NAME}")
    lines = [one for one in read_lines(log) if one.get("command") == "look-1"]
    assert [one["what"] for one in lines] == ["asked", "leaves", "ended"]
    assert lines[1]["bytes"] == len('{"seen":1}')
