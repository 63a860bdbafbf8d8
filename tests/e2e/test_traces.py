"""Each round is one tree of spans from all processes, whoever was killed meanwhile; nothing secret is in it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fedbus_local import journal
from fedbus_local.stack import LocalStack
from fedbus_runtime.metrics import METRICS
from fedbus_runtime.span_names import ATTRIBUTES, EVENTS, SPANS

from tests.chaos.faults import killed
from tests.e2e.commands import flags, say
from tests.e2e.test_bad_clients import CONTENTS, HONEST_BYTES
from tests.jaeger import Jaeger, jaeger
from tests.rogue import Rogue
from tests.stacks import Federation, Json, eventually, federation
from tests.traces import Tree, tag
from tests.trainers import LARGE, TINY

CLIENTS = 3
WORK_S = 1.0
"""How long the clients train at least, so that a round's time is work and not a test's haste."""
COVERED_MIN = 0.95
LINES_MAX = 100_000
CALLS = {"send", "request", "store.get", "store.put"}

URL = re.compile(r"[a-z][a-z0-9+.-]*://|X-Amz-|Bearer|Authorization", re.I)


@pytest.fixture(scope="module")
def traces() -> Iterator[Jaeger]:
    with jaeger() as running:
        yield running


@pytest.fixture(scope="module")
def traced(traces: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    place = tmp_path_factory.mktemp("traced") / "stack"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", traces.otlp)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1000")
        with LocalStack(place, controllers=2, combiners=2) as running:
            yield running


@asynccontextmanager
async def at_work(fed: Federation, number: int) -> AsyncIterator[None]:
    """Let the clients train for a while in a round."""
    fed.gate.close(fed.names, number)
    yield
    await asyncio.sleep(WORK_S)
    fed.gate.open()


async def trees(
    traces: Jaeger, fed: Federation, session: str, *names: str, clients: int = CLIENTS
) -> list[Tree]:
    """Give the traces of a session's attempts, when each has its root, these names, and so many clients."""
    views = await fed.rounds(session)

    async def look() -> list[Tree]:
        async with httpx.AsyncClient(base_url=traces.url) as http:
            found = []
            for view in views:
                answer = (await http.get(f"/api/traces/{view['trace_id']}")).json()["data"]
                found += [Tree(one) for one in answer]
        whole = [one for one in found if one.of("round") and all(one.of(name) for name in names)]
        done = [one for one in whole if len(one.of("client.train")) >= clients]
        return done if len(done) == len(views) else []

    found: list[Tree] = await eventually(look, "all traces are there")
    return found


def assert_whole(tree: Tree) -> None:
    """It is one tree, its names are those that the docs list, and nothing in it is anybody's secret."""
    [root] = tree.roots
    assert root["operationName"] == "round"
    assert tree.orphans == []
    kinds = {name.split(" ")[0] for name in tree.names}
    assert kinds <= SPANS.keys(), kinds - SPANS.keys()
    shown = {key for span in tree.spans for key in (one["key"] for one in span["tags"])}
    jaegers = {"span.kind", "error", "otel.status_description"}
    assert shown <= ATTRIBUTES.keys() | jaegers, shown - ATTRIBUTES.keys()
    events = {one["fields"][0]["value"] for span in tree.spans for one in span["logs"]}
    assert events <= EVENTS.keys()
    for key, text in tree.texts():
        assert not URL.search(text), (key, text)


def assert_secret_free(stack: LocalStack, found: list[Tree]) -> None:
    """No secret of the stack is anywhere in its traces."""
    texts = " ".join(text for tree in found for _, text in tree.texts())
    for file in stack.layout.keys.iterdir():
        secret = file.read_bytes().strip().decode("latin-1")
        assert not secret or secret not in texts, file.name


async def test_a_round_is_one_tree_over_all_processes(traced: LocalStack, traces: Jaeger) -> None:
    async with federation(traced, clients=CLIENTS) as fed:
        fed.gate.close(fed.names, 2)
        async with at_work(fed, 1):
            session = await fed.start(LARGE, rounds=2, validate=True)
        await fed.ended(session)
        found = await trees(traces, fed, session, "finish", "select", "dispatch", "client.validate")
        drawn = await asyncio.to_thread(say, {}, "round", "trace", session, 1, *flags(fed))
    assert len(found) == 2
    for tree in found:
        assert_whole(tree)
        names = tree.names
        for name in ("client", "client.download", "client.upload", "ingest"):
            assert names[name] >= CLIENTS, (name, names)
        for name in ("count", "decide", "grant"):
            assert names[name], (name, names)
        # The calls to bus and store: shown, or counted where they took no millisecond.
        short = sum(tag(span, "fl.steps.left_out") or 0 for span in tree.spans)
        calls = sum(names[name] for name in names if name.split(" ")[0] in CALLS)
        assert calls + short >= CLIENTS * 2 + 6, (calls, short, names)
        assert names["store.put models"] + names["store.put sets"], names
        assert {tree.service(span) for span in tree.spans} == {
            "fedbus-controller",
            "fedbus-combiner",
            "fedbus-client",
        }
        assert len({tag(span, "fl.client") for span in tree.of("client")}) == CLIENTS
        assert tree.instances("fedbus-combiner") <= {"combiner-1", "combiner-2"}
        [root] = tree.roots
        assert (tag(root, "fl.outcome"), tag(root, "fl.counted")) == ("completed", CLIENTS)
    assert_secret_free(traced, found)
    assert any(tree.content["traceID"] in drawn for tree in found)
    assert drawn.count(" train ") == CLIENTS, "the terminal shows it without any backend"
    first = next(tree for tree in found if tag(tree.roots[0], "fl.round") == 1)
    assert first.covered() >= COVERED_MIN, (first.covered(), brief(first))
    async with httpx.AsyncClient(base_url=traces.url) as http:
        query = {"service": "fedbus-combiner", "limit": "100"}
        listed = (await http.get("/api/traces", params=query)).json()["data"]
        assert {one["traceID"] for one in listed} >= {one.content["traceID"] for one in found}
        assert (
            "finish" in (await http.get("/api/services/fedbus-combiner/operations")).json()["data"]
        )


async def test_a_round_stays_one_tree_when_a_controller_and_a_combiner_are_killed(
    traced: LocalStack, traces: Jaeger
) -> None:
    async with federation(traced, clients=CLIENTS) as fed:
        fed.gate.close(fed.names[1:], 1)
        session = await fed.start(LARGE, rounds=1)
        story = fed.stories[session]
        await story.until(lambda: story.stored(1), "an update is stored")
        async with killed("controller-1", "controller-2", "combiner-1")(traced):
            await asyncio.sleep(WORK_S)
            fed.gate.open()
            await fed.ended(session)
        # What a combiner had not sent when it was killed is lost, a client's spans with it.
        [tree] = await trees(traces, fed, session, "finish", clients=CLIENTS - 1)
    assert_whole(tree)
    assert tree.covered() >= COVERED_MIN, (tree.covered(), brief(tree))


async def test_what_is_refused_or_late_shows_with_its_code(
    traced: LocalStack, traces: Jaeger
) -> None:
    async with federation(traced, clients=CLIENTS + 2, online=False) as fed:
        for site in fed.sites[2:]:
            site.come()
        spoiler, straggler = [await Rogue.connect(site.credentials) for site in fed.sites[:2]]
        for rogue in (spoiler, straggler):
            await rogue.hello()
        await fed.online(CLIENTS + 2)
        session = await fed.start(
            TINY, rounds=1, minimum=CLIENTS, target=CLIENTS + 1, round_timeout_s=2
        )
        for rogue in (spoiler, straggler):
            await rogue.read_task(session, 1)
        await spoiler.submit(CONTENTS["NaN"][0])
        await fed.ended(session)
        await straggler.submit(HONEST_BYTES)
        for rogue in (spoiler, straggler):
            await rogue.nats.close()

        async def look() -> Json:
            [tree] = await trees(traces, fed, session)
            return tree if len(tree.of("ingest")) == CLIENTS + 2 else None

        tree = await eventually(look, "the late one is seen")
    assert_whole(tree)
    [root] = tree.roots
    [late] = [span for span in tree.of("ingest") if tag(span, "error.type")]
    assert tag(late, "error.type") == "round_closed"
    assert tag(late, "fl.client") == straggler.client
    assert late["startTime"] > root["startTime"] + root["duration"]
    told = [{one["key"]: one["value"] for one in log["fields"]} for log in root["logs"]]
    refused = [one for one in told if one["event"] == "update.refused"]
    assert [(one["fl.client"], one["fl.code"]) for one in refused] == [
        (spoiler.client, "not_finite")
    ]
    assert any(one["event"] == "reopened" for one in told), "one of four was not valid"


async def test_metrics_and_logs_say_what_was_done(traced: LocalStack, traces: Jaeger) -> None:
    before = await asyncio.to_thread(measures, traced)
    async with federation(traced, clients=CLIENTS) as fed:
        session = await fed.start(LARGE, rounds=2)
        await fed.ended(session)
        views = await fed.rounds(session)
        after = await asyncio.to_thread(measures, traced)
    more = {key: value - before.get(key, 0.0) for key, value in after.items()}
    updates = 2 * CLIENTS
    assert more['fedbus_rounds_total{outcome="completed"}'] == 2
    assert more['fedbus_round_seconds_count{phase="collect"}'] == 2
    assert more['fedbus_round_seconds_count{phase="whole"}'] == 2
    assert more['fedbus_updates_total{code="stored"}'] == updates
    assert more['fedbus_updates_total{code="counted"}'] == updates
    assert more['fedbus_asks_total{code="ok",verb="submit"}'] == updates
    assert more['fedbus_messages_total{consumer="tallies",outcome="done"}'] == updates
    size = more["fedbus_update_bytes_total"]
    assert size == more["fedbus_fold_bytes_total"] > updates * 800_000
    assert more['fedbus_store_bytes_total{method="get"}'] >= size
    assert more['fedbus_store_seconds_count{method="put",outcome="ok"}'] >= 4
    assert after[f'fedbus_clients_online{{project="{fed.project}"}}'] >= CLIENTS
    assert after['fedbus_queue_pending{consumer="combiners"}'] == 0
    assert after["fedbus_bus_connected"] == 4, "each of the four says 1"
    names = {one.name.removesuffix("_total") for one in METRICS}

    async def look() -> bool:
        counted = traces.store.metrics.get(("controller-1", "fedbus_messages"))
        return counted is not None and bool(counted.sum.data_points)

    await eventually(look, "metrics came by OTLP, too")
    sent = {name for _, name in traces.store.metrics if name.startswith("fedbus_")}
    assert sent == names, "the same names as at /metrics"
    lines = [
        json.loads(one["line"])
        for one in journal.read(traced.layout.logs, LINES_MAX)
        if one["line"].startswith("{") and session in one["line"]
    ]
    decided = [one for one in lines if one["event"] == "decided" and one.get("round") == 1]
    [closed] = [one for one in decided if "round.completed.v1" in one["events"]]
    assert closed["trace_id"] in {view["trace_id"] for view in views}
    assert closed["message"].startswith("INBOX/")
    assert closed["instance"].startswith("controller-")


def measures(stack: LocalStack) -> dict[str, float]:
    """Scrape all controllers and combiners and add up."""
    found: dict[str, float] = {}
    for process in stack.status().processes:
        if process.role in ("controller", "combiner"):
            text = httpx.get(f"http://127.0.0.1:{process.port}/metrics").text
            for line in text.splitlines():
                if not line.startswith("#"):
                    key, _, value = line.rpartition(" ")
                    found[key] = found.get(key, 0.0) + float(value)
    return found


def brief(tree: Tree) -> list[Json]:
    """Write a trace in lines, for a test that fails."""
    start = tree.roots[0]["startTime"]
    return [
        (span["operationName"], (span["startTime"] - start) / 1000, span["duration"] / 1000)
        for span in tree.spans
    ]
