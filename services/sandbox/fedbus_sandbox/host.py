"""Runs server functions in a confined process, one process a call, and checks what comes back.

The process gets a fresh folder with the code, the base model, the updates and what it remembered, an empty
environment, and nothing else. It is killed when its time is up, and when this process dies.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fedbus_core.aggregation.rows import Source
from fedbus_core.aggregation.server_functions import Aggregate, Answer, FunctionFailed
from fedbus_core.aggregation.tensorfile import Buffer
from fedbus_schemas.codec import Unreadable, read

from fedbus_sandbox import request as files
from fedbus_sandbox.request import GivenUpdate, Report, Request

MEBIBYTE = 1024 * 1024
COPY_BYTES = 4 * MEBIBYTE
BESIDE_MB = 512
"""Address space that Python and numpy take before anything is done."""
FILES_BYTES_MIN = 16 * MEBIBYTE
REPORT_BYTES_MAX = MEBIBYTE
STATE_BYTES_MAX = 1024 * MEBIBYTE
STDERR_BYTES = 2_000


def run(call: Aggregate) -> Answer:
    """Make a round's model with an operator's code; blocks. Raises `FunctionFailed`."""
    with tempfile.TemporaryDirectory(prefix="fedbus-functions-") as name:
        folder = Path(name)
        _write(folder, call)
        process = _run(folder, call.functions.seconds_max)
        report = _report(folder, process, call.functions.seconds_max)
        if report.failure:
            raise FunctionFailed(report.failure)
        return Answer(
            model=_read(folder / files.MODEL_OUT, _size(call.base) + MEBIBYTE),
            state=_read(folder / files.STATE_OUT, STATE_BYTES_MAX),
            printed=report.printed,
        )


def _write(folder: Path, call: Aggregate) -> None:
    (folder / files.SOURCE).write_bytes(call.source)
    (folder / files.BASE).write_bytes(call.base)
    if call.state is not None:
        (folder / files.STATE).write_bytes(call.state)
    for place, one in enumerate(call.updates):
        _copy(one.source, one.size, folder / files.update_name(place))
    given = _size(call.base) + sum(one.size for one in call.updates) + _size(call.state or b"")
    seconds = int(call.functions.seconds_max) + 1
    asked = Request(
        host=os.getpid(),
        methods=call.functions.methods,
        updates=tuple(
            GivenUpdate(
                client=one.member.client,
                examples=one.member.weight,
                metrics=dict(one.member.metrics),
            )
            for one in call.updates
        ),
        seed=call.seed,
        has_state=call.state is not None,
        memory=given + (BESIDE_MB + call.functions.memory_mb) * MEBIBYTE,
        file=max(FILES_BYTES_MIN, 4 * _size(call.base)),
        processor_s=seconds,
    )
    (folder / files.REQUEST).write_bytes(asked.to_bytes())


def _copy(source: Source, size: int, path: Path) -> None:
    with path.open("wb") as file:
        for start in range(0, size, COPY_BYTES):
            file.write(source.read_at(start, min(COPY_BYTES, size - start)))


def _size(data: Buffer) -> int:
    return memoryview(data).nbytes


def _run(folder: Path, seconds: float) -> "subprocess.CompletedProcess[bytes] | None":
    """Run the guest to its end; None when it had to be killed. It knows nothing of our environment."""
    environment = {
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
    }
    command = [sys.executable, "-s", "-P", "-m", "fedbus_sandbox.guest", str(folder)]
    with (folder / "stderr").open("wb") as errors:
        try:
            return subprocess.run(  # noqa: S603  # our own module
                command,
                check=False,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=seconds,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return None


def _report(
    folder: Path, process: "subprocess.CompletedProcess[bytes] | None", seconds: float
) -> Report:
    if process is None:
        raise FunctionFailed(f"the functions took more than {seconds:g} s and were stopped")
    try:
        with (folder / files.REPORT).open("rb") as file:
            report = read(Report, file.read(REPORT_BYTES_MAX))
    except (OSError, Unreadable) as error:
        raise FunctionFailed(_last_words(folder, process.returncode)) from error
    return report


def _last_words(folder: Path, code: int) -> str:
    with (folder / "stderr").open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - STDERR_BYTES))
        said = file.read().decode("utf-8", "replace").strip().splitlines()
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    return f"the process of the functions {ended}{': ' + said[-1] if said else ''}"


def _read(path: Path, size_max: int) -> bytearray:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > size_max:
            raise FunctionFailed(f"the functions left {size} bytes, over {size_max}")
        data = bytearray(size)
        if file.readinto(data) != size:
            raise FunctionFailed("a file of the functions changed while it was read")
        return data
