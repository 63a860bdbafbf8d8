"""Kept updates: whole or not there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fedbus import _tensorfile, _updates
from fedbus._content import digest_of
from fedbus._store import KeptInFolder, KeptInMemory
from fedbus._updates import Update
from fedbus.errors import BadResult
from fedbus_schemas.updates import Timings


def update(world: Any, number: int = 1, *, apart: bool = True) -> Update:
    return _updates.make(
        project="demo",
        session="s-1",
        client=world.client,
        task=world.train(number, inline_bytes_max=0 if apart else 65536),
        trained=_updates.Trained(
            _updates.Result(_tensorfile.read(world.model_file(number)), {}), 5, {}
        ),
        timings=Timings(),
        public_key=world.keys.public,
        sign=world.keys.sign,
    )


@pytest.mark.parametrize("apart", [True, False])
def test_a_kept_update_is_there_after_a_restart(tmp_path: Path, world: Any, apart: bool) -> None:
    one = update(world, apart=apart)
    light = KeptInFolder(tmp_path, 4).keep(one)
    assert light == replace(one, result=None)
    again = KeptInFolder(tmp_path, 4)
    assert again.load() == [light]
    if apart:
        assert digest_of(again.file(light)) == light.blob.digest
    again.drop(one.key)
    assert list((tmp_path / "updates").iterdir()) == []
    again.drop(one.key)


def test_the_rest_of_a_crash_is_removed(tmp_path: Path, world: Any) -> None:
    kept = KeptInFolder(tmp_path, 4)
    kept.keep(update(world, 1))
    kept.keep(update(world, 2))
    folder = tmp_path / "updates"
    (folder / "s-1~2~1.safetensors").write_bytes(b"half")
    (folder / "s-1~3~1.json.new").write_bytes(b"half")
    (folder / "s-1~4~1.safetensors").write_bytes(b"no submission")
    (folder / "s-1~5~1.json").write_bytes(b"{}")
    (folder / "s-1~1~1.json").rename(folder / "s-1~9~9.json")
    kept.keep(update(world, 6))
    assert [one.key.round for one in kept.load()] == [6]
    assert len(list(folder.iterdir())) == 2


def test_no_more_than_the_limit_come_back(tmp_path: Path, world: Any) -> None:
    kept = KeptInFolder(tmp_path, 8)
    for number in range(1, 5):
        kept.keep(update(world, number))
    assert len(KeptInFolder(tmp_path, 2).load()) == 2
    assert len(list((tmp_path / "updates").iterdir())) == 4


def test_in_memory_the_update_carries_its_file(world: Any) -> None:
    kept, one = KeptInMemory(), update(world)
    assert kept.keep(one).file == world.model_file(1)
    assert kept.load() == []
    kept.drop(one.key)
    with pytest.raises(OSError, match="no file"):
        kept.file(one)


def test_a_result_that_changes_while_it_is_written_is_refused(tmp_path: Path, world: Any) -> None:
    one = update(world)
    assert one.result is not None
    one.result.tensors["w"][0] += 1
    with pytest.raises(BadResult, match="were changed"):
        KeptInFolder(tmp_path, 4).keep(one)
    assert KeptInFolder(tmp_path, 4).load() == []
