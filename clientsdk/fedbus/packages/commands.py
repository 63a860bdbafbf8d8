"""`fedbus package create | check` and `fedbus run …`: packages on this machine."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from fedbus import _files
from fedbus.errors import BadOption
from fedbus.packages import archive, checking
from fedbus.packages.checking import Level
from fedbus.packages.limits import MIB, RunLimits
from fedbus.packages.runners import Package, Places
from fedbus.trainer import Settings

CACHE = Path.home() / ".cache" / "fedbus" / "packages"

package = typer.Typer(no_args_is_help=True, help="Compute packages: make, try, upload, activate.")
run = typer.Typer(no_args_is_help=True, help="Run an entry point of a package of this machine.")

Folder = Annotated[Path, typer.Argument(help="The package's folder.", exists=True, file_okay=False)]
OfPath = Annotated[
    Path, typer.Option("-p", "--path", help="The package's folder.", exists=True, file_okay=False)
]
Input = Annotated[Path, typer.Option("-i", "--input", help="The model's file.", exists=True)]
Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
TrainSettings = Annotated[
    str, typer.Option("--settings", help="The session's settings as JSON, as '{\"lr\": 0.1}'.")
]
Environments = Annotated[
    Path, typer.Option(help="Where installed environments are kept, for the next time.")
]
TimeoutS = Annotated[float, typer.Option(min=1, help="How long one run may take, in seconds.")]
MemoryMib = Annotated[int, typer.Option(min=16, help="The memory of one run, in MiB.")]


@package.command()
def create(
    folder: Folder,
    output: Annotated[Path, typer.Option("-o", "--output", help="The archive to write.")] = Path(
        "package.tgz"
    ),
) -> None:
    """Pack a folder and say its SHA-256: `fedbus package create client`."""
    made = archive.create(folder, output)
    typer.echo(f"{made.path}\t{made.size} bytes\t{len(made.names)} files\t{made.digest}")


@package.command()
def check(
    folder: Folder,
    model: Annotated[
        Path | None, typer.Option(help="The seed model. Without: what build writes.", exists=True)
    ] = None,
    settings: TrainSettings = "{}",
    environments: Annotated[
        Path | None, typer.Option(help="Keep the installed environment here, for the next time.")
    ] = None,
    timeout_s: TimeoutS = 600.0,
    memory_mib: MemoryMib = 8192,
    lint_only: Annotated[bool, typer.Option("--lint-only", help="Run nothing of it.")] = False,
) -> None:
    """Look at a package, then run build, train and validate once as a client would; end with 1 at a fault.

    Everything is installed and made in a folder that is removed afterwards: `fedbus package check client`.
    """
    limits = RunLimits(timeout_s=timeout_s, memory_bytes=memory_mib * MIB)
    with tempfile.TemporaryDirectory(prefix="fedbus-check-") as place:
        asked = checking.Asked(
            place=Path(place),
            model=None if model is None else model.absolute(),
            settings=_settings(settings),
            environments=environments,
            limits=limits,
            lint_only=lint_only,
        )
        worst = Level.OK
        for finding in checking.check(folder.absolute(), asked):
            typer.echo(str(finding))
            worst = Level.FAULT if finding.level is Level.FAULT else worst
    if worst is Level.FAULT:
        raise typer.Exit(1)
    typer.echo("the package works")


@run.command()
def build(path: OfPath = Path(), environments: Environments = CACHE) -> None:
    """Make the seed model.

    Example: fedbus run build --path client
    """
    with _loaded(path, environments) as made:
        _tell(made.build(Path.cwd()).stdout)


@run.command()
def startup(path: OfPath = Path(), environments: Environments = CACHE) -> None:
    """Run what a client runs before its first task.

    Example: fedbus run startup --path client
    """
    with _loaded(path, environments) as made:
        made.start()
        if made.manifest.stays:
            typer.echo(f"{made.manifest.files['startup']} registered {', '.join(made.functions)}")


@run.command()
def train(
    input: Input,  # noqa: A002  # FEDn's name
    output: Output,
    path: OfPath = Path(),
    settings: TrainSettings = "",
    environments: Environments = CACHE,
) -> None:
    """Train INPUT to OUTPUT; the settings in INPUT-metadata, what the package says in OUTPUT-metadata.

    Example: fedbus run train --path client -i seed.npz -o update.npz
    """
    given, made_at = input.absolute(), output.absolute()
    beside = given.with_name(f"{given.name}-metadata")
    if settings and beside.exists():
        raise BadOption(f"{beside} holds settings already: leave out --settings, or remove it")
    asked = json.loads(beside.read_bytes()) if beside.exists() else _settings(settings or "{}")
    with _loaded(path, environments) as made:
        told = made.train_file(given, made_at, Settings(asked))
    _files.write(made_at.with_name(f"{made_at.name}-metadata"), json.dumps(told).encode())
    typer.echo(json.dumps(told))


@run.command()
def validate(
    input: Input,  # noqa: A002  # FEDn's name
    output: Output,
    path: OfPath = Path(),
    environments: Environments = CACHE,
) -> None:
    """Measure INPUT and write the report to OUTPUT.

    Example: fedbus run validate --path client -i update.npz -o report.json
    """
    with _loaded(path, environments) as made:
        told = made.validate_file(input.absolute(), Settings())
    _files.write(output.absolute(), json.dumps(told).encode())
    typer.echo(json.dumps(told))


@contextmanager
def _loaded(path: Path, environments: Path) -> Iterator[Package]:
    with tempfile.TemporaryDirectory(prefix="fedbus-run-") as work:
        made = Package(path.absolute(), Places(Path(work), environments))
        try:
            yield made
        finally:
            made.close()


def _settings(text: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise BadOption(f"--settings is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadOption("--settings must be a JSON object")
    return found


def _tell(text: str) -> None:
    if text.strip():
        typer.echo(text.rstrip())
