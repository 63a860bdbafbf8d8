"""A whole client against services that run in the test: what it says, when, and what it survives."""

import asyncio
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedbus import (
    BadOption,
    BusAway,
    Client,
    ClientUnknown,
    KeyChanged,
    NotPermitted,
    Options,
    StoreAway,
    Trainer,
    _tensorfile,
)
from fedbus._blobs import Blobs
from fedbus._content import Content, chunks
from fedbus_schemas.asks import (
    Answer,
    Grant,
    Hello,
    Noted,
    SessionReceipt,
    Sync,
    TransferDone,
    Welcome,
)
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.tasks import Fate, Receipt
from fedbus_schemas.updates import Submission, ValidationReport

from tests.unit.clientsdk.services import WAIT_S, Services, options, running, train


async def test_a_round_from_the_task_to_the_receipt(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def validate(model: Any, settings: Any) -> Any:
        return 3, {"accuracy": float(model["w"].mean())}

    with caplog.at_level(logging.INFO, "fedbus"):
        async with running(services, Trainer(train, validate)):
            services.post(world.mail(1, tasks=[world.train(1)]))
            await services.until(lambda: services.said("submit"))
            submission = Submission.model_validate_json(services.said("submit")[0])
            assert submission.content().weight == 5
            assert submission.inline is not None
            counted = Receipt(round=1, attempt=1, fate=Fate.COUNTED)
            services.post(world.mail(2, tasks=[world.validate(1)], receipts=[counted]))
            await services.until(lambda: services.said("report"))
    report = ValidationReport.model_validate_json(services.said("report")[0])
    assert (report.weight, report.metrics) == (3, {"accuracy": 1.0})
    assert "s-1 round 1.1: training" in caplog.text
    assert "update stored" in caplog.text
    assert "update counted" in caplog.text


async def test_mail_that_waits_comes_with_the_sync(services: Services, world: Any) -> None:
    services.open_mail = [world.mail(1, tasks=[world.train(1)])]
    async with running(services, Trainer(train)):
        await services.until(lambda: services.said("submit"))


async def test_hello_is_said_again_in_the_same_words(services: Services, world: Any) -> None:
    away = Refusal(code=RefusalCode.RETRY_LATER)
    services.plan["hello"] = [BusAway("nobody"), Answer(refusal=away), BusAway("late")]
    async with running(services, Trainer(train)):
        pass
    assert len(services.said("hello")) == 4
    assert len(set(services.said("hello"))) == 1
    hello = Hello.model_validate_json(services.said("hello")[0])
    assert (hello.name, hello.key) == ("site-1", world.keys.public)


@pytest.mark.parametrize(
    ("outcome", "raised"),
    [
        (Answer(refusal=Refusal(code=RefusalCode.KEY_CHANGED)), KeyChanged),
        (Answer(refusal=Refusal(code=RefusalCode.CLIENT_UNKNOWN)), ClientUnknown),
        (NotPermitted("fl.demo.ask.x.hello", "publish to"), NotPermitted),
    ],
)
async def test_a_hello_refused_for_good_ends_the_run(
    services: Services, world: Any, outcome: Answer | Exception, raised: type[Exception]
) -> None:
    services.plan["hello"] = [outcome]
    client = Client(Trainer(train), options(world), line=services)
    with pytest.raises(raised):
        await asyncio.wait_for(client.run(), WAIT_S)


async def test_after_a_lost_connection_it_says_hello_and_syncs_again(
    services: Services, world: Any
) -> None:
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: len(services.said("submit")) == 1)
        await asyncio.sleep(0.01)
        services.lost.set()
        await services.until(lambda: len(services.said("sync")) == 2)
        [pending] = Sync.model_validate_json(services.said("sync")[1]).pending
        assert (pending.session, pending.round) == ("s-1", 1)
        await services.until(lambda: len(services.said("submit")) == 2)
        assert len(set(services.said("submit"))) == 1
        services.receipts = [SessionReceipt(session="s-1", round=1, attempt=1, fate=Fate.COUNTED)]
        services.lost.set()
        await services.until(lambda: len(services.said("sync")) == 3)
        services.lost.set()
        await services.until(lambda: len(services.said("sync")) == 4)
        assert Sync.model_validate_json(services.said("sync")[3]).pending == ()
    assert len(services.said("submit")) == 2


async def test_a_submission_is_sent_again_unchanged_until_there_is_an_answer(
    services: Services, world: Any
) -> None:
    later = Answer(refusal=Refusal(code=RefusalCode.RETRY_LATER))
    unknown = Answer(refusal=Refusal(code=RefusalCode.ROUND_UNKNOWN))
    services.plan["submit"] = [BusAway("nobody"), later, unknown, later]
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: len(services.said("submit")) == 5)
    assert len(set(services.said("submit"))) == 1


async def test_a_refused_update_is_told_with_its_meaning_and_not_sent_again(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    closed = Refusal(code=RefusalCode.ROUND_CLOSED, detail="round 1 is over")
    services.plan["submit"] = [Answer(refusal=closed)]
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: "round_closed" in caplog.text)
        services.lost.set()
        await services.until(lambda: len(services.said("sync")) == 2)
    assert "drop the update and take the next task. (round 1 is over)" in caplog.text
    assert len(services.said("submit")) == 1


async def test_a_function_that_raises_is_told_and_the_client_lives_on(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails_first(model: Any, settings: Any) -> Any:
        if settings.round == 1:
            raise ValueError("no data here")
        return train(model, settings)

    async with running(services, Trainer(fails_first)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: "the function failed" in caplog.text)
        services.post(world.mail(2, tasks=[world.train(2)]))
        await services.until(lambda: services.said("submit"))
    assert 'ValueError: no data here (file "' in caplog.text
    assert "test_client.py" in caplog.text
    assert "_work.py" not in caplog.text
    assert len(services.said("submit")) == 1


async def test_a_bad_result_names_the_tensor(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(model: Any, settings: Any) -> Any:
        return model | {"w": np.full(3, np.nan)}, 5, {}

    async with running(services, Trainer(breaks)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: "tensor 'w' holds NaN" in caplog.text)
    assert not services.said("submit")


async def test_a_withdrawn_task_is_cancelled_and_its_result_thrown_away(
    services: Services, world: Any
) -> None:
    began, seen = threading.Event(), threading.Event()

    def slow(model: Any, settings: Any) -> Any:
        if settings.round == 1:
            began.set()
            while not settings.cancelled():
                seen.wait(0.001)
            seen.set()
        return train(model, settings)

    async with running(services, Trainer(slow)):
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(began.is_set)
        services.post(world.mail(2, tasks=[world.train(2)]))
        await services.until(lambda: services.said("submit"))
    assert seen.is_set()
    [content] = services.said("submit")
    assert Submission.model_validate_json(content).content().round == 2


async def test_a_forged_mail_changes_nothing(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(services, Trainer(train)):
        forged = world.sign(world.mail(9, tasks=[world.train(9)]), key=world.other_key())
        services.hear(forged.to_bytes())
        services.hear(b"\x00")
        services.post(world.mail(1, tasks=[world.train(1)]))
        await services.until(lambda: services.said("submit"))
    assert "nobody that we trust" in caplog.text
    [content] = services.said("submit")
    assert Submission.model_validate_json(content).content().round == 1


class Store:
    """An object store behind the SDK's transfers, some of which fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blobs: dict[str, bytes] = {}
        self.failures: list[str] = []
        self.gets = 0
        monkeypatch.setattr(Blobs, "get", self.get)
        monkeypatch.setattr(Blobs, "put", self.put)

    def get(self, grant: Grant, blob: Any, stop: Any) -> bytearray:
        self.gets += 1
        self.fail()
        return bytearray(self.blobs[grant.url])

    def put(self, grant: Grant, data: Content, stop: Any) -> None:
        self.fail()
        self.blobs[grant.url] = b"".join(chunks(data))

    def fail(self) -> None:
        if self.failures:
            raise StoreAway(self.failures.pop())


async def test_large_files_go_through_the_store_which_may_fail_for_a_while(
    services: Services, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(monkeypatch)
    file = world.model_file(size=1000)
    digest = world.blob(file).digest
    store.blobs[f"http://store/{digest}"] = file
    store.failures = ["503", "503"]

    def breaks_the_store(model: Any, settings: Any) -> Any:
        store.failures = ["500"]
        return train(model, settings)

    missing = Answer(refusal=Refusal(code=RefusalCode.BLOB_MISSING))
    services.plan["submit"] = [missing]
    async with running(services, Trainer(breaks_the_store)):
        for number in (1, 2):
            task = world.train(number, model=world.model(file, inline=False), inline_bytes_max=100)
            services.post(world.mail(number, tasks=[task]))
            await services.until(lambda: len(services.said("submit")) == number + 1)  # noqa: B023
    assert store.gets == 3  # twice failed, once got, then remembered
    manifest = Submission.model_validate_json(services.said("submit")[0]).content()
    sent = _tensorfile.read(store.blobs[f"http://store/{manifest.update.digest}"])
    assert sent["w"].tolist() == [1.5] * 1000


async def test_an_upload_that_nobody_wants_any_more_is_given_up_when_nothing_of_it_is_under_way(
    services: Services, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, told, landed = threading.Event(), threading.Event(), threading.Event()

    def put(grant: Grant, data: Content, stop: Any) -> None:
        began.set()
        while not stop():
            told.wait(0.001)
        told.set()
        assert landed.wait(WAIT_S)

    monkeypatch.setattr(Blobs, "put", lambda _, *given: put(*given))

    def endings() -> list[TransferDone]:
        return [TransferDone.model_validate_json(one) for one in services.said("done")]

    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1, inline_bytes_max=0)]))
        await services.until(began.is_set)
        late = Receipt(round=1, attempt=1, fate=Fate.LATE)
        services.post(world.mail(2, tasks=[world.train(2)], receipts=[late]))
        await services.until(lambda: told.is_set() and services.said("submit"))
        assert not any(one.given_up for one in endings()), "a piece is still on the link"
        landed.set()
        await services.until(lambda: any(one.given_up for one in endings()))


async def test_a_restart_sends_the_finished_update_again_and_does_not_train_again(
    services: Services, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(monkeypatch)
    services.plan["submit"] = [BusAway("nobody")] * 1000
    task = world.train(1, inline_bytes_max=0)
    async with running(services, Trainer(train), state_dir=tmp_path):
        services.post(world.mail(1, tasks=[task]))
        await services.until(lambda: services.said("submit"))
    first = services.said("submit")[0]
    store.blobs.clear()

    again = Services(world)
    again.open_mail = [world.mail(1, tasks=[task])]

    def never(model: Any, settings: Any) -> Any:
        raise AssertionError("trained again")

    async with running(again, Trainer(never), state_dir=tmp_path):
        await again.until(lambda: again.said("submit"))
        assert again.said("submit") == [first]
        assert len(store.blobs) == 1
        counted = Receipt(round=1, attempt=1, fate=Fate.COUNTED)
        again.post(world.mail(2, receipts=[counted]))
        assert not list(tmp_path.rglob("*.json"))


async def test_a_client_runs_once(services: Services, world: Any) -> None:
    async with running(services, Trainer(train)) as client:
        with pytest.raises(RuntimeError, match="runs once"):
            await client.run()


async def test_a_folder_that_cannot_be_used_is_told(world: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for name in ("state_dir", "cache_dir"):
        with pytest.raises(BadOption, match=name):
            await Client(Trainer(train), options(world, **{name: file / "folder"})).run()


@pytest.mark.parametrize("server", ["ws://bus:8080", "wss://bus/nats"])
def test_a_websocket_server_needs_the_extra(
    world: Any, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setattr("fedbus._transport.find_spec", lambda name: None)
    servers = ("nats://127.0.0.1:1", server)
    credentials = world.credentials.model_copy(update={"servers": servers})
    with pytest.raises(BadOption, match=r"pip install 'fedbus\[websocket\]'"):
        Client(Trainer(train), Options(credentials=credentials))
    monkeypatch.setattr("fedbus._transport.find_spec", lambda name: object())
    Client(Trainer(train), Options(credentials=credentials))


async def test_a_result_that_misbehaves_costs_only_its_round(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Rude:
        def __array__(self, *_: object, **__: object) -> None:
            raise KeyError("rude")

    def returns_rude(model: Any, settings: Any) -> Any:
        if settings.round == 1:
            return model | {"w": Rude()}, 1, {}
        if settings.round == 2:
            raise SystemExit(3)
        return model, 1, {"\ud800": 1.0} if settings.round == 3 else {}

    async with running(services, Trainer(returns_rude)):
        for number in (1, 2, 3, 4):
            services.post(world.mail(number, tasks=[world.train(number)]))
            await services.until(lambda: f"round {number}.1: " in caplog.text or number == 4)  # noqa: B023
        await services.until(lambda: services.said("submit"))
    assert "KeyError" in caplog.text
    assert "SystemExit: 3" in caplog.text
    assert "metrics' names" in caplog.text


async def test_a_task_with_another_model_than_its_digest_says_is_not_trained(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = world.model().model_copy(update={"digest": "0" * 64})
    huge = world.model(inline=False).model_copy(update={"size": 2**40})
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1, model=model)]))
        await services.until(lambda: "not the one that its digest names" in caplog.text)
        services.post(world.mail(2, tasks=[world.train(2, model=huge)]))
        await services.until(lambda: "over model_bytes_max" in caplog.text)
        services.plan["grant"] = [Answer(refusal=Refusal(code=RefusalCode.BLOB_NOT_GRANTED))]
        services.post(world.mail(3, tasks=[world.train(3, model=world.model(inline=False))]))
        await services.until(lambda: "blob_not_granted" in caplog.text)
    assert not services.said("submit")


async def test_a_wrong_clock_does_not_end_the_work(services: Services, world: Any) -> None:
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1, deadline=long_ago)]))
        await services.until(lambda: services.said("submit"))


async def test_an_update_that_no_server_takes_in_time_is_kept_and_sent_later(
    services: Services, world: Any, caplog: pytest.LogCaptureFixture
) -> None:
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    services.plan["submit"] = [Answer(refusal=Refusal(code=RefusalCode.RETRY_LATER))] * 10_000
    async with running(services, Trainer(train), patience_s=1):
        services.post(world.mail(1, tasks=[world.train(1, deadline=long_ago)]))
        await services.until(lambda: "no server took the update yet" in caplog.text)
        services.plan.clear()
        tried = len(services.said("submit"))
        services.lost.set()
        await services.until(lambda: len(services.said("submit")) == tried + 1)
    assert len(set(services.said("submit"))) == 1


async def test_it_asks_for_open_tasks_now_and_then_and_says_hello_when_forgotten(
    services: Services, world: Any
) -> None:
    services.plan["hello"] = [Answer(welcome=Welcome(client=world.client, beat_s=0.01))]
    forgotten = Answer(refusal=Refusal(code=RefusalCode.CLIENT_UNKNOWN))
    services.plan["beat"] = [BusAway("nobody"), Answer(noted=Noted()), forgotten]
    async with running(services, Trainer(train), resync_s=0.05):
        await services.until(lambda: len(services.said("hello")) == 2)
        await services.until(lambda: len(services.said("sync")) > 3)
    verbs = [verb for verb, _ in services.asked]
    again = len(verbs) - 1 - verbs[::-1].index("hello")
    assert verbs[:again].count("beat") == 3


async def test_a_task_withdrawn_while_its_model_cannot_be_had_makes_room_for_the_next(
    services: Services, world: Any
) -> None:
    services.plan["grant"] = [Answer(refusal=Refusal(code=RefusalCode.RETRY_LATER))] * 10_000
    async with running(services, Trainer(train), patience_s=3600):
        services.post(world.mail(1, tasks=[world.train(1, model=world.model(inline=False))]))
        await services.until(lambda: len(services.said("grant")) > 1)
        services.post(world.mail(2, tasks=[world.train(2)]))
        await services.until(lambda: services.said("submit"))


async def test_a_forgotten_client_says_hello_again_and_its_update_is_not_lost(
    services: Services, world: Any
) -> None:
    forgotten = Answer(refusal=Refusal(code=RefusalCode.CLIENT_UNKNOWN))
    services.plan["sync"] = [forgotten]
    services.plan["submit"] = [forgotten, forgotten]
    services.open_mail = [world.mail(1, tasks=[world.train(1)])]
    async with running(services, Trainer(train)):
        await services.until(lambda: len(services.said("submit")) == 3)
    assert len(services.said("hello")) == 2
    assert len(set(services.said("submit"))) == 1


async def test_a_stored_update_is_submitted_again_without_an_upload(
    services: Services, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(monkeypatch)
    async with running(services, Trainer(train)):
        services.post(world.mail(1, tasks=[world.train(1, inline_bytes_max=0)]))
        await services.until(lambda: services.said("submit"))
        await asyncio.sleep(0.01)
        services.lost.set()
        await services.until(lambda: len(services.said("submit")) == 2)
    assert len(store.blobs) == 1
    assert len(services.said("grant")) == 1
