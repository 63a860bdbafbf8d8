"""Packages that run: FEDn's files in and out, and an end for those that fork, hang, fill or fail."""

import json
import os
import sys
import time
from pathlib import Path

import fedbus
import numpy as np
import pytest
from fedbus.errors import BadPackage, BadResult, PackageFailed
from fedbus.packages import containment, environment
from fedbus.packages.limits import MIB, RunLimits
from fedbus.packages.manifest import read_manifest, read_python_env
from fedbus.packages.runners import Package, Places

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packages run on Linux only")

TRAIN = """
import json, sys
import numpy as np
given, made = sys.argv[1:]
arrays = np.load(given)
settings = json.load(open(given + "-metadata"))
np.savez_compressed(made, **{name: arrays[name] + settings["step"] for name in arrays.files})
json.dump({"num_examples": 7, "loss": 0.5, "note": "text"}, open(made + "-metadata", "w"))
"""
VALIDATE = """
import json, sys
import numpy as np
arrays = np.load(sys.argv[1])
json.dump({"mean": float(arrays["0"].mean()), "num_examples": 3}, open(sys.argv[2], "w"))
"""
MODEL = {"0": np.zeros((2, 3), np.float32), "1": np.ones(4, np.float32)}


def package(folder: Path, **files: str) -> Path:
    """Write a package in FEDn's style."""
    place = folder / "client"
    place.mkdir()
    entries = {name: {"command": f"python {name}.py"} for name in files}
    (place / "fedn.yaml").write_text(json.dumps({"entry_points": entries}))
    for name, text in files.items():
        (place / f"{name}.py").write_text(text)
    return place


def loaded(folder: Path, tmp_path: Path, **limits: float) -> Package:
    places = Places(tmp_path / "work", tmp_path / "environments")
    return Package(folder, places, RunLimits(**limits))  # type: ignore[arg-type]


def test_a_package_in_fedns_style_trains_and_validates(tmp_path: Path) -> None:
    made = loaded(package(tmp_path, train=TRAIN, validate=VALIDATE), tmp_path)
    trainer = made.trainer()
    model, examples, metrics = trainer.train(dict(MODEL), fedbus.Settings({"step": 2.0}))
    assert (examples, metrics) == (7, {"loss": 0.5})
    assert np.array_equal(model["0"], np.full((2, 3), 2.0, np.float32))
    assert np.array_equal(model["1"], np.full(4, 3.0, np.float32))
    assert trainer.validate is not None
    assert trainer.validate(dict(MODEL), fedbus.Settings()) == (3, {"mean": 0.0})
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"num_examples": 7', '"num_examples": 0'), "num_examples = 0"),
        (('"num_examples": 7, ', ""), "num_examples = None"),
        (("json.dump(", "print("), "wrote no JSON to out.npz-metadata"),
        (("np.savez_compressed(made", "dict(a=made"), "wrote no model"),
        (("arrays[name] + settings", "np.ones(3) + settings"), "shape"),
    ],
)
def test_says_what_a_package_left_out(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    made = loaded(package(tmp_path, train=TRAIN.replace(*change)), tmp_path)
    with pytest.raises((BadResult, PackageFailed, fedbus.BadModel), match=said):
        made.train(dict(MODEL), fedbus.Settings({"step": 2.0}))


OWN = """
import struct
import numpy as np

class Helper:
    def to_file(self, arrays, path):
        path.write_bytes(b"OWN" + b"".join(arrays[n].astype("<f4").tobytes() for n in sorted(arrays)))

    def from_file(self, path, like):
        flat = np.frombuffer(path.read_bytes()[3:], "<f4")
        found, place = {}, 0
        for name in sorted(like):
            found[name] = flat[place : place + like[name].size].reshape(like[name].shape)
            place += like[name].size
        return found
"""


def test_a_helper_that_the_package_ships_runs_with_it(tmp_path: Path) -> None:
    train = """
import json, sys
data = open(sys.argv[1], "rb").read()
assert data.startswith(b"OWN")
open(sys.argv[2], "wb").write(data)
json.dump({"num_examples": 1}, open(sys.argv[2] + "-metadata", "w"))
"""
    place = package(tmp_path, train=train)
    (place / "fedbus.yaml").write_text(
        "helper: own\nentry_points: {train: {command: python train.py}}"
    )
    (place / "own.py").write_text(OWN)
    model, _, _ = loaded(place, tmp_path).train(dict(MODEL), fedbus.Settings())
    assert np.array_equal(model["1"], MODEL["1"])
    (place / "own.py").write_text(OWN.replace("reshape(like[name].shape)", "copy()"))
    with pytest.raises(fedbus.BadModel, match="shape"):
        loaded(place, tmp_path).train(dict(MODEL), fedbus.Settings())
    (place / "own.py").write_text("import os\nos._exit(7)")
    with pytest.raises(PackageFailed, match=r"helper own.py: it ended with 7"):
        loaded(place, tmp_path).train(dict(MODEL), fedbus.Settings())


def test_a_failure_carries_the_packages_own_line(tmp_path: Path) -> None:
    made = loaded(
        package(tmp_path, train="import json\nraise ValueError('no data at /x')"), tmp_path
    )
    with pytest.raises(PackageFailed) as caught:
        made.train(dict(MODEL), fedbus.Settings())
    assert caught.value.line == "ValueError: no data at /x"
    assert caught.value.how == "it ended with 1"


DAEMON = """
import os, pathlib, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        pathlib.Path({file!r}).write_text(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not pathlib.Path({file!r}).exists():
    time.sleep(0.01)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_package_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    made = loaded(package(tmp_path, startup=DAEMON.format(file=str(file))), tmp_path)
    ended = made.run("startup", work=tmp_path)
    assert ended.left == 1
    assert not is_alive(int(file.read_text()))


def test_a_withdrawn_task_ends_the_whole_tree(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    text = (
        DAEMON.format(file=str(file))
        + "\nimport signal\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)"
    )
    made = loaded(package(tmp_path, train=text), tmp_path, grace_s=0.2)
    started = time.monotonic()
    with pytest.raises(fedbus.TaskAborted, match="withdrawn"):
        made.run("train", "a", "b", work=tmp_path, cancelled=file.exists)
    assert time.monotonic() - started < 30
    assert not is_alive(int(file.read_text()))


FORK = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
time.sleep(600)
"""
CHILD = """
import subprocess, sys
while True:
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"])
"""
MEMORY = "import time\nkept = [bytearray(b'x' * 10**6) for _ in range(400)]\ntime.sleep(600)"
ONE_GRAB = "kept = bytearray(4 * 2**30)"
DISK = "import time\nfor n in range(100):\n    open(f'f{n}', 'wb').write(b'x' * 10**6)\ntime.sleep(600)"
ONE_FILE = "open('f', 'wb').write(b'x' * 10**8)"


@pytest.mark.parametrize(
    ("text", "limits", "how", "line"),
    [
        ("import time\ntime.sleep(600)", {"timeout_s": 1.0}, "timeout_s", ""),
        (FORK, {"processes_max": 50}, "processes_max", ""),
        (MEMORY, {"memory_bytes": 200 * MIB}, "memory_bytes", ""),
        (ONE_GRAB, {"memory_bytes": 200 * MIB}, "it ended with 1", "MemoryError"),
        ("while True: pass", {"cpu_s": 0.5}, "cpu_s = 0.5", ""),
        (CHILD, {"cpu_s": 0.5}, "cpu_s = 0.5", ""),
        (DISK, {"disk_bytes": 30 * MIB}, "disk_bytes", ""),
        (
            ONE_FILE,
            {"disk_bytes": 30 * MIB},
            "it ended with 1",
            "OSError: [Errno 27] File too large",
        ),
        ("import os\nos.kill(os.getpid(), 9)", {}, "ended by signal 9|ended with 137", ""),
    ],
    ids=[
        "hangs",
        "forks",
        "memory",
        "one grab",
        "computes",
        "its children compute",
        "disk",
        "one file",
        "dies",
    ],
)
def test_a_package_that_takes_too_much_is_ended(
    tmp_path: Path, text: str, limits: dict[str, float], how: str, line: str
) -> None:
    made = loaded(package(tmp_path, train=text), tmp_path, **limits)
    with pytest.raises(PackageFailed, match=how) as caught:
        made.run("train", work=tmp_path / "client")
    assert caught.value.line in (line, "Killed")  # what dash says and bash does not


SHARED = """
import os
kept = bytearray(b"x" * 60 * 10**6)
children = []
for _ in range(6):
    children.append(os.fork())
    if children[-1] == 0:
        break
if 0 in children:
    import time
    time.sleep(0.6)
    os._exit(0)
for child in children:
    os.waitpid(child, 0)
"""


def test_memory_that_a_fork_left_shared_counts_once(tmp_path: Path) -> None:
    made = loaded(package(tmp_path, train=SHARED), tmp_path, memory_bytes=200 * MIB)
    made.run("train", work=tmp_path)


def test_an_output_without_end_costs_no_memory(tmp_path: Path) -> None:
    made = loaded(package(tmp_path, build="for n in range(10**6): print('x' * 50)"), tmp_path)
    assert len(made.run("build", work=tmp_path).stdout) <= 16 * 1024


def test_the_clients_own_variables_stay_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDBUS_SECRET", "s")
    monkeypatch.setenv("DATA_PATH", "/data")
    text = "import os\nprint(sorted(k for k in os.environ if k in ('FEDBUS_SECRET', 'DATA_PATH')))"
    made = loaded(package(tmp_path, build=text), tmp_path)
    assert made.run("build", work=tmp_path).stdout.strip() == "['DATA_PATH']"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("fedn.yaml", "[1]", "must be a mapping"),
        ("fedn.yaml", "a: [", "no YAML"),
        ("fedn.yaml", "entry_points: {train: {}}", "needs a command"),
        ("fedn.yaml", "entry_points: {fly: {command: x}}", "no entry point 'fly'"),
        ("fedn.yaml", "python_env: ../x\nentry_points: {}", "not there"),
        ("fedn.yaml", "entry_points: {startup: startup.py}", "needs a command"),
        ("scaleout.yaml", "entry_points: {startup: startup.py}", "which is not there"),
        ("scaleout.yaml", "entry_points: {startup: ../startup.py}", "file of the package"),
        ("scaleout.yaml", "entry_points: {train: train.py}", "needs a command"),
        ("fedbus.yaml", "entrypoints: {}", "no key 'entrypoints'"),
        ("fedbus.yaml", "helper: nothing", "no helper is named 'nothing'"),
    ],
)
def test_says_what_is_wrong_with_a_manifest(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((BadPackage, fedbus.BadOption), match=said):
        loaded(tmp_path, tmp_path)


def test_an_environment_is_built_once_and_a_broken_one_anew(tmp_path: Path) -> None:
    place = package(tmp_path, build="import sys\nprint(sys.prefix)")
    (place / "fedn.yaml").write_text(
        "python_env: python_env.yaml\nentry_points: {build: {command: python build.py}}"
    )
    (place / "python_env.yaml").write_text("name: x\npython: '3.8'\ndependencies: []\n")
    digest = environment.digest_of(place, _wanted(place))
    killed = tmp_path / "environments" / digest
    killed.mkdir(parents=True)
    (killed / "half").touch()
    made = loaded(place, tmp_path)
    assert made.run("build", work=tmp_path).stdout.strip() == str(killed)
    assert not (killed / "half").exists()
    made.close()
    born = (killed / environment.MARK).stat().st_mtime_ns
    loaded(place, tmp_path).close()
    assert (killed / environment.MARK).stat().st_mtime_ns == born
    (place / "python_env.yaml").write_text("dependencies: [no-such-package-of-ours==99]\n")
    with pytest.raises(PackageFailed, match=r"cannot be built.*ERROR: "):
        loaded(place, tmp_path)
    kept = sorted(path.name for path in (tmp_path / "environments").iterdir() if path.is_dir())
    assert kept == [digest]


def _wanted(place: Path):
    wanted = read_python_env(place, read_manifest(place))
    assert wanted is not None
    return wanted


def test_the_tree_ends_when_the_client_dies(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    text = DAEMON.format(file=str(file)) + "\ntime.sleep(600)"
    place = package(tmp_path, train=text)
    script = (
        "from pathlib import Path\nfrom fedbus.packages.runners import Package, Places\n"
        f"p = Path({str(tmp_path)!r})\n"
        f"Package(Path({str(place)!r}), Places(p / 'w', p / 'e')).run('train', work=p)"
    )
    client = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", script])
    _until(file.exists)
    os.kill(client, 9)
    os.waitpid(client, 0)
    _until(lambda: not is_alive(int(file.read_text())))


def _until(holds) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_finds_the_line_that_says_what_went_wrong() -> None:
    chained = (
        "Traceback (most recent call last):\n  x\nKeyError: 1\n\n"
        "Traceback (x):\n  y\nOops: 2\n  more\nbye"
    )
    assert containment.error_line(chained) == "Oops: 2"
    assert containment.error_line("a\nERROR: no version\nnotice: b\n") == "ERROR: no version"
    assert containment.error_line("") == ""
