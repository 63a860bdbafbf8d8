"""What can be seen of a package without running it."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedbus.errors import BadPackage, FedbusError, PackageFailed
from fedbus.packages.ignoring import OURS as IGNORE
from fedbus.packages.manifest import Manifest, PythonEnv, read_python_env

LARGE_BYTES = 16 * 1024 * 1024
SOURCE_BYTES_MAX = 1024 * 1024
SECRET = re.compile(
    r"(^|/)(\.env|id_[a-z0-9]+|.*\.(pem|key|p12|pfx)|.*(credential|secret|token).*\.(json|ya?ml|txt))$"
)
PINNED = re.compile(r"[<>=!~@]|^\s*(-|git\+|https?:|\.|/)")
INTERPRETERS = ("python", "python3", "bash", "sh")

ADVICE = (
    ("ModuleNotFoundError", "list what it imports in python_env.yaml, under dependencies"),
    (
        "No such file or directory",
        "is the file in the package, and made by startup where it should be?",
    ),
    ("FileNotFoundError", "is the file in the package, and made by startup where it should be?"),
    ("MemoryError", "it asked for more memory than a client gives"),
    ("No matching distribution", "no such package or version is to be had"),
    ("CUDA", "the machine that checks has no such device; let the package fall back to the CPU"),
)


def faults(folder: Path, manifest: Manifest, names: Sequence[str]) -> Iterator[str]:
    """Say what would fail at every client."""
    try:
        read_python_env(folder, manifest)
    except BadPackage as error:
        yield str(error)
    if "train" not in manifest.commands and not manifest.stays:
        yield f"{manifest.file}: there is no entry point train, so it can take part in no round"
    for entry, path in _run_by(manifest):
        if path not in names:
            where = (
                "left out by an ignore file" if (folder / path).is_file() else "not in the folder"
            )
            yield f"{manifest.file}: {entry} runs {path}, which is {where}"
    for name in names:
        if name.endswith(".py"):
            yield from _syntax(folder, name)


def hints(folder: Path, manifest: Manifest, names: Sequence[str]) -> Iterator[str]:
    """Say what will be regretted later."""
    for name in names:
        if SECRET.search(name.lower()):
            yield f"{name} looks like a secret; every client gets it. Leave it out with {IGNORE}"
        size = (folder / name).stat().st_size
        if size > LARGE_BYTES:
            yield f"{name} has {size} bytes; data belongs to the clients. Leave it out with {IGNORE}"
    if "validate" not in manifest.commands and not manifest.stays:
        yield f"{manifest.file}: there is no entry point validate, so no round is measured"
    try:
        wanted = read_python_env(folder, manifest)
    except BadPackage:
        return
    if wanted is None:
        yield f"{manifest.file}: no python_env is named, so it runs with whatever a client has installed"
        return
    yield from _environment(wanted)


def plain(error: FedbusError) -> str:
    """Say an error in words, with what to do about it where that is known."""
    said = str(error)
    if isinstance(error, PackageFailed):
        said = (
            f"{error.how}{f': {error.line}' if error.line else ', and wrote nothing that says why'}"
        )
    for sign, advice in ADVICE:
        if sign in said:
            return f"{said} ({advice})"
    return said


def _environment(wanted: PythonEnv) -> Iterator[str]:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted.python and not f"{wanted.python}.".startswith(f"{here}."):
        yield f"it asks for Python {wanted.python}, and gets the client's own, here {here}"
    free = [
        one for one in (*wanted.build_dependencies, *wanted.dependencies) if not PINNED.search(one)
    ]
    if free:
        yield f"no version is named for {', '.join(free[:8])}: two clients may install different ones"


def _run_by(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Give the package's own files that commands run."""
    yield from manifest.files.items()
    for entry, command in manifest.commands.items():
        try:
            words = shlex.split(command)
        except ValueError:
            continue
        if len(words) > 1 and words[0] in INTERPRETERS and words[1].endswith((".py", ".sh")):
            yield entry, words[1].removeprefix("./")


def _syntax(folder: Path, name: str) -> Iterator[str]:
    with (folder / name).open("rb") as file:
        source = file.read(SOURCE_BYTES_MAX + 1)
    if len(source) > SOURCE_BYTES_MAX:
        return
    try:
        ast.parse(source, name)
    except SyntaxError as error:
        yield f"{name}, line {error.lineno}: {error.msg}"
    except ValueError as error:
        yield f"{name}: {error}"
