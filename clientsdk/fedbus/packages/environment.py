"""Installs what a package needs, once: a virtual environment named by the digest of what is in it.

One process builds while others wait for its lock. An environment counts only when its mark is there, so what a
killed build left is removed and built anew; one that is complete is used without any network.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedbus import _files
from fedbus.errors import BadPackage
from fedbus.packages import containment, room
from fedbus.packages.archive import digest_of_folder
from fedbus.packages.limits import RunLimits, StoreLimits
from fedbus.packages.locking import locked, shared
from fedbus.packages.manifest import Manifest, PythonEnv, read_python_env

MARK = "fedbus-complete.json"
DIGEST_CHARS = 24

_HIDDEN = ("FEDBUS_", "PYTHON", "VIRTUAL_ENV", "__PYVENV")
"""Variables that a package does not get: ours, and those that would lead its Python astray."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a package's programs lie. `digest` names a managed environment; none = our own interpreter's."""

    programs: Path
    digest: str | None = None
    use: IO[str] | None = None
    """The lock that keeps others from removing it."""

    def close(self) -> None:
        """Say that it is not used any more."""
        if self.use is not None:
            self.use.close()

    def variables(self, work: Path) -> dict[str, str]:
        """Give the variables that a package runs with; its temporary files go to `work`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        kept["PATH"] = os.pathsep.join([str(self.programs), kept.get("PATH", os.defpath)])
        kept["TMPDIR"] = str(work)
        kept["PYTHONDONTWRITEBYTECODE"] = "1"
        if self.digest is not None:
            kept["VIRTUAL_ENV"] = str(self.programs.parent)
        return kept


def ensure(
    folder: Path,
    manifest: Manifest,
    environments: Path,
    limits: RunLimits | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    store: StoreLimits = StoreLimits(),  # noqa: B008  # it cannot be changed
) -> Environment:
    """Give the environment of the package in `folder`; build it below `environments` if it is not there.

    Raises `BadPackage`, and `PackageFailed` with pip's own line. Blocking, for minutes when it builds.
    """
    wanted = read_python_env(folder, manifest)
    if wanted is None:
        return Environment(Path(sys.executable).parent)
    digest = digest_of(folder, wanted)
    place = environments / digest
    lock = room.lock_of(place)
    while True:
        use = shared(lock, cancelled)
        if (place / MARK).is_file():
            return Environment(place / "bin", digest, use)
        use.close()
        with locked(lock, cancelled):
            if not (place / MARK).is_file():
                shutil.rmtree(place, ignore_errors=True)
                try:
                    _build(folder, wanted, place, limits or RunLimits(), cancelled)
                except BaseException:
                    shutil.rmtree(place, ignore_errors=True)
                    raise
        room.make(
            environments,
            count_max=store.environments_max,
            bytes_max=store.environments_bytes_max,
            spare=(digest,),
        )


def digest_of(folder: Path, wanted: PythonEnv) -> str:
    """Name what is in an environment: the dependencies, the files they name, and the Python."""
    lines = [*wanted.build_dependencies, "", *wanted.dependencies]
    files = {}
    for line in lines:
        words = line.split()
        if words[:1] in (["-r"], ["--requirement"], ["-c"], ["--constraint"]) and len(words) == 2:
            path = (folder / words[1]).resolve()
            if not path.is_relative_to(folder.resolve()) or not path.is_file():
                raise BadPackage(f"{line[:80]!r} names a file that is not in the package")
            files[words[1]] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif line.startswith((".", "-e", "/", "file:")):
            files[line] = digest_of_folder(folder)
    content = [sys.version, platform.machine(), sys.platform, sys.executable, lines, files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGEST_CHARS]


def _build(
    folder: Path,
    wanted: PythonEnv,
    place: Path,
    limits: RunLimits,
    cancelled: Callable[[], bool],
) -> None:
    work = place.with_name(f"{place.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=_files.FOLDER_MODE)
    env: Mapping[str, str] = {
        **Environment(Path(sys.executable).parent).variables(work),
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    python = place / "bin" / "python"
    steps = [[sys.executable, "-m", "venv", str(place)]]
    for number, lines in enumerate((wanted.build_dependencies, wanted.dependencies)):
        if lines:
            file = folder / f".fedbus-requirements-{place.name}-{number}.txt"
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            steps.append([str(python), "-m", "pip", "install", "--quiet", "-r", str(file)])
    try:
        for step in steps:
            ended = containment.run(
                step,
                folder=folder,
                env=env,
                watched=[place, work],
                limits=limits,
                cancelled=cancelled,
            )
            ended.demand_well("the package's environment cannot be built", limits)
    finally:
        for number in (0, 1):
            (folder / f".fedbus-requirements-{place.name}-{number}.txt").unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)
    _files.write(place / MARK, json.dumps({"dependencies": wanted.dependencies}).encode())
