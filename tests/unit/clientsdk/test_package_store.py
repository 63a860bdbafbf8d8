"""What a client keeps of packages: side by side, within a size, and as before when a new one does not start."""

import json
import os
import sys
from pathlib import Path

import fedbus
import numpy as np
import pytest
from fedbus.consent.policy import Limits
from fedbus.errors import BadPackage, PackageFailed
from fedbus.packages import environment, room
from fedbus.packages.archive import create
from fedbus.packages.host import ENVIRONMENTS, PACKAGES, PackageHost
from fedbus.packages.limits import StoreLimits
from fedbus.packages.locking import locked_if_free, shared
from fedbus.packages.manifest import read_manifest, read_python_env
from fedbus.packages.runners import Package, Places

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packages run on Linux only")

STARTUP = """
import os
def train(model, settings):
    return {n: a + STEP for n, a in model.items()}, 1, {"pid": os.getpid()}
def startup(client):
    open("ran", "w").write("here")
    client.set_train_callback(train)
"""
MODEL: fedbus.Model = {"0": np.zeros(2, np.float32)}


def never() -> bool:
    return False


def packed(folder: Path, name: str, text: str) -> tuple[str, bytes]:
    place = folder / name
    place.mkdir()
    (place / "fedbus.yaml").write_text("entry_points: {startup: startup.py}")
    (place / "startup.py").write_text(text)
    made = create(place, folder / f"{name}.tgz")
    return made.digest, made.path.read_bytes()


def host(folder: Path, device: str = "U1", **limits: int) -> PackageHost:
    made = PackageHost(folder / "state", store_limits=StoreLimits(**limits))
    made.begin("site", device, fedbus.Recorder(), Limits)
    return made


def train(made: fedbus.Trainer) -> tuple[float, float]:
    model, _, metrics = made.train(dict(MODEL), fedbus.Settings())
    return float(np.asarray(model["0"])[0]), metrics["pid"]


def kept(folder: Path, device: str = "U1") -> set[str]:
    place = folder / "state" / PACKAGES / device
    return {path.name for path in place.iterdir() if path.is_dir()}


def test_a_restart_begins_a_new_process_and_the_old_one_ends(tmp_path: Path) -> None:
    digest, archive = packed(tmp_path, "one", STARTUP.replace("STEP", "1"))
    made = host(tmp_path)
    _, pid = train(made.trainer(digest, archive, never))
    made.restart(digest, None, never)
    step, new = train(made.trainer(digest, None, never))
    assert step == 1
    assert new != pid
    assert not Path(f"/proc/{int(pid)}").exists()
    made.end()


def test_a_package_that_does_not_start_leaves_all_as_it_was(tmp_path: Path) -> None:
    digest, archive = packed(tmp_path, "one", STARTUP.replace("STEP", "1"))
    broken, bad = packed(tmp_path, "two", "raise OSError('no camera')")
    made = host(tmp_path)
    _, pid = train(made.trainer(digest, archive, never))
    with pytest.raises(PackageFailed, match="OSError: no camera"):
        made.restart(broken, bad, never)
    assert kept(tmp_path) == {digest}
    assert train(made.trainer(digest, None, never)) == (1, pid)
    # The same package, whose camera is gone by now: the process that runs goes on.
    (tmp_path / "state" / PACKAGES / "U1" / digest / "startup.py").write_text("raise OSError('x')")
    with pytest.raises(PackageFailed, match="OSError: x"):
        made.restart(digest, None, never)
    assert train(made.trainer(digest, None, never)) == (1, pid)
    made.end()


def test_an_archive_with_another_digest_is_refused(tmp_path: Path) -> None:
    _, archive = packed(tmp_path, "one", STARTUP)
    made = host(tmp_path)
    with pytest.raises(BadPackage, match="is not the package"):
        made.restart("0" * 64, archive, never)
    assert not (tmp_path / "state" / PACKAGES).exists()


def test_clients_of_one_machine_write_into_folders_of_their_own(tmp_path: Path) -> None:
    digest, archive = packed(tmp_path, "one", STARTUP.replace("STEP", "1"))
    for device in ("U1", "U2"):
        made = host(tmp_path, device)
        made.trainer(digest, archive, never)
        made.end()
        assert (tmp_path / "state" / PACKAGES / device / digest / "ran").is_file()


def test_packages_used_longest_ago_go_first_and_those_in_use_stay(tmp_path: Path) -> None:
    made = host(tmp_path, packages_max=2)
    digests = []
    for step in range(3):
        digest, archive = packed(tmp_path, f"p{step}", STARTUP.replace("STEP", str(step)))
        digests.append(digest)
        made.trainer(digest, archive, never)
    assert kept(tmp_path) == {*digests}  # all of them run
    made.end()
    digest, archive = packed(tmp_path, "p3", STARTUP.replace("STEP", "3"))
    made.trainer(digest, archive, never)
    assert kept(tmp_path) == {digests[2], digest}
    made.end()


def with_environment(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    (place / "fedn.yaml").write_text(json.dumps({"python_env": "e.yaml", "entry_points": {}}))
    (place / "e.yaml").write_text("dependencies: [-r needs.txt]")
    (place / "needs.txt").write_text(f"# nothing, {name}")
    return place


def pretend(folder: Path, environments: Path) -> None:
    """Leave the mark of an environment that was built: building takes seconds."""
    wanted = read_python_env(folder, read_manifest(folder))
    assert wanted is not None
    built = environments / environment.digest_of(folder, wanted)
    built.mkdir(parents=True)
    (built / environment.MARK).touch()


def test_environments_are_kept_within_a_number_and_one_in_use_stays(tmp_path: Path) -> None:
    places = Places(tmp_path / "work", tmp_path / ENVIRONMENTS, StoreLimits(environments_max=1))

    def digests() -> set[str]:
        return {path.name for path in places.environments.iterdir() if path.is_dir()}

    folders = [with_environment(tmp_path, name) for name in "abc"]
    pretend(folders[0], places.environments)
    pretend(folders[1], places.environments)
    first, second = digests()
    used = Package(folders[1], places)
    Package(folders[0], places).close()
    made = Package(folders[2], places)
    assert len(digests()) == 2  # the one that is used, and the new one
    assert len(digests() & {first, second}) == 1
    used.close()
    made.close()


def test_room_is_made_by_size_and_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    for place, name in enumerate(("old", "held", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 100_000)
        shared(room.lock_of(tmp_path / name), never).close()
        os.utime(room.lock_of(tmp_path / name), (place, place))
    (tmp_path / "half.gone").mkdir()
    with locked_if_free(room.lock_of(tmp_path / "held")) as ours:
        assert ours
        with locked_if_free(room.lock_of(tmp_path / "held")) as again:
            assert not again
        removed = room.make(tmp_path, count_max=9, bytes_max=150_000, spare=("new",))
    assert removed == ["old"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"held", "new"}
