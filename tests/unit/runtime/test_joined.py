"""Sharing a call: who gets whose answer, and what a failure does to those who wait."""

import asyncio

import pytest
from fedbus_runtime.errors import BusAway
from fedbus_runtime.joined import Joined


class Server:
    """Answers with how often it was asked; holds the answer back until it may go."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.faults: dict[int, BaseException] = {}

    async def ask(self) -> int:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if number in self.faults:
            raise self.faults[number]
        return number


async def asked_by(server: Server, joined: Joined[int], others: int) -> list[int | BaseException]:
    """Give what one gets who asks first, and so many who ask while the server answers that one."""

    calls = [joined.call(server.ask) for _ in range(1 + others)]
    answers = asyncio.gather(*calls, return_exceptions=True)
    asyncio.get_running_loop().call_soon(server.gate.set)  # after they asked
    return await answers


async def test_all_who_come_meanwhile_share_the_next_call() -> None:
    server = Server()
    answers = await asked_by(server, Joined(), 50)
    assert answers == [1] + 50 * [2], "theirs began after they asked"
    assert server.asked == 2


async def test_a_fault_is_told_to_all_and_the_next_call_is_a_new_one() -> None:
    server, joined = Server(), Joined[int]()
    gone = server.faults[2] = BusAway("gone")
    assert await asked_by(server, joined, 3) == [1, gone, gone, gone]
    assert await joined.call(server.ask) == 3


@pytest.mark.parametrize("bug", [ValueError("a bug"), asyncio.CancelledError()])
async def test_a_bug_and_a_cancellation_are_their_own_callers_only(bug: BaseException) -> None:
    server = Server()
    server.faults[1] = bug
    first, *others = await asked_by(server, Joined(), 2)
    assert isinstance(first, type(bug))
    assert others == [2, 2]
