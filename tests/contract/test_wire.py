"""Requests, answers and live feeds: over memory and over NATS the same must hold."""

import asyncio

import pytest
from fedbus_runtime.errors import NoAnswer, RecordsAway
from fedbus_runtime.ports import Request
from fedbus_schemas import subjects

from tests.worlds import BusWorld, next_of, until


async def ask_until_served(bus: BusWorld, subject: str, data: bytes) -> bytes:
    answers: list[bytes] = []

    async def answered() -> bool:
        try:
            answers.append(await bus.wire.request(subject, data, 1.0))
        except NoAnswer:
            return False
        return True

    await until(answered, "somebody answers")
    return answers[0]


async def echo(request: Request) -> bytes:
    return request.subject.encode() + b" " + request.data + b" " + str(request.sender).encode()


async def test_answers_a_request(bus: BusWorld) -> None:
    subject = subjects.notice(bus.project, "s1")
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(
            bus.wire.serve(subjects.notice(bus.project, "*"), "controllers", echo)
        )
        assert await ask_until_served(bus, subject, b"x") == f"{subject} x None".encode()
        many = [bus.wire.request(subject, b"%d" % each, 5.0) for each in range(300)]
        answers = await asyncio.gather(*many)
        assert [answer.split()[1] for answer in answers] == [b"%d" % each for each in range(300)]
        serving.cancel()


async def test_nobody_serves(bus: BusWorld) -> None:
    start = bus.clock.monotonic()
    with pytest.raises(NoAnswer):
        await bus.wire.request(subjects.notice(bus.project, "s1"), b"x", 5.0)
    assert bus.clock.monotonic() - start < 1


@pytest.mark.parametrize("fault", [RecordsAway("gone"), ZeroDivisionError("a bug"), None])
async def test_no_answer_and_the_next_request_is_served(
    bus: BusWorld, fault: Exception | None
) -> None:
    subject = subjects.notice(bus.project, "s1")

    async def handle(request: Request) -> bytes | None:
        if request.data != b"bad":
            return b"good"
        if fault is not None:
            raise fault
        return None

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(bus.wire.serve(subject, "controllers", handle))
        await ask_until_served(bus, subject, b"first")
        with pytest.raises(NoAnswer):
            await bus.wire.request(subject, b"bad", 0.2)
        assert await bus.wire.request(subject, b"fine", 2.0) == b"good"
        serving.cancel()


async def test_each_request_goes_to_one_of_a_queue_group(bus: BusWorld) -> None:
    subject = subjects.notice(bus.project, "s1")
    seen: list[bytes] = []

    async def handle(request: Request) -> bytes:
        seen.append(request.data)
        return b""

    async with asyncio.TaskGroup() as tasks:
        serving = [
            tasks.create_task(bus.wire.serve(subject, "controllers", handle)) for _ in range(3)
        ]
        await ask_until_served(bus, subject, b"first")
        await asyncio.gather(*(bus.wire.request(subject, b"n", 5.0) for _ in range(50)))
        for each in serving:
            each.cancel()
    assert seen.count(b"n") == 50


async def test_serving_and_listening_go_on_after_the_server_was_killed(bus: BusWorld) -> None:
    subject = subjects.notice(bus.project, "s1")
    event = subjects.event(bus.project, "s1")
    feed = bus.wire.listen(subjects.live_event(bus.project))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(bus.wire.serve(subject, "controllers", echo))
        heard = tasks.create_task(next_of(feed))
        await ask_until_served(bus, subject, b"x")
        await bus.streams.append(event, b"before")
        assert (await heard).data == b"before"
        await bus.restart()
        await ask_until_served(bus, subject, b"y")
        await bus.streams.append(event, b"after")
        assert (await next_of(feed)).data == b"after"
        serving.cancel()
    await feed.aclose()  # type: ignore[attr-defined]  # a generator, more than the port says
