"""Models that are here and models on their way in: whole, checked, within the limits."""

import errno
import io
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from fedbus._models import Incoming, Models
from fedbus.errors import BadModel
from fedbus_schemas.models import BlobRef


def test_the_last_model_is_remembered(world: Any) -> None:
    models = Models(None, 1)
    data = world.model_file()
    assert models.find(world.blob(data)) is None
    models.add(world.blob(data), data)
    assert models.find(world.blob(data)) is data
    assert models.find(world.blob(b"other")) is None


def test_models_in_a_folder_are_checked_and_few(tmp_path: Path, world: Any) -> None:
    files = [world.model_file(number) for number in range(3)]
    models = Models(tmp_path, 2)
    for data in files:
        models.add(world.blob(data), data)
    again = Models(tmp_path, 2)
    assert again.find(world.blob(files[0])) is None
    assert again.find(world.blob(files[2])) == files[2]
    path = tmp_path / f"{world.blob(files[1]).digest}.safetensors"
    path.write_bytes(bytes(len(files[1])))
    assert again.find(world.blob(files[1])) is None


def names(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.glob("*.safetensors")}


def test_models_in_a_folder_are_within_a_size(tmp_path: Path, world: Any) -> None:
    files = [world.model_file(number, size=1000) for number in range(4)]
    blobs = [world.blob(data) for data in files]
    models = Models(tmp_path, 100, 2 * len(files[0]) + 10)
    for age, (blob, data) in enumerate(zip(blobs[:2], files, strict=False)):
        models.add(blob, data)
        os.utime(tmp_path / f"{blob.digest}.safetensors", (1000 + age, 1000 + age))
    assert Models(tmp_path, 100).find(blobs[0]) == files[0]  # used now, so the other one goes first
    models.add(blobs[2], files[2])
    assert names(tmp_path) == {blobs[0].digest, blobs[2].digest}
    Models(tmp_path, 100, len(files[0]) - 1)
    assert names(tmp_path) == set()
    assert models.find(blobs[2]) == files[2]  # the last one, in memory


def test_a_download_goes_on_in_another_process(tmp_path: Path, world: Any) -> None:
    data = world.model_file(size=1000)
    blob = world.blob(data)
    first = Models(tmp_path, 4, owner="me").incoming(blob)
    first.add(data[:1500])
    first.close()  # or not: a killed process leaves the same
    models = Models(tmp_path, 4, owner="me")
    assert models.find(blob) is None
    assert names(tmp_path) == set()
    second = models.incoming(blob)
    assert second.place == 1500
    second.add(data[1500:])
    assert second.is_right()
    second.close(synced=True)
    models.add(blob, second.data, second.path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{blob.digest}.safetensors"]
    assert Models(tmp_path, 4).find(blob) == data


def test_one_partial_download_a_client_is_kept(tmp_path: Path, world: Any) -> None:
    contents = [world.model_file(number) for number in range(3)]
    for owner in ("me", "you"):
        for data in contents:
            incoming = Models(tmp_path, 4, owner=owner).incoming(world.blob(data))
            incoming.add(data[:10])
            incoming.close()
    left = {path.name for path in tmp_path.iterdir()}
    digest = world.blob(contents[-1]).digest
    assert left == {f"{digest}.me.part", f"{digest}.you.part"}


def test_a_partial_download_that_is_too_long_is_begun_anew(tmp_path: Path, world: Any) -> None:
    data = world.model_file()
    models = Models(tmp_path, 4)
    (tmp_path / f"{world.blob(data).digest}..part").write_bytes(data + b"?")
    incoming = models.incoming(world.blob(data))
    assert incoming.place == 0
    incoming.add(data)
    assert incoming.is_right()
    incoming.close()


def test_a_full_disk_does_not_end_a_download(
    tmp_path: Path, world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(io.FileIO):
        def write(self, data: Any, /) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("fedbus._models.io.FileIO", Full)
    data = world.model_file()
    incoming = Models(tmp_path, 4).incoming(world.blob(data))
    with caplog.at_level(logging.WARNING, "fedbus"):
        incoming.add(data[:10])
    assert "no space left" in caplog.text
    incoming.add(data[10:])
    assert incoming.is_right()
    assert incoming.path is None
    assert list(tmp_path.iterdir()) == []
    incoming.restart()
    incoming.close(synced=True)


def test_a_model_that_does_not_fit_into_memory_is_told() -> None:
    with pytest.raises(BadModel, match="do not fit into memory"):
        Incoming(BlobRef(digest="0" * 64, size=2**62))
