"""Runs a package's entry points with files in and out, exactly as FEDn does.

`train IN OUT`: the settings in `IN-metadata`, the result in `OUT`, what it says of it in `OUT-metadata`.
`validate IN OUT` and `predict IN OUT`: a JSON mapping in `OUT`. `forward CLIENT OUT IS_INFERENCE` with
`OUT-metadata`, `backward IN CLIENT`. `build` and `startup` take nothing. All metadata are JSON. Models lie in
the files as the package's helper writes them. A package whose `startup` is code stays in a process of its own
(`service`), and its functions are called there.
"""

import json
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fedbus import _files
from fedbus._tensorfile import Array
from fedbus.consent.policy import Limits
from fedbus.errors import BadPackage, BadResult
from fedbus.packages import containment, converter, environment, inner, results
from fedbus.packages.containment import Ended
from fedbus.packages.environment import Environment
from fedbus.packages.extraction import root_of
from fedbus.packages.forms import form_of, own_helper
from fedbus.packages.limits import RunLimits, StoreLimits, within
from fedbus.packages.manifest import OURS, Manifest, read_manifest
from fedbus.packages.service import Asked, Service
from fedbus.recorder import Recorder
from fedbus.trainer import CommandFunction, Model, Settings, Trainer

SHELL = shutil.which("bash") or "/bin/sh"
"""FEDn runs commands with bash; a machine without it has the other one."""
CUSTOM = "custom:"
"""What the names of a package's own commands begin with."""
BUILD_OUTPUT = "SCALEOUT_BUILD_OUTPUT_DIR"
"""Where Scaleout's `build` looks for the folder to write the seed model to."""


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of this machine: of work that is under way, and of environments."""

    work: Path
    environments: Path
    store: StoreLimits = field(default_factory=StoreLimits)


@dataclass(frozen=True, slots=True)
class Owner:
    """The client that a package works for."""

    name: str = ""
    device: str = ""
    recorder: Recorder = field(default_factory=Recorder)
    limits: Callable[[], Limits] = Limits
    """What the data's owner lets a task use, now."""


class Package:
    """A package's folder with its environment. Its methods block: call them in a thread."""

    def __init__(
        self,
        folder: Path,
        places: Places,
        limits: RunLimits | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        owner: Owner | None = None,
    ) -> None:
        """Read the manifest and see to the environment. Raises `BadPackage` and `PackageFailed`."""
        self.folder = root_of(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        self._limits = limits or RunLimits()
        self._places = places
        self._owner = owner or Owner()
        self.form = form_of(self.manifest, self.folder, self._convert)
        self._environment: Environment = environment.ensure(
            self.folder, self.manifest, places.environments, self._limits, cancelled, places.store
        )
        self._service: Service | None = None
        self._home: Path | None = None
        self._starting = threading.Lock()

    @property
    def limits(self) -> RunLimits:
        """What a run may take now."""
        return within(self._limits, self._owner.limits())

    def has(self, entry: str) -> bool:
        """Whether the package has this entry point, as a command or as a registered function."""
        if self.manifest.stays and entry != "build":
            return self._service is not None and entry in self._service.functions
        return entry in self.manifest.commands or entry in self.manifest.files

    @property
    def functions(self) -> tuple[str, ...]:
        """Name what `startup(client)` registered."""
        return () if self._service is None else tuple(sorted(self._service.functions))

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Run `startup`: a command once, code in its process that stays. Raises as `run` does."""
        if self.manifest.stays:
            self._running(cancelled)
        elif "startup" in self.manifest.commands:
            with self.work() as work:
                self.run("startup", work=work, cancelled=cancelled)

    def close(self) -> None:
        """End the process that stays, if there is one. The last call."""
        with self._starting:
            self._end()
        self._environment.close()

    def trainer(self) -> Trainer:
        """Give the functions that a client calls."""
        if not self.has("train"):
            raise BadPackage(
                f"{self.manifest.file}: the package has no entry point train"
                if not self.manifest.stays
                else f"{self.manifest.files['startup']}: startup(client) called no set_train_callback"
            )
        own = [name for name in self.functions if name.startswith(CUSTOM)]
        return Trainer(
            self.train,
            self.validate if self.has("validate") else None,
            predict=self._function("inference" if self.manifest.stays else "predict"),
            stage=self._function("stage_model"),
            commands={name.removeprefix(CUSTOM): partial(self.answer, name) for name in own},
        )

    def run(
        self,
        entry: str,
        *arguments: str,
        work: Path,
        env: Mapping[str, str] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Ended:
        """Run an entry point with these arguments.

        Raises `PackageFailed` unless it ends well, `TaskAborted` when its task was withdrawn meanwhile.
        """
        command = self._command(entry, arguments)
        return self._contain(f"entry point {entry}", command, work, env, cancelled)

    def build(self, output: Path, cancelled: Callable[[], bool] = lambda: False) -> Ended:
        """Run `build`, which makes the seed model in the package's folder, or in `output` (Scaleout's way)."""
        with self.work() as work:
            return self.run(
                "build", work=work, env={BUILD_OUTPUT: str(output)}, cancelled=cancelled
            )

    def train(self, model: Model, settings: Settings) -> tuple[Model, int, dict[str, float]]:
        """Train as `Trainer.train` does: arrays by name in and out, `num_examples` from the metadata."""
        with self.work() as work:
            given, made = work / f"in{self.form.suffix}", work / f"out{self.form.suffix}"
            self.form.write(model, given, settings.model)
            told = self.train_file(given, made, settings)
            examples, metrics = results.trained(told, "entry point train")
            if not made.is_file():
                raise BadResult(f"entry point train wrote no model to {made.name}")
            return self.form.read(made, model), examples, metrics

    def train_file(self, given: Path, made: Path, settings: Settings) -> dict[str, Any]:
        """Train from a file in the package's own form to another; gives the metadata."""
        if self.manifest.stays:
            return self._asked("train", given, made, settings)
        _metadata(given).write_text(json.dumps(dict(settings)), encoding="utf-8")
        with self.work() as work:
            self.run(
                "train",
                str(given),
                str(made),
                work=work,
                env=_facts(settings),
                cancelled=settings.cancelled,
            )
        return results.read_mapping(_metadata(made), "entry point train")

    def validate(self, model: Model, settings: Settings) -> tuple[int, dict[str, float]]:
        """Measure a model as `Trainer.validate` does; without `num_examples` the report weighs 1."""
        with self._given(model, settings.model) as given:
            return results.measured(self.validate_file(given, settings))

    def validate_file(self, given: Path, settings: Settings) -> dict[str, Any]:
        """Measure a model that lies in a file in the package's own form; gives the report."""
        if self.manifest.stays:
            return self._asked("validate", given, None, settings)
        return self._report("validate", given, _facts(settings), settings.cancelled)

    def answer(self, what: str, model: Model | None, settings: Settings) -> Any:
        """Do what a command asks for: gives whatever JSON the package's function or `predict` gave."""
        if not self.manifest.stays:
            if model is None:
                raise BadPackage(
                    "the entry point predict needs a model, and the command names none"
                )
            return self.predict(model, settings.cancelled)
        if model is None:
            return self._ask(what, None, None, settings)
        with self._given(model, settings.model) as given:
            return self._ask(what, given, None, settings)

    def predict(
        self, model: Model, cancelled: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """Predict with a model; gives the mapping that the package writes."""
        with self._given(model, "") as given:
            return self._report("predict", given, {}, cancelled)

    def forward(self, client: str, *, is_inference: bool, made: Path, work: Path) -> dict[str, Any]:
        """Write a client's embeddings to `made` (split learning); gives the metadata, if any."""
        self.run("forward", client, str(made), str(is_inference), work=work)
        beside = _metadata(made)
        return results.read_mapping(beside, "entry point forward") if beside.is_file() else {}

    def backward(self, gradients: Path, client: str, *, work: Path) -> None:
        """Hand a client's gradients to the package (split learning)."""
        self.run("backward", str(gradients), client, work=work)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """Give a folder for one run; it is removed after it."""
        work = self._new_folder()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _command(self, entry: str, arguments: tuple[str, ...]) -> list[str]:
        command = self.manifest.commands.get(entry)
        if command is not None:
            return [SHELL, "-c", f"{command} {shlex.join(arguments)}".rstrip()]
        file = self.manifest.files.get(entry)
        if file is None:
            raise BadPackage(f"{self.manifest.file}: the package has no entry point {entry}")
        return [*self._python(inner.__file__), str(self.folder), file, entry]

    def _python(self, script: str) -> list[str]:
        name = "python" if self._environment.digest else Path(sys.executable).name
        # -P: what lies beside our own script is none of the package's business.
        return [str(self._environment.programs / name), "-P", script]

    def _convert(self, way: str, *files: Path) -> None:
        """Have the package's own helper convert a file. Raises as `run` does."""
        file = own_helper(self.manifest, self.folder)
        assert file is not None, "asked only of a package that ships one"
        command = [*self._python(converter.__file__), str(self.folder), file, way]
        with self.work() as work:
            self._contain(f"helper {file}", [*command, *map(str, files)], work)

    def _contain(
        self,
        what: str,
        command: list[str],
        work: Path,
        env: Mapping[str, str] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Ended:
        limits = self.limits
        ended = containment.run(
            command,
            folder=self.folder,
            env={**self._environment.variables(work), **(env or {})},
            watched=[self.folder, work],
            limits=limits,
            cancelled=cancelled,
        )
        ended.demand_well(what, limits)
        return ended

    def _running(self, cancelled: Callable[[], bool]) -> Service:
        """Give the process that stays, begun anew if it has ended or its limits are others now."""
        with self._starting:
            limits = self.limits
            if self._service is not None and self._service.may_go_on(limits):
                return self._service
            self._end()
            self._home = self._new_folder()
            style = "fedbus" if self.manifest.file == OURS else "scaleout"
            service = Service(
                self._command("startup", ()),
                {"style": style, "name": self._owner.name, "client_id": self._owner.device},
                self._owner.recorder,
                folder=self.folder,
                env=self._environment.variables(self._home),
                watched=[self.folder, self._home],
                limits=limits,
            )
            try:
                service.ready(cancelled)
            except BaseException:
                service.close()
                raise
            self._service = service
            return service

    def _end(self) -> None:
        if self._service is not None:
            self._service.close()
            self._service = None
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def _asked(
        self, what: str, given: Path | None, made: Path | None, settings: Settings
    ) -> dict[str, Any]:
        told = self._ask(what, given, made, settings)
        if not isinstance(told, dict):
            raise BadResult(f"the function for {what} gave no mapping")
        return told

    def _ask(self, what: str, given: Path | None, made: Path | None, settings: Settings) -> Any:
        facts = {
            "seed": settings.seed,
            "round": settings.round,
            "session": settings.session,
            "attempt": settings.attempt,
            "command": settings.command,
            "deadline": None if settings.deadline is None else settings.deadline.isoformat(),
        }
        asked = Asked(what, given, made, dict(settings), facts)
        return self._running(settings.cancelled).ask(asked, settings.cancelled, settings.progress)

    def _function(self, what: str) -> CommandFunction | None:
        return partial(self.answer, what) if self.has(what) else None

    @contextmanager
    def _given(self, model: Mapping[str, Array], digest: str) -> Iterator[Path]:
        with self.work() as work:
            given = work / f"in{self.form.suffix}"
            self.form.write(model, given, digest)
            yield given

    def _report(
        self, entry: str, given: Path, env: Mapping[str, str], cancelled: Callable[[], bool]
    ) -> dict[str, Any]:
        with self.work() as work:
            made = work / "report.json"
            self.run(entry, str(given), str(made), work=work, env=env, cancelled=cancelled)
            return results.read_mapping(made, f"entry point {entry}")

    def _new_folder(self) -> Path:
        self._places.work.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
        prefix = f"run-{os.getpid()}-"  # so that a later client removes it if this one is killed
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self._places.work))


def _facts(settings: Settings) -> dict[str, str]:
    """Say in variables what the metadata file, which is FEDn's, has no place for."""
    return {
        "FEDBUS_SEED": str(settings.seed),
        "FEDBUS_ROUND": str(settings.round),
        "FEDBUS_SESSION": settings.session,
    }


def _metadata(path: Path) -> Path:
    return path.with_name(f"{path.name}-metadata")
