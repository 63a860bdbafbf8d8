"""A package ready to run: one process an entry point, files in and files out, as FEDn calls it.

`train IN OUT` finds the session's settings in `IN-metadata` and writes the model to `OUT` and a mapping with
`num_examples` to `OUT-metadata`; `validate IN OUT` and `predict IN OUT` write a mapping; all mappings are JSON.
Models lie in the files as the package's helper writes them.
"""

import json
import math
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus import _files
from fedbus._tensorfile import Array
from fedbus.errors import BadPackage, BadResult
from fedbus.helpers import find
from fedbus.packages import containment, environment
from fedbus.packages.containment import Ended
from fedbus.packages.environment import Environment
from fedbus.packages.extraction import root_of
from fedbus.packages.limits import RunLimits
from fedbus.packages.manifest import Manifest, read_manifest
from fedbus.trainer import Model, Settings, Trainer

JSON_BYTES_MAX = 1024 * 1024
METRICS_MAX = 64
SUFFIXES = {"numpyhelper": ".npz", "safetensors": ".safetensors"}
CONTAINER_MEMBER = "training_model.bin"
"""Where Scaleout's model container keeps the model itself."""
COPY_BYTES = 1024 * 1024
CONTAINER_SLACK_BYTES = 16 * 1024 * 1024
"""What a model in a container may have beyond eight bytes a number."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of this machine: of work that is under way, and of environments."""

    work: Path
    environments: Path


class Package:
    """A package's folder with its environment. Its methods block: call them in a thread."""

    def __init__(
        self,
        folder: Path,
        places: Places,
        limits: RunLimits | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read the manifest and see to the environment. Raises `BadPackage` and `PackageFailed`."""
        self.folder = root_of(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        self.limits = limits or RunLimits()
        self._places = places
        self._helper = find(self.manifest.helper)
        self._suffix = SUFFIXES.get(self.manifest.helper, ".bin")
        self._environment: Environment = environment.ensure(
            self.folder, self.manifest, places.environments, self.limits, cancelled
        )

    def has(self, entry: str) -> bool:
        """Whether the package has this entry point."""
        return entry in self.manifest.commands

    def trainer(self) -> Trainer:
        """Give the functions that a client calls."""
        if not self.has("train"):
            raise BadPackage(f"{self.manifest.file}: the package has no entry point train")
        return Trainer(self.train, self.validate if self.has("validate") else None)

    def run(
        self,
        entry: str,
        *arguments: str,
        work: Path,
        env: Mapping[str, str] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Ended:
        """Run an entry point with these arguments. Raises `PackageFailed` unless it ends well."""
        command = self.manifest.commands.get(entry)
        if command is None:
            raise BadPackage(f"{self.manifest.file}: the package has no entry point {entry}")
        ended = containment.run(
            ["/bin/sh", "-c", f"{command} {shlex.join(arguments)}".rstrip()],
            folder=self.folder,
            env={**self._environment.variables(work), **(env or {})},
            watched=[self.folder, work],
            limits=self.limits,
            cancelled=cancelled,
        )
        ended.demand_well(f"entry point {entry}", self.limits)
        return ended

    def train(self, model: Model, settings: Settings) -> tuple[Model, int, dict[str, float]]:
        """Train as `Trainer.train` does: arrays by name in and out, `num_examples` from the metadata."""
        with self._work() as work:
            given, made = work / f"in{self._suffix}", work / f"out{self._suffix}"
            self._helper.to_file(model, given)
            _metadata(given).write_text(json.dumps(dict(settings)), encoding="utf-8")
            self.run(
                "train",
                str(given),
                str(made),
                work=work,
                env=_facts(settings),
                cancelled=settings.cancelled,
            )
            told = read_mapping(_metadata(made), "train")
            inner = told.get("training_metadata")
            told = {**told, **inner} if isinstance(inner, dict) else told
            examples = told.get("num_examples")
            if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
                raise BadResult(
                    f"entry point train wrote num_examples = {examples!r} to {_metadata(made).name}; "
                    "it must be a whole number of at least 1"
                )
            if not made.is_file():
                raise BadResult(f"entry point train wrote no model to {made.name}")
            bytes_max = CONTAINER_SLACK_BYTES + 8 * sum(one.size for one in model.values())
            arrays = self._helper.from_file(_bare(made, work, bytes_max), model)
            return arrays, examples, metrics_of(told)

    def validate(self, model: Model, settings: Settings) -> tuple[int, dict[str, float]]:
        """Measure a model as `Trainer.validate` does; without `num_examples` the report weighs 1."""
        told = self._report("validate", model, _facts(settings), settings.cancelled)
        examples = told.get("num_examples", 1)
        weight = examples if isinstance(examples, int) and examples >= 0 else 1
        return weight, metrics_of(told)

    def predict(
        self, model: Model, cancelled: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """Predict with a model; gives the mapping that the package writes."""
        return self._report("predict", model, {}, cancelled)

    def forward(self, client: str, *, is_inference: bool, made: Path, work: Path) -> dict[str, Any]:
        """Write a client's embeddings to `made` (split learning); gives the metadata, if any."""
        self.run("forward", client, str(made), str(is_inference), work=work)
        beside = _metadata(made)
        return read_mapping(beside, "forward") if beside.is_file() else {}

    def backward(self, gradients: Path, client: str, *, work: Path) -> None:
        """Hand a client's gradients to the package (split learning)."""
        self.run("backward", str(gradients), client, work=work)

    def _report(
        self,
        entry: str,
        model: Mapping[str, Array],
        env: Mapping[str, str],
        cancelled: Callable[[], bool],
    ) -> dict[str, Any]:
        with self._work() as work:
            given, made = work / f"in{self._suffix}", work / "report.json"
            self._helper.to_file(model, given)
            self.run(entry, str(given), str(made), work=work, env=env, cancelled=cancelled)
            return read_mapping(made, entry)

    @contextmanager
    def _work(self) -> Iterator[Path]:
        self._places.work.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="run-", dir=self._places.work))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def read_mapping(path: Path, entry: str) -> dict[str, Any]:
    """Read a mapping that a package wrote. Raises `BadResult`, whatever the bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(JSON_BYTES_MAX + 1)
    except OSError as error:
        raise BadResult(f"entry point {entry} wrote no {path.name}") from error
    if len(data) > JSON_BYTES_MAX:
        raise BadResult(f"entry point {entry} wrote over {JSON_BYTES_MAX} bytes to {path.name}")
    try:
        content: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadResult(f"entry point {entry} wrote no JSON to {path.name}: {error}") from error
    if not isinstance(content, dict):
        raise BadResult(f"entry point {entry} wrote no mapping to {path.name}")
    return content


def metrics_of(told: Mapping[str, Any]) -> dict[str, float]:
    """Take the numbers out of a report, at most 64 of them; texts are for the package's own log."""
    numbers = {
        str(name): float(value)
        for name, value in told.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "num_examples"
    }
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return dict(list(finite.items())[:METRICS_MAX])


def _facts(settings: Settings) -> dict[str, str]:
    """Say in variables what the metadata file, which is FEDn's, has no place for."""
    return {
        "FEDBUS_SEED": str(settings.seed),
        "FEDBUS_ROUND": str(settings.round),
        "FEDBUS_SESSION": settings.session,
    }


def _metadata(path: Path) -> Path:
    return path.with_name(f"{path.name}-metadata")


def _bare(made: Path, work: Path, bytes_max: int) -> Path:
    """Take the model out of Scaleout's container, if it came in one. Nothing else of it is read."""
    if not zipfile.is_zipfile(made):
        return made
    try:
        with zipfile.ZipFile(made) as container:
            if CONTAINER_MEMBER not in container.namelist():
                return made
            if container.getinfo(CONTAINER_MEMBER).file_size > bytes_max:
                raise BadResult(f"the model in the container has over {bytes_max} bytes")
            bare = work / f"bare{made.suffix}"
            with container.open(CONTAINER_MEMBER) as content, bare.open("wb") as file:
                shutil.copyfileobj(content, file, COPY_BYTES)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise BadResult(f"the model container cannot be read: {error}") from error
    return bare
