"""What is done to servers in mid-round, as contexts: entering does the harm, leaving waits until it is over."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import redis
from fedbus_local import keys
from fedbus_local.stack import LocalStack

Fault: TypeAlias = Callable[[LocalStack], AbstractAsyncContextManager[None]]

ZOMBIE_S = 3.0
"""How long a process is stopped; longer than the lease (2 s) after which others take over its work."""
DOWN_S = 10.0


@asynccontextmanager
async def nothing(_: LocalStack) -> AsyncIterator[None]:
    """Disturb nobody."""
    yield


def killed(*names: str) -> Fault:
    """SIGKILL these processes; the supervisor starts them again, as Docker or Kubernetes would."""

    @asynccontextmanager
    async def fault(stack: LocalStack) -> AsyncIterator[None]:
        pids = {name: await asyncio.to_thread(stack.kill, name) for name in names}
        yield
        for name, pid in pids.items():
            await asyncio.to_thread(stack.wait_reborn, name, pid)

    return fault


def stopped(name: str) -> Fault:
    """SIGSTOP a process, then SIGCONT: a zombie that believes that nothing happened meanwhile."""

    @asynccontextmanager
    async def fault(stack: LocalStack) -> AsyncIterator[None]:
        await asyncio.to_thread(stack.kill, name, signal.SIGSTOP)
        try:
            yield
            await asyncio.sleep(ZOMBIE_S)
        finally:
            await asyncio.to_thread(stack.kill, name, signal.SIGCONT)

    return fault


@asynccontextmanager
async def redis_flushed(stack: LocalStack) -> AsyncIterator[None]:
    """Make the Redis server forget everything."""
    await asyncio.to_thread(_flush, stack)
    yield


@asynccontextmanager
async def redis_down(stack: LocalStack) -> AsyncIterator[None]:
    """Keep the Redis server away for a while."""
    await _put_down(stack, "redis")
    try:
        yield
        await asyncio.sleep(DOWN_S)
    finally:
        await asyncio.to_thread(stack.restart, "redis")


def redis_restored(copy: Path) -> Fault:
    """Give the Redis server a copy of its data that was made earlier by `copy_redis`."""

    @asynccontextmanager
    async def fault(stack: LocalStack) -> AsyncIterator[None]:
        await _put_down(stack, "redis")
        place = stack.layout.store("redis")
        shutil.rmtree(place)
        shutil.copytree(copy, place)
        await asyncio.to_thread(stack.restart, "redis")
        yield

    return fault


async def copy_redis(stack: LocalStack, copy: Path) -> None:
    """Stop the Redis server, copy its data, start it again."""
    await _put_down(stack, "redis")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(stack.layout.store("redis"), copy)
    await asyncio.to_thread(stack.restart, "redis")


async def _put_down(stack: LocalStack, name: str) -> None:
    await asyncio.to_thread(stack.kill, name, restart=False)
    await asyncio.to_thread(stack.wait_down, name)


def _flush(stack: LocalStack) -> None:
    password = keys.read(stack.layout, "redis.password")
    with redis.Redis(port=stack.plan.ports["redis"], password=password) as connection:
        connection.flushall()
