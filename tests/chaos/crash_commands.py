"""Scenes with commands: one is run over a service that dies, or what the services make of it is poisoned."""

import asyncio
import secrets

import httpx
from fedbus_core.commands.decide import CommandFacts, decide
from fedbus_core.commands.log import seal
from fedbus_runtime.nats_bus import NatsBus
from fedbus_runtime.system_clock import SystemClock
from fedbus_schemas import subjects
from fedbus_schemas.commands import RunCommand, StartTask
from fedbus_schemas.streams import ANSWERS, COMMAND_PERFORMERS

from tests.chaos.crash_asks import say
from tests.chaos.crash_letters import letters_are, only_letter, order_again, poison, use_up
from tests.chaos.crash_scenes import Stage, redis_asleep
from tests.e2e.stores import bus_of
from tests.stacks import Json, eventually

COMMANDS = "/v1/commands"
SOMEBODY = "c" + "b" * 16


async def run(stage: Stage) -> None:
    """Stage the session's model at all three clients: each does it once, while the third one trains."""
    await stage.arm()
    command = await _run(stage)
    await stage.doomed()
    await _completed(stage, command)


async def run_while_redis_sleeps(stage: Stage) -> None:
    """Run a command for whoever is online while Redis, which knows that, does not answer."""
    await stage.arm()
    name = f"k-{secrets.token_hex(4)}"
    async with redis_asleep(stage), asyncio.TaskGroup() as tasks:
        body = {"command": name, "task": "custom:nothing", "timeout_s": 60}
        asking = tasks.create_task(_post(stage, body))
        await stage.doomed()
        asking.cancel()

    async def look() -> Json:
        found = await stage.fed.http.get(f"{COMMANDS}/{name}")
        return found.json() if found.is_success and found.json()["ended"] else None

    ended = await eventually(look, "it is decided and ends")
    assert (ended["status"], ended["refused"]) == ("failed", len(stage.fed.names)), ended


async def start_one(stage: Stage) -> None:
    """Begin a task of its own in the third client's name; begun again it is the same one."""
    fed = stage.fed
    client = await fed.pseudonym(fed.names[2])
    task = StartTask(command=f"{client}-{secrets.token_hex(4)}", task="autonomous:look")
    answer = await say(stage, "start_task", task.to_bytes())
    assert answer.noted is not None, answer

    async def look() -> Json:
        items = (await fed.ask("GET", COMMANDS))["items"]
        return [one for one in items if one["command"] == task.command]

    [found] = await eventually(look, "it is listed")
    assert (found["targets"], found["number"]) == ([client], 1), found
    await fed.ask("POST", f"{COMMANDS}/{task.command}/stop")


async def poison_order(stage: Stage) -> None:
    """Send an order about a command that nobody can read."""
    subject = subjects.command_input(stage.fed.project, "none", "order")
    await poison(stage, subject, b'{"kind":"run"}')


async def order_into_a_broken_log(stage: Stage) -> None:
    """In a project of its own, order something of a command whose log is broken: tried again and again."""
    project = await _break_a_log(stage)
    await stage.arm()
    async with bus_of(stage.fed.stack, "api") as bus:
        await bus.streams.append(subjects.command_input(project, "broken", "order"), _ORDER)
    await stage.doomed()


async def perform_a_broken_log(stage: Stage) -> None:
    """In a project of its own, have an entry performed that nobody can read: tried again and again."""
    await stage.arm()
    await _break_a_log(stage)
    await stage.doomed()


async def answer_into_a_broken_log(stage: Stage) -> None:
    """In a project of its own, store an answer to a command whose log is broken."""
    project = await _break_a_log(stage)
    await stage.arm()
    async with bus_of(stage.fed.stack, "combiner") as bus:
        await bus.streams.append(subjects.result_of(project, "broken", SOMEBODY), b"{}")
    await stage.doomed()


async def use_up_answer(stage: Stage) -> None:
    """Store an answer whose every holder dies, until it is taken for poison."""
    subject = subjects.result_of(stage.fed.project, f"k-{secrets.token_hex(4)}", SOMEBODY)

    async def store(bus: NatsBus) -> str:
        async with bus_of(stage.fed.stack, "combiner") as combiner:
            await combiner.streams.append(subject, b"{}")
        return subject

    await use_up(stage, ANSWERS, store)
    letter = await only_letter(stage.fed)
    await stage.fed.ask("DELETE", f"/v1/dead-letters/{letter}")


async def use_up_command(stage: Stage) -> None:
    """Decide on a command for nobody; whoever performs it dies, until it is taken for poison."""
    project, command = stage.fed.project, f"k-{secrets.token_hex(4)}"

    async def store(bus: NatsBus) -> str:
        now = SystemClock().now()
        facts = CommandFacts(project, command, "test", now)
        events = decide(None, RunCommand(command=command, task="custom:x"), facts).events
        data = seal(None, project, command, events, "test", now)
        await bus.streams.append(subjects.command_log(project, command), data, expected=0)
        return subjects.command_log(project, command)

    await use_up(stage, COMMAND_PERFORMERS, store)
    letter = await only_letter(stage.fed)
    await order_again(stage, letter)
    await letters_are(stage.fed, 0)


_ORDER = b'{"kind":"step"}'


async def _break_a_log(stage: Stage) -> str:
    """Append what is no entry to a new command's log."""
    project = f"{stage.fed.project}-{secrets.token_hex(4)}"
    async with bus_of(stage.fed.stack, "controller") as bus:
        await bus.streams.append(subjects.command_log(project, "broken"), b"{}", expected=0)
    return project


async def _run(stage: Stage) -> str:
    model = (await stage.fed.show(stage.session))["model"]
    body = {"task": "stage_model", "model": model, "timeout_s": 60}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    made = await stage.fed.ask("POST", COMMANDS, json=body, headers=headers)
    command: str = made["command"]
    return command


async def _completed(stage: Stage, command: str) -> None:
    async def look() -> Json:
        view = await stage.fed.ask("GET", f"{COMMANDS}/{command}")
        return view if view["ended"] else None

    ended = await eventually(look, f"{command} ends")
    told = (ended["status"], ended["reason"], ended["completed"], ended["number"])
    assert told == ("completed", "answered", len(stage.fed.names), 2), ended
    results = (await stage.fed.ask("GET", f"{COMMANDS}/{command}/results"))["items"]
    assert {one["value"] for one in results} == {'{"tensors":2}'}, results


async def _post(stage: Stage, body: Json) -> None:
    # The api may say "retry later": what counts is that it is stored.
    try:
        await stage.fed.http.post(COMMANDS, json=body, timeout=None)
    except httpx.TransportError:
        return
