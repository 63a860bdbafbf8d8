"""Tries a package before anybody else has to: looks at its folder, then runs it once as a client would.

Works on a copy that went through the archive, in an environment of its own, with a client's limits. Blocking.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedbus._tensorfile import Array
from fedbus.errors import BadModel, BadOption, BadPackage, BadResult, FedbusError, PackageFailed
from fedbus.packages import linting
from fedbus.packages.archive import create
from fedbus.packages.extraction import root_of, unpack
from fedbus.packages.limits import RunLimits
from fedbus.packages.manifest import Manifest, read_manifest
from fedbus.packages.runners import Package, Places
from fedbus.testing import run_once
from fedbus.trainer import Settings

T = TypeVar("T")

SEED_SUFFIXES = (".npz", ".safetensors", ".bin")
"""How the seed model that `build` writes may be called."""


class Level(StrEnum):
    """How a finding is meant. A package with a fault does not work at a client."""

    OK = "ok"
    HINT = "hint"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, in plain words."""

    level: Level
    what: str
    said: str

    def __str__(self) -> str:
        return f"{self.level:<6} {self.what}: {self.said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How to try a package. Without a `model`, the one that `build` writes is the seed."""

    place: Path
    """An empty folder for all that is made."""
    model: Path | None = None
    settings: dict[str, Any]
    environments: Path | None = None
    """Where environments are kept; none = below `place`, so that they go with it."""
    limits: RunLimits = field(default_factory=RunLimits)
    lint_only: bool = False


class _Over(Exception):
    """A fault was found that makes going on senseless."""

    def __init__(self, what: str, said: str) -> None:
        self.finding = Finding(Level.FAULT, what, said)
        super().__init__(said)


def check(folder: Path, asked: Asked) -> Iterator[Finding]:
    """Look at a package folder and try it; findings come as they are made. The last may be a fault."""
    try:
        yield from _look(folder, asked)
        if not asked.lint_only:
            yield from _try(asked)
    except _Over as over:
        yield over.finding


def _look(folder: Path, asked: Asked) -> Iterator[Finding]:
    manifest = _made("manifest", lambda: read_manifest(folder))
    names = sorted({*manifest.commands, *manifest.files})
    yield Finding(
        Level.OK, "manifest", f"{manifest.file} has {', '.join(names) or 'no entry point'}"
    )
    packed = _made("archive", lambda: create(folder, asked.place / "package.tgz"))
    size = f"{len(packed.names)} files, {packed.size} bytes, SHA-256 {packed.digest}"
    yield Finding(Level.OK, "archive", size)
    faults = 0
    for fault in linting.faults(folder, manifest, packed.names):
        faults += 1
        yield Finding(Level.FAULT, "folder", fault)
    for hint in linting.hints(folder, manifest, packed.names):
        yield Finding(Level.HINT, "folder", hint)
    if faults:
        raise _Over("folder", "not run: first mend what is above")


def _try(asked: Asked) -> Iterator[Finding]:
    into = asked.place / "unpacked"
    _made("archive", lambda: unpack(asked.place / "package.tgz", into))
    places = Places(asked.place / "work", asked.environments or asked.place / "environments")
    began = time.monotonic()
    package = _made("environment", lambda: Package(into, places, asked.limits))
    yield Finding(Level.OK, "environment", _environment(package.manifest, began))
    try:
        if "startup" in {*package.manifest.commands, *package.manifest.files}:
            began = time.monotonic()
            _made("startup", package.start)
            yield Finding(Level.OK, "startup", _took(began))
        seed, said = _seed(package, asked)
        yield said
        yield from _train_and_validate(package, seed, asked)
    finally:
        package.close()


def _seed(package: Package, asked: Asked) -> tuple[dict[str, Array], Finding]:
    """Give the model to try with."""
    form = package.form
    if asked.model is not None:
        given = asked.model
        model = _made("model", lambda: form.read(given, {}))
        return model, Finding(Level.OK, "model", f"{given.name} has {_size(model)}")
    if not package.has("build"):
        raise _Over(
            "model",
            "there is none to try with: name one with --model, or add a build that writes it",
        )
    output = asked.place / "built"
    output.mkdir()
    before = _models(root_of(package.folder), output)
    began = time.monotonic()
    _made("build", lambda: package.build(output))
    made = [
        path for path, stamp in _models(package.folder, output).items() if before.get(path) != stamp
    ]
    if not made:
        raise _Over("build", f"it wrote no seed model ({', '.join(SEED_SUFFIXES)})")
    model = _made("build", lambda: form.read(made[0], {}))
    return model, Finding(Level.OK, "build", f"{made[0].name} has {_size(model)}, {_took(began)}")


def _train_and_validate(
    package: Package, seed: dict[str, Array], asked: Asked
) -> Iterator[Finding]:
    settings = Settings(asked.settings, seed=1, session="check", model="0" * 64)
    trainer = _made("train", package.trainer)
    began = time.monotonic()
    tried = _made("train", lambda: run_once(trainer, seed, settings))
    yield Finding(
        Level.OK, "train", f"{tried.weight} examples, {_numbers(tried.metrics)}, {_took(began)}"
    )
    if all(np.array_equal(seed[name], tried.model[name]) for name in seed):
        yield Finding(
            Level.HINT, "train", "the model came back as it was given: nothing was learned"
        )
    if trainer.validate is None:
        yield Finding(
            Level.HINT, "validate", "there is none, so no round is measured at this client"
        )
        return
    validate, model = trainer.validate, tried.model
    began = time.monotonic()
    weight, metrics = _made("validate", lambda: validate(model, settings))
    if not metrics:
        yield Finding(Level.HINT, "validate", "it reports no numbers")
    yield Finding(Level.OK, "validate", f"weight {weight}, {_numbers(metrics)}, {_took(began)}")


def _made(what: str, make: Callable[[], T]) -> T:
    """Do one thing. Raises `_Over`, in the package's own words."""
    try:
        return make()
    except (BadPackage, BadResult, BadModel, BadOption, PackageFailed) as error:
        raise _Over(what, linting.plain(error)) from error
    except FedbusError as error:
        raise _Over(what, str(error)) from error


def _models(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Give the model files of these folders, with what changes when they are written."""
    found = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in SEED_SUFFIXES
    ]
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found if path.is_file()
    }


def _environment(manifest: Manifest, began: float) -> str:
    if manifest.python_env is None:
        return "none named: the Python that runs this client is used"
    return f"{manifest.python_env} is installed, {_took(began)}"


def _size(model: dict[str, Array]) -> str:
    return f"{len(model)} tensors with {sum(one.size for one in model.values())} numbers"


def _numbers(metrics: Any) -> str:
    return (
        ", ".join(f"{name} {value:.6g}" for name, value in list(metrics.items())[:8])
        or "no numbers"
    )


def _took(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
