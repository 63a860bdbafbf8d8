"""Commands as the api runs and lists them, over servers in memory."""

import asyncio
from datetime import timedelta

from fedbus_core.commands.log import seal
from fedbus_runtime.memory_streams import MemoryStreams
from fedbus_schemas import subjects
from fedbus_schemas.command_events import CommandCreated

PATH = "/v1/commands"


def create(world, command, parent=None) -> None:
    """Let a controller create a command that asks two clients."""
    event = CommandCreated(
        project="default",
        command=command,
        task="custom:look",
        targets=("c" + "a" * 16, "c" + "b" * 16),
        deadline=world.clock.now() + timedelta(minutes=1),
        correlation=command,
        parent=parent,
        trace_id="0" * 32,
    )
    data = seal(None, "default", command, [event], "test", world.clock.now())
    world.put(subjects.command_log("default", command), data)


def decide(world) -> None:
    """Let a controller create the command that was ordered."""
    if world.kept("INBOX") and not world.kept("COMMANDS"):
        create(world, "k-1")


async def test_a_command_is_created_while_its_answer_waits(world) -> None:
    world.bus.watchers.append(lambda: decide(world))
    async with world.client() as client:
        answer = await client.post(PATH, json={"command": "k-1", "task": "custom:look"})
    assert (answer.status_code, answer.json()["status"]) == (201, "created")


async def test_a_bus_that_goes_away_while_an_answer_waits_is_told_as_that(world) -> None:
    create(world, "k-1")
    async with world.client() as client, asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(client.get(f"{PATH}/k-1", params={"wait_s": 1.5}))
        while not world.bus.feeds:
            await asyncio.sleep(0)
        world.bus.away = True
    answer = asked.result()
    assert (answer.status_code, answer.json()["code"]) == (503, "retry_later")


async def test_a_list_looks_into_the_commands_that_it_shows_and_reads_no_log_twice(
    world, monkeypatch
) -> None:
    for number in range(5):
        create(world, f"k-{number}", parent="k-0" if number == 3 else None)
    read, looked = MemoryStreams.read, []

    async def noted(self, stream, subject, **more):
        looked.append((stream.name, subject))
        return await read(self, stream, subject, **more)

    monkeypatch.setattr(MemoryStreams, "read", noted)
    async with world.client() as client:
        asked = {"roots": True, "limit": 2}
        first = (await client.get(PATH, params=asked)).json()
        assert ([one["command"] for one in first["items"]], first["count"]) == (["k-4", "k-2"], 4)
        results = [subject for stream, subject in looked if stream == "RESULTS"]
        assert results == [subjects.result_of("default", one) for one in ("k-4", "k-2")]
        looked.clear()
        assert (await client.get(PATH, params=asked)).json() == first
        assert "COMMANDS" not in {stream for stream, _ in looked}
