"""What a client logs: what is taken and what is not, to what it is tied, and how it reaches the servers."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedbus import BadRecord, Client, PriorityClass, Recorder, TaskAborted, Trainer
from fedbus._outbox import Outbox
from fedbus._reporting import BACKLOG_EVERY_S
from fedbus_schemas.asks import Answer, Beat, Welcome
from fedbus_schemas.codec import read
from fedbus_schemas.records import LinkQuality, RecordBatch
from fedbus_schemas.refusals import Refusal, RefusalCode

from tests.unit.clientsdk.services import Services, options, running, train

AWAY = RefusalCode.RETRY_LATER


@pytest.fixture
def services(world: Any) -> Services:
    return Services(world)


@pytest.fixture
def recorder() -> Recorder:
    made = Recorder()
    made._box = Outbox()
    return made


def logged(recorder: Recorder) -> list[Any]:
    """Everything logged, as the servers read it."""
    assert recorder._box is not None
    batch = recorder._box.take()
    return [] if batch is None else list(read(RecordBatch, batch.content).records)


def sent(services: Services) -> Iterator[Any]:
    """The records sent so far, each once."""
    seen: set[int] = set()
    for content in services.said("records"):
        for record in read(RecordBatch, content).records:
            if record.number not in seen:
                seen.add(record.number)
                yield record


@asynccontextmanager
async def client_of(services: Services, **more: Any) -> AsyncIterator[Client]:
    async with running(services, Trainer(train), **more) as client:
        yield client


def test_metrics_count_their_steps(recorder: Recorder) -> None:
    recorder.log_metric({"loss": 1})
    recorder.log_metric({"loss": 0.5}, commit=False)
    recorder.log_metric({"accuracy": 0.9})
    recorder.log_metric({"loss": 0.4}, step=10)
    recorder.log_metric({"loss": 0.3})
    found = logged(recorder)
    assert [one.step for one in found] == [0, 1, 1, 10, 11]
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert found[0].session is None


def test_numpy_is_taken_everywhere(recorder: Recorder) -> None:
    recorder.log_metric({"a": np.float32(0.5), "b": np.int64(3), "c": np.array(2.5)})
    recorder.log_attributes({"gpu": np.int32(2), "ready": np.bool_(1), "load": np.float64(0.5)})
    recorder.log_telemetry("x", {"v": np.float32(1.5), "a": np.arange(3)})
    metrics, attributes, telemetry = sorted(logged(recorder), key=lambda one: one.number)
    assert metrics.metrics == {"a": 0.5, "b": 3.0, "c": 2.5}
    assert attributes.attributes == {"gpu": 2, "ready": True, "load": 0.5}
    assert telemetry.payload == {"v": 1.5, "a": [0, 1, 2]}


def test_what_is_not_finite_is_left_out(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        recorder.log_metric({"loss": float("nan"), "accuracy": 0.5})
        recorder.log_metric({"loss": float("inf")})
    assert [one.metrics for one in logged(recorder)] == [{"accuracy": 0.5}] * 3
    assert caplog.text.count("left out metrics that are NaN or infinite: loss") == 1


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda r: r.log_metric({"loss": "0.5"}), "metric 'loss' must be a number, not '0.5'"),
        (lambda r: r.log_metric({"loss": True}), "must be a number"),
        (lambda r: r.log_metric({"loss": np.ones(2)}), "must be a number"),
        (lambda r: r.log_metric({"loss": 10**400}), "too large"),
        (lambda r: r.log_metric({1: 0.5}), "1 is no text"),
        (lambda r: r.log_metric([0.5]), "must be a dict"),
        (lambda r: r.log_metric({}), "are empty"),
        (lambda r: r.log_metric({"loss": 1}, step=-1), "step must be"),
        (lambda r: r.log_metric({"loss": 1}, step=1.5), "step must be"),
        (lambda r: r.log_metric({str(n): n for n in range(65)}), "65 metrics at once"),
        (lambda r: r.log_attributes({"my site": "eu"}), "attributes: attributes"),
        (lambda r: r.log_attributes({"site": ["eu"]}), "attribute 'site' must be"),
        (lambda r: r.log_attributes({"site": float("nan")}), "finite"),
        (lambda r: r.log_attributes({"site": "x" * 2000}), "2000 characters, at most 1024"),
        (lambda r: r.log_telemetry("x", {"f": object()}), "object has no form in JSON"),
        (lambda r: r.log_telemetry("x", float("nan")), "is not JSON"),
        (lambda r: r.log_telemetry("x", None), "not null"),
        (lambda r: r.log_telemetry("x", "y" * 70_000), "at most 65536"),
        (lambda r: r.log_telemetry("x", "\ud800"), "is not JSON"),
        (lambda r: r.log_telemetry("", 1), "key"),
        (lambda r: r.log_telemetry("x", nested(100)), "levels deep"),
        (lambda r: r.log_telemetry("x", nested(100_000)), "is not JSON"),
        (lambda r: r.log_event("x", "loud"), "level"),
        (lambda r: r.log_event(""), "text"),
        (lambda r: r.log_event("\ud800"), "event"),
        (lambda r: r.log_event("x", priority="urgent"), "no priority class 'urgent'"),
    ],
)
def test_what_cannot_be_sent_is_told(recorder: Recorder, call: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        call(recorder)
    assert logged(recorder) == []


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def test_a_recorder_by_itself_checks_and_sends_nothing() -> None:
    recorder = Recorder()
    recorder.log_metric({"loss": 1})
    recorder.log_metric({"loss": 1})
    recorder.log_event("hello")
    recorder.add_priority_class(PriorityClass(name="x", priority=1))
    with pytest.raises(BadRecord):
        recorder.log_telemetry("x", object())
    assert recorder.backlog().total == 0
    assert recorder.link_quality is LinkQuality.OFFLINE
    assert recorder.priority_classes()[0].name == "alert"
    recorder.check_task_abort()


def test_classes_may_be_changed(recorder: Recorder) -> None:
    recorder.add_priority_class(PriorityClass(name="camera", priority=90))
    recorder.log_telemetry("a", 1)
    recorder.log_telemetry("b", 2, priority="camera")
    recorder.replace_priority_class(PriorityClass(name="camera", priority=1))
    assert [one.name for one in recorder.priority_classes()][-1] == "camera"
    recorder.remove_priority_class("camera")
    assert [one.key for one in logged(recorder)] == ["a", "b"]


async def test_records_reach_the_servers_tied_to_their_task(services: Services, world: Any) -> None:
    def log_and_train(model: Any, settings: Any) -> Any:
        settings.client.log_metric({"loss": 0.5})
        thread = threading.Thread(target=settings.client.log_event, args=("from a thread",))
        thread.start()
        thread.join()
        return train(model, settings)

    async with running(services, Trainer(log_and_train)) as client:
        client.log_attributes({"site": "eu"})
        task = world.train(3)
        services.post(world.mail(1, tasks=[task]))
        await services.until(lambda: len(list(sent(services))) == 3)
        await services.until(lambda: client.backlog().total == 0)
    metrics, event = [one for one in sent(services) if one.kind in ("metrics", "event")]
    for record in (metrics, event):
        assert (record.session, record.round, record.model) == ("s-1", 3, task.model.digest)


async def test_what_was_logged_before_the_start_is_sent(services: Services, world: Any) -> None:
    client = Client(Trainer(train), options(world), line=services)
    client.log_attributes({"site": "eu"})
    assert client.backlog().total == 1
    assert client.link_quality is LinkQuality.OFFLINE
    async with asyncio.TaskGroup() as group:
        run = group.create_task(client.run())
        await services.until(lambda: list(sent(services)))
        client.stop()
        await run
    client.log_event("too late, and no error")


async def test_a_batch_is_repeated_until_it_is_stored(services: Services) -> None:
    services.plan["records"] = [Answer(refusal=Refusal(code=AWAY))] * 3
    async with client_of(services) as client:
        client.log_event("x")
        await services.until(lambda: client.backlog().total == 0)
    said = services.said("records")
    assert len(said) == 4
    assert len(set(said)) == 1


async def test_a_batch_survives_the_process(services: Services, tmp_path: Path) -> None:
    services.plan["records"] = [Answer(refusal=Refusal(code=AWAY))] * 100_000
    async with client_of(services, state_dir=tmp_path) as client:
        client.log_event("x")
        await services.until(lambda: services.said("records"))
    services.plan.clear()
    before = services.said("records")[0]
    async with client_of(services, state_dir=tmp_path) as client:
        client.log_event("y")
        await services.until(lambda: client.backlog().total == 0)
    assert services.said("records")[-2] == before
    assert [one.text for one in sent(services)] == ["x", "y"]


async def test_one_refused_record_costs_no_other(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    usual = services.usual

    def strict(verb: str, content: bytes) -> Answer:
        if verb == "records" and b"poison" in content:
            refusal = Refusal(code=RefusalCode.UNREADABLE, detail="not this")
            return Answer(refusal=refusal)
        return usual(verb, content)

    services.usual = strict  # type: ignore[method-assign]  # the test's own double
    async with client_of(services) as client:
        for number in range(20):
            client.log_event("poison" if number == 13 else f"event {number}")
        await services.until(lambda: client.backlog().total == 0)
        assert client.backlog().dropped == 1
    taken = [
        record.text
        for content in services.said("records")
        if b"poison" not in content
        for record in read(RecordBatch, content).records
    ]
    assert taken == [f"event {number}" for number in range(20) if number != 13]
    assert "a record was refused: unreadable: not this" in caplog.text


async def test_an_old_server_loses_nothing(services: Services) -> None:
    services.plan["records"] = [Answer(refusal=Refusal(code=RefusalCode.VERB_UNKNOWN))] * 3
    async with client_of(services) as client:
        client.log_event("x")
        await services.until(lambda: client.backlog().total == 0)
        assert client.backlog().dropped == 0


async def test_beats_tell_what_waits(services: Services, world: Any) -> None:
    services.plan["hello"] = [Answer(welcome=Welcome(client=world.client, beat_s=0.01))]
    services.plan["records"] = [Answer(refusal=Refusal(code=AWAY))] * 100_000
    async with client_of(services) as client:
        client.log_event("x")
        await services.until(lambda: len(services.said("beat")) > 3)
        assert client.link_quality is LinkQuality.HEALTHY
    beats = [read(Beat, one).backlog for one in services.said("beat")]
    told = [one for one in beats if one is not None]
    assert len(told) == 1, f"one in {BACKLOG_EVERY_S} s"
    assert told[0].link is LinkQuality.HEALTHY


async def test_a_withdrawn_task_ends_where_it_asks(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running_now = threading.Event()

    def patient(model: Any, settings: Any) -> Any:
        running_now.set()
        while True:
            settings.client.log_metric({"loss": 1.0}, check_task_abort=True)

    with caplog.at_level(logging.INFO, "fedbus"):
        async with running(services, Trainer(patient)):
            services.post(world.mail(1, tasks=[world.train(1)]))
            await services.until(running_now.is_set)
            services.post(world.mail(2))
            await services.until(lambda: "the function gave up" in caplog.text)
    assert services.said("submit") == []


def test_the_abort_says_what_was_withdrawn(recorder: Recorder) -> None:
    from fedbus._context import RunningTask

    task = RunningTask("s-1", 2, "0" * 64, lambda: True)
    with recorder._place.during(task), pytest.raises(TaskAborted, match="s-1 round 2"):
        recorder.check_task_abort()
    recorder.check_task_abort()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here")
async def test_the_host_tells_how_busy_it_is(services: Services) -> None:
    async with client_of(services, host_telemetry_s=1):
        await services.until(lambda: list(sent(services)))
    [record] = list(sent(services))[:1]
    assert record.key == "host"
    assert 0 <= record.payload["cpu_percent"] <= 100
    assert 0 < record.payload["memory_percent"] <= 100
    assert json.dumps(record.payload)
