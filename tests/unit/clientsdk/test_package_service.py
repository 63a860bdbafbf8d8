"""Packages whose `startup(client)` is loaded once: functions called in a process that stays, within limits."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fedbus
import numpy as np
import pytest
from fedbus.consent.policy import Limits
from fedbus.errors import BadPackage, BadResult, OverLimit, PackageFailed
from fedbus.packages.host import LocalPackage, PackageHost
from fedbus.packages.limits import MIB, RunLimits
from fedbus.packages.runners import Owner, Package, Places

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packages run on Linux only")

STARTUP = """
import os, threading, time
import numpy as np
calls = []

def train(model, settings):
    calls.append(settings.round)
    do = settings.get("do")
    if do == "log":
        settings.client.log_metric({"loss": np.float32(0.5)}, step=4)
        settings.client.log_telemetry("t", {"a": np.arange(2)})
        settings.client.log_event("hello", "warning")
    if do == "listen":
        while not settings.cancelled():
            time.sleep(0.01)
        settings.client.check_task_abort()
    if do == "hang":
        time.sleep(600)
    if do == "fork":
        for _ in range(200):
            if os.fork() == 0:
                os.setsid()
                time.sleep(600)
        time.sleep(600)
    if do == "busy":
        while True:
            pass
    if do == "memory":
        kept = [bytearray(b"x" * 10**6) for _ in range(400)]
        time.sleep(600)
    if do == "raise":
        raise ValueError("no data at /x")
    if do == "exit":
        os._exit(3)
    if do == "nothing":
        return None
    if do == "noise":
        os.write(settings.client._channel._socket.fileno(), b"no message\\n")
        time.sleep(600)
    if do == "flood":
        return model, 1, {"text": "x" * 2_000_000}
    facts = {"calls": len(calls), "seed": settings.seed, "pid": os.getpid()}
    return {n: a + settings.get("step", 1) for n, a in model.items()}, 7, facts

def validate(model, settings):
    return 3, {"mean": float(model["0"].mean())}

def startup(client):
    client.log_attributes({"site": client.name})
    client.set_train_callback(train)
    client.set_validate_callback(validate)
    client.set_inference_callback(lambda m, s: {"n": len(m), "asked": s["asked"], "c": s.command})
    client.set_custom_callback("Custom_ping", ping)

def ping(model, settings):
    settings.progress(0.5, "half")
    return None if model is None else 1
"""
MODEL: fedbus.Model = {"0": np.zeros((2, 3), np.float32), "b.1": np.ones(4, np.int64)}


@dataclass
class Heard(fedbus.Recorder):
    """A recorder that keeps what it is told."""

    heard: list[tuple[str, Any]] = field(default_factory=list)

    def log_metric(self, metrics: Any, step: Any = None, **_: Any) -> None:  # type: ignore[override]
        self.heard.append(("metric", (metrics, step)))

    def log_attributes(self, attributes: Any, **_: Any) -> None:
        self.heard.append(("attributes", attributes))

    def log_telemetry(self, key: Any, payload: Any, **_: Any) -> None:
        self.heard.append(("telemetry", (key, payload)))

    def log_event(self, text: Any, level: Any = "info", **_: Any) -> None:
        self.heard.append(("event", (text, level)))


def write(folder: Path, text: str = STARTUP) -> Path:
    place = folder / "client"
    place.mkdir(exist_ok=True)
    (place / "fedbus.yaml").write_text("entry_points: {startup: startup.py}")
    (place / "startup.py").write_text(text)
    return place


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def made(tmp_path: Path, heard: Heard) -> Iterator[Package]:
    limits = RunLimits(grace_s=0.3, timeout_s=5.0, memory_bytes=200 * MIB, processes_max=50)
    places = Places(tmp_path / "work", tmp_path / "environments")
    package = Package(write(tmp_path), places, limits, owner=Owner("north", "U", heard))
    package.start()
    yield package
    package.close()
    assert not list((tmp_path / "work").iterdir())


def train(package: Package, **settings: Any) -> tuple[fedbus.Model, int, dict[str, float]]:
    return package.train(dict(MODEL), fedbus.Settings(settings, seed=5))


def test_functions_are_called_in_one_process_that_keeps_its_state(made: Package) -> None:
    trainer = made.trainer()
    model, examples, first = train(made, step=2)
    assert (examples, first["calls"], first["seed"]) == (7, 1, 5)
    assert np.array_equal(model["0"], np.full((2, 3), 2.0, np.float32))
    assert np.array_equal(model["b.1"], np.full(4, 3))
    assert model["b.1"].dtype == np.int64
    second = train(made)[2]
    assert (second["calls"], second["pid"]) == (2, first["pid"])
    assert trainer.validate is not None
    assert trainer.validate(dict(MODEL), fedbus.Settings()) == (3, {"mean": 0.0})


def test_what_it_logs_reaches_the_client(made: Package, heard: Heard) -> None:
    train(made, do="log")
    assert heard.heard == [
        ("attributes", {"site": "north"}),
        ("metric", ({"loss": 0.5}, 4)),
        ("telemetry", ("t", {"a": [0, 1]})),
        ("event", ("hello", "warning")),
    ]


def test_commands_are_answered_beside_the_training(made: Package) -> None:
    trainer = made.trainer()
    assert trainer.predict is not None
    assert trainer.stage is None
    settings = fedbus.Settings({"asked": 3}, command="c1")
    assert trainer.predict(dict(MODEL), settings) == {"n": 2, "asked": 3, "c": "c1"}
    told = list[tuple[float, str]]()
    settings = fedbus.Settings(progress=lambda fraction, text: told.append((fraction, text)))
    assert trainer.commands["ping"](None, settings) is None
    assert told == [(0.5, "half")]


def test_a_failure_carries_its_line_and_the_process_goes_on(made: Package) -> None:
    pid = train(made)[2]["pid"]
    with pytest.raises(PackageFailed, match="function train: it failed: ValueError: no data at /x"):
        train(made, do="raise")
    with pytest.raises(PackageFailed, match="TypeError: cannot unpack"):
        train(made, do="nothing")
    assert train(made)[2]["pid"] == pid


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ("hang", "timeout_s = 5 s"),
        ("fork", "processes_max = 50"),
        ("memory", "memory_bytes = 209715200"),
        ("exit", "it ended with 3"),
        ("noise", "said what is no message"),
        ("flood", "a message is too long"),
    ],
)
def test_one_that_goes_too_far_is_ended_and_begun_anew(made: Package, do: str, said: str) -> None:
    pid = int(train(made)[2]["pid"])
    with pytest.raises((PackageFailed, fedbus.TaskAborted), match=said):
        train(made, do=do)
    assert not Path(f"/proc/{pid}").exists()
    assert train(made)[2]["calls"] == 1


def test_the_owners_limits_bind_each_task_and_change_at_the_next(
    tmp_path: Path, heard: Heard
) -> None:
    owners = Limits(cpu_s=1.0)
    places = Places(tmp_path / "work", tmp_path / "environments")
    package = Package(
        write(tmp_path), places, RunLimits(), owner=Owner("north", "U", heard, lambda: owners)
    )
    package.start()
    try:
        first = train(package)[2]["pid"]
        with pytest.raises(OverLimit, match=r"cpu_s = 1 s") as told:
            train(package, do="busy")
        assert told.value.rule == "limits.cpu_s"
        second = train(package)[2]["pid"]
        owners = Limits(memory_mib=64)
        with pytest.raises(OverLimit, match="memory_bytes = 67108864") as told:
            train(package, do="memory")
        assert told.value.rule == "limits.memory_mib"
        assert len({first, second, train(package)[2]["pid"]}) == 3
    finally:
        package.close()


def test_a_withdrawn_task_is_told_and_one_that_does_not_listen_is_ended(made: Package) -> None:
    pid = train(made)[2]["pid"]
    began = time.monotonic()

    def soon() -> bool:
        return time.monotonic() > began + 0.3

    settings = fedbus.Settings({"do": "listen"}, cancelled=soon)
    with pytest.raises(fedbus.TaskAborted, match="gave up"):
        made.train(dict(MODEL), settings)
    assert train(made)[2]["pid"] == pid
    began = time.monotonic()
    with pytest.raises(fedbus.TaskAborted, match="the package was ended"):
        made.train(dict(MODEL), fedbus.Settings({"do": "hang"}, cancelled=soon))
    assert train(made)[2]["pid"] != pid


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise OSError('no camera')", "OSError: no camera"),
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("x = 1", "has no function startup"),
        ("def startup(client): client.set_train_callback(3)", "cannot be called: 3"),
        ("def startup(client): pass", "called no set_train_callback"),
        ("def startup(client): client.fly()", "no attribute 'fly'"),
    ],
)
def test_says_what_is_wrong_with_a_startup(tmp_path: Path, text: str, said: str) -> None:
    host = LocalPackage(write(tmp_path, text), tmp_path / "state")
    with pytest.raises((PackageFailed, BadPackage), match=said):
        host.trainer("", None, lambda: False)
    host.end()


def test_a_result_that_is_no_model_is_refused(tmp_path: Path) -> None:
    text = "def startup(client): client.set_train_callback(lambda m, s: ({'0': m['0']}, 0, {}))"
    host = LocalPackage(write(tmp_path, text), tmp_path / "state")
    trainer = host.trainer("", None, lambda: False)
    with pytest.raises(BadResult, match="num_examples = 0"):
        trainer.train(dict(MODEL), fedbus.Settings())
    host.end()


def test_a_changed_local_folder_is_in_force_at_the_next_task(tmp_path: Path) -> None:
    host = LocalPackage(write(tmp_path), tmp_path / "state")
    first = host.trainer("", None, lambda: False)
    assert first.train(dict(MODEL), fedbus.Settings())[1] == 7
    write(tmp_path, STARTUP.replace("}, 7, facts", "}, 8, facts  # changed"))
    assert host.trainer("", None, lambda: False).train(dict(MODEL), fedbus.Settings())[1] == 8
    host.end()


def test_scaleouts_commands_get_their_container(tmp_path: Path) -> None:
    place = tmp_path / "client"
    place.mkdir()
    (place / "scaleout.yaml").write_text("entry_points: {train: {command: python train.py}}")
    (place / "train.py").write_text("""
import json, sys, zipfile
given, made = sys.argv[1:]
with zipfile.ZipFile(given) as container:
    facts = json.loads(container.read("metadata.json"))
    model = container.read("training_model.bin")
assert facts["helper_type"] == "numpyhelper"
with zipfile.ZipFile(made, "w") as container:
    container.writestr("metadata.json", "{}")
    container.writestr("training_model.bin", model)
json.dump({"training_metadata": {"num_examples": 2}}, open(made + "-metadata", "w"))
""")
    made = Package(place, Places(tmp_path / "w", tmp_path / "e"))
    model, examples, _ = made.train(dict(MODEL), fedbus.Settings(model="ab"))
    assert examples == 2
    assert np.array_equal(model["b.1"], MODEL["b.1"])


def test_what_a_killed_client_left_is_removed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "run-999999999-x").mkdir(parents=True)
    (work / f"run-{os.getpid()}-y").mkdir()
    PackageHost(tmp_path).begin("a", "U", fedbus.Recorder(), Limits)
    assert [path.name for path in work.iterdir()] == [f"run-{os.getpid()}-y"]


def test_the_child_does_not_see_the_clients_modules(tmp_path: Path) -> None:
    place = write(tmp_path, "import limits\ndef startup(client): pass")
    (place / "limits.py").write_text("")
    host = LocalPackage(place, tmp_path / "state")
    with pytest.raises(BadPackage, match="called no set_train_callback"):
        host.trainer("", None, lambda: False)
