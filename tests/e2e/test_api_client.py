"""`APIClient` on a real stack: each call, and what the server then has."""

import asyncio
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fedbus._tensorfile import read, write
from fedbus.api import ApiAway, APIClient, ApiError, AsyncAPIClient
from fedbus.api._told import Event
from fedbus.errors import BadOption
from fedbus_local.stack import LocalStack
from fedbus_schemas.views import LiveUpdate, LoggedEvent

from tests.stacks import Federation, eventually, federation
from tests.trainers import TINY

ROUNDS = 3


def client(fed: Federation) -> APIClient:
    _, _, port = fed.stack.api_url.rpartition(":")
    return APIClient("127.0.0.1", int(port), fed.stack.api_token, project=fed.project)


def seed(folder: Path) -> Path:
    """A seed as FEDn's numpyhelper writes it: arrays by number."""
    path = folder / "seed.npz"
    np.savez(path, *(TINY[name] for name in sorted(TINY)))
    return path


async def test_models_sessions_rounds(stack: LocalStack, tmp_path: Path) -> None:
    async with federation(stack, clients=2) as fed:
        await asyncio.to_thread(_trains, fed, tmp_path)


def _trains(fed: Federation, tmp_path: Path) -> None:
    with client(fed) as api:
        with pytest.raises(ApiError) as none_yet:
            api.start_session()
        assert none_yet.value.code == "not_found"

        listed = api.set_active_model(seed(tmp_path), name="from-fedn")
        assert api.get_active_model().digest == listed.digest
        arrays = read(api.download_model(listed.digest, tmp_path / "it").read_bytes())
        assert sorted(arrays) == ["0", "1"]
        path = tmp_path / "seed.safetensors"
        path.write_bytes(write(TINY))
        initial = api.set_active_model(path, name="seed")
        assert api.set_initial_model(path, name="seed") == initial
        assert api.get_models_count() == 2

        started = api.start_session(
            "digits",
            "fedavgm",
            {"momentum": 0.5},
            rounds=ROUNDS,
            round_timeout=120,
            min_clients=2,
            requested_clients=2,
            round_buffer_size=2,
            helper="numpyhelper",
            model_id=initial.digest,
            session_id="digits-1",
            seed=7,
        )
        settings = started.settings
        assert (settings.name, settings.aggregator, settings.minimum) == ("digits", "fedavgm", 2)
        assert (settings.invited, settings.target, settings.round_timeout_s) == (2, 2, 120)
        assert settings.aggregator_parameters["momentum"] == 0.5
        assert (settings.keep_updates, settings.helper) == (True, "numpyhelper")

        told = list(api.watch("digits-1"))
        logged = [one for one in told if isinstance(one, LoggedEvent)]
        assert logged == list(api.get_statuses("digits-1"))
        assert logged[-1].type == "session.completed.v1"
        assert list(api.watch("digits-1", after=logged[-1].sequence)) == []

        _after_training(api, initial.digest, tmp_path)
        more_rounds = api.continue_session("digits-1", rounds=1, round_timeout=90)
        assert more_rounds.rounds_total == ROUNDS + 1
        more = [one for one in api.watch("digits-1") if isinstance(one, LoggedEvent)]
        assert more[: len(logged)] == logged
        assert [one.type for one in more].count("session.completed.v1") == 2
        assert api.get_session(name="digits").rounds_completed == ROUNDS + 1
        runs = list(api.get_runs("digits-1", sort="run"))
        assert [(one.rounds, one.outcome) for one in runs] == [
            (ROUNDS, "completed"),
            (1, "completed"),
        ]
        assert api.get_runs_count(filters={"session": "digits-1"}) == 2
        assert api.archive_session("digits-1").archived is not None


def _after_training(api: APIClient, initial: str, tmp_path: Path) -> None:
    assert api.session_is_finished("digits-1")
    logged = list(api.get_statuses("digits-1"))
    assert api.get_status("digits-1", logged[-1].number)[-1] == logged[-1]
    assert api.get_statuses_count("digits-1", "round.completed.v1") == ROUNDS
    assert api.get_session_status("digits-1") == "completed"
    assert api.get_session("digits-1").rounds_completed == ROUNDS
    assert [one.session for one in api.get_sessions(filters={"phase": "completed"})] == ["digits-1"]
    assert api.get_sessions_count(filters={"phase": "running"}) == 0

    rounds = list(api.get_rounds(session_id="digits-1", sort="number"))
    assert [one.number for one in rounds] == [1, 2, 3]
    assert [one.number for one in api.get_rounds(2)] == [3, 2]
    assert api.get_rounds_count(filters={"number__gte": 2}) == 2
    assert api.get_round("digits-1", 2).attempts[-1].counted == 2
    assert {span.name for span in api.get_round_timeline("digits-1", 1).spans} >= {"train", "fold"}

    last = api.get_active_model().digest
    trail = [one.digest for one in api.get_model_trail()]
    assert trail == [initial, *(one.model for one in rounds)]
    assert [one.digest for one in api.get_model_trail(last, reverse=False)] == trail[::-1]
    assert [one.digest for one in api.get_model_trail(include_self=False, n_max=1)] == [trail[-2]]
    assert len(list(api.get_models("digits-1"))) == ROUNDS
    path = api.download_model(last, tmp_path / "last.safetensors")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == last == api.get_model(last).digest
    assert len(read(path.read_bytes())) == len(TINY)

    assert api.get_clients_count() == api.get_clients_count(only_active=True) == 2
    [first, second] = api.get_clients(sort="name")
    assert (first.name, second.name) == ("site-001", "site-002")
    assert api.get_client(first.client) == first
    assert {one.client for one in api.get_active_clients()} == {first.client, second.client}
    [combiner, *_] = api.get_combiners()
    assert api.get_combiner(combiner.name).name == combiner.name
    assert api.get_combiners_count() >= 1
    assert api.get_controller_status().sessions == {"completed": 1}
    assert "fedavgm" in {one.name for one in api.get_aggregators()}
    assert list(api.get_refusals()) == list(api.get_dead_letters()) == []


async def test_validations(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        session = await fed.start(TINY, rounds=1)
        last = await fed.ended(session)
        with client(fed) as api:

            async def reported() -> bool:
                return await asyncio.to_thread(api.get_validations_count) == 2

            await eventually(reported, "both validated")
            found = await asyncio.to_thread(lambda: list(api.get_validations(session, last)))
            assert {one.model for one in found} == {last}
            assert len(found) == 2


async def test_orders_and_a_watch_while_the_api_restarts(stack: LocalStack) -> None:
    async with federation(stack, clients=2) as fed:
        fed.gate.close(fed.names[:1], 2)
        seen: list[Event] = []

        async def told() -> bool:
            return bool(seen)

        with client(fed) as api:
            with fed.gate.shut():
                session = await fed.start(TINY, rounds=ROUNDS)
                watching = fed.group.create_task(
                    asyncio.to_thread(lambda: seen.extend(api.watch(session)))
                )
                await eventually(told, "the watch tells the opening")
            story = fed.stories[session]
            await story.until(lambda: story.stored(2), "an update of round 2 is stored")
            paused = await asyncio.to_thread(api.pause_session, session)
            assert paused.phase == "paused"
            await asyncio.to_thread(stack.restart, "api")
            assert (await asyncio.to_thread(api.resume_session, session)).phase == "running"
            fed.gate.open()
            await fed.ended(session)
            await watching
            logged = [one for one in seen if isinstance(one, LoggedEvent)]
            assert logged == await asyncio.to_thread(lambda: list(api.get_statuses(session)))
            assert any(isinstance(one, LiveUpdate) for one in seen)
            fed.gate.close(fed.names, 1)
            other = await fed.start(TINY, rounds=1)
            stopped = await asyncio.to_thread(api.stop_session, other, "enough")
            assert (stopped.phase, stopped.reason) == ("stopped", "enough")
            with pytest.raises(ApiError) as ended:
                await asyncio.to_thread(api.pause_session, other)
            assert (ended.value.code, ended.value.status) == ("session_ended", 409)


async def test_packages_as_the_faq_sets_them(stack: LocalStack, tmp_path: Path) -> None:
    """FEDn's FAQ: `set_package`, `set_initial_model`; a federation that is configured refuses it."""
    first, second = _package(tmp_path / "a.tgz", "1"), _package(tmp_path / "b.tgz", "2")
    async with (
        federation(stack, clients=1) as fed,
        AsyncAPIClient(stack.api_url, token=stack.api_token, project=fed.project) as api,
    ):
        with pytest.raises(ApiError) as none_yet:
            await api.get_active_package()
        assert none_yet.value.code == "not_found"
        active = await api.set_package(first, helper="numpyhelper", name="mnist")
        assert active.active
        assert active.digest == hashlib.sha256(first.read_bytes()).hexdigest()
        assert await api.get_active_package() == await api.get_package(active.digest) == active
        assert await api.get_package_checksum() == active.digest
        copy = await api.download_package(tmp_path / "copy.tgz")
        assert copy.read_bytes() == first.read_bytes()
        assert [one.name async for one in api.get_packages()] == ["mnist"]
        assert await api.get_packages_count() == 1
        assert (await api.deactivate_package()).package is None
        assert (await api.set_active_package(first)).active

        sizes: list[tuple[int, int]] = []
        model = await api.set_initial_model(
            seed(tmp_path), progress=lambda done, total: sizes.append((done, total))
        )
        assert sizes[-1] == (model.size, model.size)
        started = await api.start_session(rounds=1, round_timeout=60)
        assert (started.package, started.model) == (active.digest, model.digest)
        with pytest.raises(ApiError) as configured:
            await api.set_package(second)
        assert configured.value.code == "federation_configured"
        other = hashlib.sha256(second.read_bytes()).hexdigest()
        assert (await api.initialise(other, model.digest)).generation == 2
        assert (await api.get_active_package()).digest == other
        assert [one.number for one in (await api.get_federation()).generations] == [1]
        await api.stop_session(started.session)
        told = [one async for one in api.watch(started.session)]
        assert told[-1].type == "session.stopped.v1"
        assert [one async for one in api.get_statuses(started.session)] == told


def _package(path: Path, text: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("client/fedn.yaml")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_what_is_wrong_is_said(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBUS_DIR", str(stack.layout.root))
    with APIClient() as api:  # the local stack, without arguments
        assert api.get_controller_status().project == "default"
        with pytest.raises(ApiError) as unknown:
            list(api.get_sessions(filters={"nothing": 1}))
        assert unknown.value.code == "field_unknown"
    with APIClient(stack.api_url) as api, pytest.raises(ApiError) as refused:
        api.get_sessions_count()  # the local token goes to no host that was named
    assert refused.value.code == "unauthorized"
    monkeypatch.setenv("FEDBUS_API_TOKEN", stack.api_token)
    with APIClient(stack.api_url) as api:
        assert api.get_sessions_count() == 0
    with APIClient("127.0.0.1", 9) as api, pytest.raises(ApiAway):
        api.get_sessions_count()
    monkeypatch.setenv("FEDBUS_DIR", str(tmp_path))
    with pytest.raises(BadOption, match="fedbus up"):
        APIClient()
