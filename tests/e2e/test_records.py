"""What clients log reaches the api: tied to its task, after a day offline, beside a flood."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import fedbus
import httpx
import pytest
from fedbus.api import AsyncAPIClient
from fedbus_local.stack import LocalStack

from tests.e2e.commands import flags, say
from tests.stacks import Federation, Json, Lines, eventually, federation
from tests.trainers import TINY

FLOOD = 60_000
DAY_MINUTES = 1_440
FRESH_S = 300
"""How long telemetry is fresh: its class sends the newest first for so long."""
NOWHERE = "nats://127.0.0.1:1"


async def count(fed: Federation, path: str, **query: Json) -> int:
    number: int = (await fed.ask("GET", f"{path}/count", params=query))["count"]
    return number


async def test_what_a_train_function_logs_is_tied_to_its_round(stack: LocalStack) -> None:
    def train(model: fedbus.Model, settings: fedbus.Settings) -> Json:
        for step in range(3):
            settings.client.log_metric({"loss": 1.0 / (1 + step)}, check_task_abort=True)
        settings.client.log_inference_result("sample", {"answer": [1, 2, None]})
        return {name: array + 1 for name, array in model.items()}, 10, {"loss": 0.1}

    async with federation(stack, clients=1) as fed:
        client = await fed.add("logger", fedbus.Trainer(train), host_telemetry_s=1)
        client.log_attributes({"site": "eu", "gpu": 2})
        await fed.online(2)
        session = await fed.start(TINY, rounds=2, minimum=2)
        await fed.ended(session)

        async def all_there() -> bool:
            return await count(fed, "/v1/metrics", session=session) == 6

        await eventually(all_there, "six metrics")
        metrics = await fed.rows("/v1/metrics", session=session)
        assert [(one["round"], one["step"]) for one in metrics] == [
            (1, 0),
            (1, 1),
            (1, 2),
            (2, 3),
            (2, 4),
            (2, 5),
        ]
        bases = [one["base"] for one in await fed.rounds(session)]
        assert all(one["model"] for one in metrics)
        assert metrics[0]["model"] == bases[0]
        results = await fed.rows("/v1/inference-results", session=session, key="sample")
        assert [one["payload"] for one in results] == [{"answer": [1, 2, None]}] * 2
        now = await fed.ask("GET", "/v1/attributes")
        assert {one["key"]: one["value"] for one in now["items"]} == {"site": "eu", "gpu": 2}
        chosen = await fed.ask("GET", "/v1/selection", params={"where": "site=eu,gpu>=1"})
        assert len(chosen["chosen"]) == len(chosen["left_out"]) == 1

        async def host_told() -> bool:
            return await count(fed, "/v1/telemetry", key="host") > 0

        await eventually(host_told, "telemetry of the host")

        async def backlog_told() -> bool:
            page = await fed.ask("GET", "/v1/backlogs", params={"total": 0, "link": "healthy"})
            return len(page["items"]) == 2

        await eventually(backlog_told, "both clients tell that nothing waits")
        client.stop()
        async with AsyncAPIClient(stack.api_url, token=stack.api_token, project=fed.project) as api:
            await _told_by_the_client(api, session)
        asked = ("metrics", "list", "--client", "logger", "-o", "json")
        printed = await asyncio.to_thread(say, {}, *asked, *flags(fed))
        assert [one["step"] for one in json.loads(printed)] == [5, 4, 3, 2, 1, 0]
        match = ("attributes", "match", "site=eu")
        table = await asyncio.to_thread(say, {}, *match, *flags(fed))
        assert "the client does not have this attribute" in table


async def _told_by_the_client(api: AsyncAPIClient, session: str) -> None:
    assert await api.get_metrics_count(session) == 6
    losses = [one.value async for one in api.get_metrics(session, key="loss", n_max=2)]
    assert losses == [1 / 3, 1 / 2]
    now = {one.key: one.value async for one in api.get_current_attributes()}
    assert now == {"site": "eu", "gpu": 2}
    [chosen] = (await api.select_clients("site=eu")).chosen
    changes = [one.key async for one in api.get_attribute_trail(chosen)]
    assert sorted(changes) == ["gpu", "site"]
    answers = [one.payload async for one in api.get_predictions()]
    assert answers == [{"answer": [1, 2, None]}] * 2
    assert await api.get_inference_results_count() == 2
    assert await api.get_telemetry_count(filters={"key": "host"}) > 0
    assert await api.get_status_events_count() == 0
    assert {one.link async for one in api.get_backlogs()} == {"healthy"}


@pytest.mark.timeout(240)
async def test_after_a_day_offline_and_two_kills_everything_comes_in_order(
    stack: LocalStack, tmp_path: Path
) -> None:
    async with federation(stack, clients=0) as fed:
        [made] = await asyncio.to_thread(stack.make_credentials, ["gateway"], fed.project)
        online = stack.write_credentials(made, tmp_path / "online.json")
        away = made.model_copy(update={"servers": (NOWHERE,)})
        offline = stack.write_credentials(away, tmp_path / "offline.json")
        began_s = time.time() - 86_400
        first, torn = 0, []
        for until in (500, 905, DAY_MINUTES - 1):
            last = await asyncio.to_thread(run_and_kill, offline, tmp_path, first, until, began_s)
            torn.append(last + 1)  # what the kill tore, nobody logs again
            first = last + 2
        said = await asyncio.to_thread(finish, online, tmp_path, began_s)
        assert said == "sent 0", "nothing was dropped"
        await assert_order(fed, torn)


def run_and_kill(credentials: Path, state: Path, first: int, until: int, began_s: float) -> int:
    """Run the site and kill it at a minute; give the last minute that it logged whole."""
    with site(credentials, state, first, DAY_MINUTES, began_s) as process:
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last >= until:
                break
        process.kill()
        return max([last, *map(int, process.stdout.read().split())])


def finish(credentials: Path, state: Path, began_s: float) -> str:
    """Run the site at the end of the day, with nothing to log, until it has sent everything."""
    with site(credentials, state, DAY_MINUTES, DAY_MINUTES, began_s) as process:
        said, _ = process.communicate(timeout=200)
        return said.splitlines()[-1]


def site(
    credentials: Path, state: Path, first: int, last: int, began_s: float
) -> "subprocess.Popen[str]":
    numbers = [str(first), str(last), str(began_s)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.offline_site", str(credentials), str(state), *numbers],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def assert_order(fed: Federation, torn: list[int]) -> None:
    """Nothing is lost, nothing comes twice, and all of it in the order of the classes."""
    metrics = await fed.rows("/v1/metrics")
    steps = [one["step"] for one in metrics]
    assert steps == sorted(set(steps)), "the oldest first, none twice"
    assert whole(steps, torn) == whole(range(6 * DAY_MINUTES), torn)

    telemetry = await fed.rows("/v1/telemetry", key="load")
    places = [6 * one["payload"]["minute"] + one["payload"]["part"] for one in telemetry]
    fresh = [place for place in places if place > 6 * DAY_MINUTES - FRESH_S // 10]
    assert places[: len(fresh)] == sorted(fresh, reverse=True), "of the fresh, the newest first"
    stale = places[len(fresh) :]
    assert stale == sorted(set(stale)), "then the others, the oldest first"
    assert whole(sorted(places), torn) == whole(range(6 * DAY_MINUTES), torn)

    events = await fed.rows("/v1/status-events")
    alerts = [f"alert {minute}" for minute in range(0, DAY_MINUTES, 90)]
    lines = [f"minute {minute}" for minute in range(0, DAY_MINUTES, 60)]
    assert [one["text"] for one in events] == alerts + lines

    order = [events[len(alerts) - 1], telemetry[0], telemetry[len(fresh) - 1], metrics[0]]
    order += [metrics[-1], telemetry[len(fresh)]]
    stored = [int(one["id"].split(".")[0]) for one in order]
    assert stored == sorted(stored), "alerts, fresh telemetry, metrics, old telemetry"
    changes = await fed.rows("/v1/attributes/history")
    assert [one["value"] for one in changes] == list(range(0, DAY_MINUTES, 120))
    print(f"\n{len(steps)} metrics, {len(places)} telemetry ({len(fresh)} fresh)", end="")


def whole(places: Iterable[int], torn: list[int]) -> list[int]:
    """Leave out the minutes in which a kill struck."""
    return [place for place in places if place // 6 not in torn]


async def test_a_flood_holds_up_nobody_else(stack: LocalStack, lines: Lines) -> None:
    logging.getLogger("fedbus").setLevel(logging.DEBUG)
    async with federation(stack, clients=2) as fed:
        flooding, quiet = (site.client for site in fed.sites)

        def flood() -> None:
            for number in range(FLOOD):
                flooding.log_event(f"flood {number}")

        await asyncio.to_thread(flood)
        await lines.until("records: retry_later", 1)
        waited_s = []
        for number in range(3):
            started_s = time.monotonic()
            quiet.log_event(f"quiet {number}")

            async def there(text: str = f"quiet {number}") -> bool:
                return await count(fed, "/v1/status-events", text=text) == 1

            await eventually(there, "the quiet client's event")
            waited_s.append(time.monotonic() - started_s)
        left = flooding.backlog()
        print(f"\nbeside a flood: {max(waited_s):.2f} s; {left.total} of {FLOOD} wait", end="")
        assert left.total > 0
        assert left.dropped == 0


async def test_a_client_cannot_log_for_another(stack: LocalStack) -> None:
    """What a record says of itself is never whose it is: the subject comes from the attested sender."""
    async with federation(stack, clients=2) as fed:
        one = fed.sites[0].client
        one.log_telemetry("x", {"client": "somebody else"})

        async def there() -> bool:
            return await count(fed, "/v1/telemetry", key="x") == 1

        await eventually(there, "the telemetry")
        [found] = await fed.rows("/v1/telemetry", key="x")
        assert found["client"] == await fed.pseudonym(fed.names[0])
        async with httpx.AsyncClient(base_url=stack.api_url) as nobody:
            assert (await nobody.get("/v1/telemetry")).status_code == 401
