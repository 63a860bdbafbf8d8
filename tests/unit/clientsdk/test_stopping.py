"""A client that is stopped: at once, wherever it is, with a goodbye."""

import asyncio
import threading
from typing import Any

from fedbus import (
    BusAway,
    Client,
    Trainer,
)
from fedbus_schemas.asks import (
    Beat,
)

from tests.unit.clientsdk.services import WAIT_S, Services, options, running, train


async def test_stop_does_not_wait_for_a_function(services: Services, world: Any) -> None:
    began, release = threading.Event(), threading.Event()

    def hangs(model: Any, settings: Any) -> Any:
        began.set()
        release.wait(WAIT_S)
        return model, 1, {}

    loop = asyncio.get_running_loop()
    async with running(services, Trainer(hangs)) as client:
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(began.is_set)
        stopped = loop.time()
        client.stop()
    assert loop.time() - stopped < 1
    release.set()


async def test_a_stop_in_the_middle_of_a_download_is_a_stop(
    services: Services, world: Any, download: threading.Event
) -> None:
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1, model=world.model(inline=False))]))
        await services.until(download.is_set)
    assert not services.said("done")


async def test_a_client_that_is_stopped_says_goodbye(services: Services, world: Any) -> None:
    async with running(services, Trainer(train)):
        await services.until(lambda: services.said("sync"))
        assert not services.said("beat")
    assert [Beat.model_validate_json(one).leaving for one in services.said("beat")] == [True]


async def test_a_goodbye_that_nobody_hears_holds_nobody_up(services: Services, world: Any) -> None:
    services.plan["beat"] = [BusAway("nobody")]
    async with running(services, Trainer(train)):
        await services.until(lambda: services.said("sync"))
    assert len(services.said("beat")) == 1


async def test_a_stop_before_the_run_ends_it_at_once(services: Services, world: Any) -> None:
    client = Client(Trainer(train), options(world), line=services)
    client.stop()
    await asyncio.wait_for(client.run(), WAIT_S)
    client.stop()


async def test_a_stopped_client_leaves_no_thread(services: Services, world: Any) -> None:
    before = set(threading.enumerate())
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: services.said("submit"))
    await services.until(lambda: set(threading.enumerate()) <= before)
