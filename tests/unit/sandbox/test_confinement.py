"""What server functions must not be able to do; the caller is unharmed each time."""

from pathlib import Path

import pytest
from fedbus_core.aggregation.server_functions import FunctionFailed

from tests.unit.sandbox.calls import call, mean_after


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "seed.nk"
    path.write_text("SUSECRET")
    return path


ESCAPES = {
    "a secret file": "open(PLACE).read()",
    "a system file": "open('/etc/passwd').read()",
    "a folder": "os.listdir('/')",
    "our environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "its own folder": "open('x', 'w')",
    "a file elsewhere": "open(PLACE + '.new', 'w')",
    "a file's rights": "os.chmod(PLACE, 0o777)",
    "a socket": "import socket; socket.socket()",
    "a local socket": "import socket; socket.socketpair()",
    "a process": "os.fork()",
    "a program": "import subprocess; subprocess.run(['id'])",
    "our process": "os.kill(os.getppid(), 9)",
    "10 GB": "bytearray(10 * 1024**3)",
    "its limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
}


@pytest.mark.parametrize("what", ESCAPES)
def test_is_refused(what: str, secret: Path) -> None:
    refused = "PermissionError|MemoryError|OSError|ValueError: not allowed"
    with pytest.raises(FunctionFailed, match=refused):
        call(mean_after(ESCAPES[what].replace("PLACE", repr(str(secret)))))
    assert secret.read_text() == "SUSECRET"
    assert sorted(one.name for one in secret.parent.iterdir()) == ["seed.nk"]


def test_a_raw_system_call_is_refused_too() -> None:
    answer, _ = call(mean_after("import ctypes; print(ctypes.CDLL(None).socket(2, 1, 0))"))
    assert answer.printed[0] == "-1"


def test_it_sees_no_environment_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBUS_S3__SECRET_KEY", "tell nobody")
    answer, _ = call(mean_after("print(sorted(os.environ))"))
    assert "FEDBUS" not in answer.printed[0]


@pytest.mark.parametrize("first", ["while True: pass", "import time; time.sleep(60)"])
def test_an_endless_loop_is_stopped(first: str) -> None:
    with pytest.raises(FunctionFailed, match=r"took more than 1.5 s"):
        call(mean_after(first), seconds_max=1.5)


def test_prints_are_bounded() -> None:
    answer, _ = call(mean_after("for n in range(5000): print('x' * 5000)"))
    assert len(answer.printed) == 100
    assert {len(one) for one in answer.printed} == {255}


def test_a_state_beyond_the_file_limit_fails_the_call() -> None:
    with pytest.raises(FunctionFailed, match=r"File too large|signal"):
        call(mean_after("self.big = np.ones(8 * 1024**2)"))


def test_a_thread_is_allowed() -> None:
    source = (
        "import threading; t = threading.Thread(target=print, args=('hi',)); t.start(); t.join()"
    )
    answer, _ = call(mean_after(source))
    assert answer.printed[0] == "hi"
