"""Reads what a package says of itself: `fedbus.yaml`, and `scaleout.yaml` and `fedn.yaml` as they are.

All three hold `python_env` (a file) and `entry_points`. An entry point is a command (`train: {command: python
train.py}`), run in a process of its own with files in and out. In `scaleout.yaml` and `fedbus.yaml` it may be a
file with a function of that name: `startup: startup.py`, whose `startup(client)` registers the functions, and
`build: build.py`. `fedbus.yaml` may name the `helper` whose files commands read and write; the others mean
`numpyhelper`. A key that `fedbus.yaml` does not have is refused, in the others it is passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fedbus.errors import BadPackage
from fedbus.helpers import DEFAULT
from fedbus.packages.extraction import MANIFESTS

ENTRY_POINTS = ("build", "startup", "train", "validate", "predict", "forward", "backward")
FILES = ("build", "startup")
"""The entry points that may be a file with a function of that name."""
FILE_BYTES_MAX = 64 * 1024
COMMAND_CHARS_MAX = 1024
DEPENDENCIES_MAX = 500
INSTALL = "compute packages need a package more; say: pip install 'fedbus[package]'"
OURS, EDGE, FEDN = MANIFESTS
NEEDED = {OURS: "numpy", EDGE: "scaleoututil"}
"""What code that is loaded gets installed though it does not say so: what its models are made with."""
FOREIGN_HELPER = "numpyhelper"

_NAME = re.compile(r"[\w.-]*")
_KEYS = frozenset({"python_env", "entry_points", "helper"})


@dataclass(frozen=True, slots=True)
class Manifest:
    """A package's manifest. `commands` are the entry points' shell commands, `files` the code to load."""

    file: str
    commands: Mapping[str, str]
    files: Mapping[str, str]
    python_env: str | None
    helper: str

    @property
    def stays(self) -> bool:
        """Whether its `startup(client)` is loaded once, and then does task after task."""
        return "startup" in self.files


@dataclass(frozen=True, slots=True)
class PythonEnv:
    """What a package needs installed. The version of Python it names is not installed: ours is used."""

    name: str
    python: str
    build_dependencies: tuple[str, ...]
    dependencies: tuple[str, ...]


def read_manifest(folder: Path) -> Manifest:
    """Read a package folder's manifest. Raises `BadPackage`, which says what is wrong."""
    file = next((name for name in MANIFESTS if (folder / name).is_file()), None)
    if file is None:
        raise BadPackage(f"{folder} holds none of {', '.join(MANIFESTS)}")
    content = _mapping(_read(folder / file), file)
    if file == OURS and (unknown := sorted(map(str, content.keys() - _KEYS))):
        raise BadPackage(
            f"{file}: there is no key {unknown[0]!r}; it has {', '.join(sorted(_KEYS))}"
        )
    entries = _mapping(content.get("entry_points"), f"{file}: entry_points")
    known = {str(name): entry for name, entry in entries.items()}
    files = {name: one for name, one in known.items() if isinstance(one, str) and file != FEDN}
    commands = {name: _command(file, name, one) for name, one in known.items() if name not in files}
    for name, path in files.items():
        _check_file(folder, file, name, path)
    if "startup" in files and (more := sorted(commands.keys() - FILES)):
        raise BadPackage(
            f"{file}: startup is code that registers functions, so the command {more[0]} is never run: "
            "take one of them away"
        )
    helper = content.get("helper", DEFAULT) if file == OURS else FOREIGN_HELPER
    return Manifest(
        file=file,
        commands=commands,
        files=files,
        python_env=_optional(content.get("python_env"), f"{file}: python_env"),
        helper=_optional(helper, f"{file}: helper") or DEFAULT,
    )


def read_python_env(folder: Path, manifest: Manifest) -> PythonEnv | None:
    """Read what must be installed; none = the interpreter that runs us is used. Raises `BadPackage`."""
    if manifest.python_env is None:
        return None
    path = folder / manifest.python_env
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise BadPackage(
            f"{manifest.file}: python_env names {manifest.python_env}, which is not there"
        )
    content = _mapping(_read(path), manifest.python_env)
    named = _texts(content, "dependencies", manifest.python_env)
    needed = NEEDED[manifest.file] if manifest.stays else ""
    is_named = any(needed in map(str.lower, _NAME.findall(one)[:1]) for one in named)
    return PythonEnv(
        name=str(content.get("name", "")),
        python=str(content.get("python", "")),
        build_dependencies=_texts(content, "build_dependencies", manifest.python_env),
        dependencies=named if is_named or not needed else (*named, needed),
    )


def demand_yaml() -> ModuleType:
    """Give the reader of YAML. Raises `BadPackage` where the extra is not installed."""
    try:
        import yaml  # with the extra only
    except ModuleNotFoundError as error:
        raise BadPackage(INSTALL) from error
    found: ModuleType = yaml
    return found


def _read(path: Path) -> object:
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise BadPackage(f"{path.name} has over {FILE_BYTES_MAX} bytes")
    yaml = demand_yaml()
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadPackage(f"{path.name} is no YAML: {' '.join(str(error).split())}") from error


def _mapping(value: object, what: str) -> Mapping[object, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadPackage(f"{what} must be a mapping, not {type(value).__name__}")
    return value


def _check_file(folder: Path, file: str, name: str, path: str) -> None:
    if name not in FILES:
        raise BadPackage(
            f"{file}: the entry point {name!r} needs a command, as {{command: python {name}.py}}; only "
            f"{' and '.join(FILES)} may be a file"
        )
    place = folder / path
    if not path.endswith(".py") or not place.resolve().is_relative_to(folder.resolve()):
        raise BadPackage(f"{file}: {name} must name a .py file of the package, not {path[:80]!r}")
    if not place.is_file():
        raise BadPackage(f"{file}: {name} names {path}, which is not there")


def _command(file: str, name: str, entry: object) -> str:
    if name not in ENTRY_POINTS:
        raise BadPackage(
            f"{file}: there is no entry point {name!r}; there are {', '.join(ENTRY_POINTS)}"
        )
    command = entry.get("command") if isinstance(entry, dict) else None
    if not isinstance(command, str) or not 0 < len(command) <= COMMAND_CHARS_MAX or "\0" in command:
        raise BadPackage(
            f"{file}: the entry point {name!r} needs a command, as: {{command: python {name}.py}}"
        )
    return command


def _optional(value: object, what: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadPackage(f"{what} must be a text, not {type(value).__name__}")
    return value


def _texts(content: Mapping[object, object], key: str, file: str) -> tuple[str, ...]:
    value = content.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > DEPENDENCIES_MAX:
        raise BadPackage(f"{file}: {key} must be a list of at most {DEPENDENCIES_MAX} texts")
    if not all(isinstance(one, str) and one.isprintable() for one in value):
        raise BadPackage(f"{file}: {key} holds something that is not a text")
    return tuple(value)
