"""`fedbus model …`, `fedbus stage …`, `fedbus package …`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fedbus.api._files import Progress as Told
from fedbus.errors import BadOption
from fedbus.operator import naming
from fedbus.operator.asking import Ask, command
from fedbus.packages import archive

model = typer.Typer(no_args_is_help=True)
stage = typer.Typer(no_args_is_help=True)
package = typer.Typer(no_args_is_help=True)

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="The beginning of the model's SHA-256, or newest."),
]
Package = Annotated[
    str, typer.Argument(metavar="PACKAGE", help="The beginning of its SHA-256, or its name.")
]
Stage = Annotated[str, typer.Argument(metavar="STAGE", help="As candidate or production.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the stage's history.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The file.")]
Named = Annotated[str, typer.Option("--name", help="A name for people.")]
Most = Annotated[int, typer.Option("-n", "--limit", min=1, help="How many at most.")]
Target = Annotated[
    Path | None, typer.Option("--to", help="The file to write; unset = one named by the SHA-256.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
COLUMNS = ("digest", "name", "session", "round", "parent", "created")


@command(model, "get")
def get_model(ask: Ask, which: Model) -> None:
    """Show a model: where it came from, and when.

    Example: fedbus model get newest
    """
    ask.show(ask.api.get_model(naming.model(ask.api, which)))


@command(model, "trail")
def trail(ask: Ask, which: Model = "newest", limit: Most = 500) -> None:
    """List a model and what it was made from, back to the one that was uploaded.

    Example: fedbus model trail newest
    """
    digest = naming.model(ask.api, which)
    ask.rows(ask.api.get_model_trail(digest, reverse=False, n_max=limit), COLUMNS)


@command(model, "descendants")
def descendants(ask: Ask, which: Model, limit: Most = 500) -> None:
    """List all that was made from a model, directly or through others, in any session.

    Example: fedbus model descendants 9f86d081
    """
    ask.rows(ask.api.get_model_descendants(naming.model(ask.api, which), limit), COLUMNS)


@command(model, "parameters")
def parameters(ask: Ask, which: Model = "newest") -> None:
    """Show what is in a model: its tensors with shapes, types and statistics.

    Example: fedbus model parameters newest
    """
    found = ask.api.get_model_parameters(naming.model(ask.api, which))
    ask.rows(
        found.tensors, ("name", "dtype", "shape", "mean", "deviation", "least", "most", "norm")
    )


@command(model, "upload")
def upload_model(
    ask: Ask,
    file: File,
    name: Named = "",
    helper: Annotated[
        str, typer.Option(help="Reads FILE. Unset: what its name says (.safetensors, .npz, .bin).")
    ] = "",
) -> None:
    """Upload a seed model: sessions that name none start from it. FEDn calls this set-active.

    Example: fedbus model upload seed.npz --name seed
    """
    with transfer(f"upload {file.name}") as progress:
        view = ask.api.set_active_model(file, name=name, helper=helper, progress=progress)
    ask.done(view, f"{file} is the model {view.digest}")


@command(model, "download")
def download_model(
    ask: Ask,
    which: Model = "newest",
    to: Target = None,
    force: Force = False,
) -> None:
    """Download a model as a safetensors file, checked against its SHA-256; fedbus model convert makes others.

    Example: fedbus model download newest --to model.safetensors
    """
    digest = naming.model(ask.api, which)
    path = _free(to or Path(f"{digest[:12]}.safetensors"), force=force)
    with transfer(f"download {path.name}") as progress:
        ask.api.download_model(digest, path, progress=progress)
    ask.done(ask.api.get_model(digest), f"{path} is the model {digest}")


@command(stage, "get")
def get_stage(ask: Ask, name: Stage) -> None:
    """Show which model is in a stage, and those that were.

    Example: fedbus stage get production
    """
    ask.show(ask.api.get_stage(name))


@command(stage, "promote")
def promote(
    ask: Ask,
    name: Stage,
    which: Annotated[
        str, typer.Option("--model", "-m", help="The beginning of a SHA-256, or newest.")
    ] = "",
    from_stage: Annotated[str, typer.Option("--from", help="The model of this stage.")] = "",
    reason: Reason = "",
) -> None:
    """Put a model into a stage: one by its SHA-256, or the one that is in another stage.

    Example: fedbus stage promote production --from candidate --reason "better on site 3"
    """
    digest = naming.model(ask.api, which) if which else None
    view = ask.api.promote_model(name, digest, from_stage=from_stage or None, reason=reason)
    ask.done(view, f"{view.model} is in {view.stage}")


@command(stage, "rollback")
def roll_back(ask: Ask, name: Stage, reason: Reason = "") -> None:
    """Put the model back that was in a stage before.

    Example: fedbus stage rollback production --reason "worse on site 1"
    """
    view = ask.api.roll_back_stage(name, reason=reason)
    ask.done(view, f"{view.model} is in {view.stage} again")


@command(package, "get")
def get_package(ask: Ask, which: Package) -> None:
    """Show a stored package.

    Example: fedbus package get 9f86d081
    """
    ask.show(ask.api.get_package(naming.package(ask.api, which)))


@command(package, "upload")
def upload_package(
    ask: Ask,
    source: Annotated[Path, typer.Argument(help="An archive, or a package's folder.", exists=True)],
    name: Named = "",
    activate: Annotated[
        bool, typer.Option("--activate", help="New sessions pin it, too; FEDn's set-active.")
    ] = False,
) -> None:
    """Store a package by its SHA-256; a folder is packed first. That makes nobody run it.

    Example: fedbus package upload client --name digits --activate
    """
    with tempfile.TemporaryDirectory() as place, transfer(f"upload {source.name}") as progress:
        file = source
        if source.is_dir():
            file = archive.create(source, Path(place) / f"{source.resolve().name}.tgz").path
        said = name or file.name.partition(".")[0]
        view = ask.api.add_package(file, name=said, progress=progress)
    if activate:
        ask.api.activate_package(view.digest)
        view = ask.api.get_package(view.digest)
    ask.done(view, f"{source} is the package {view.digest}{', and active' if view.active else ''}")


@command(package, "activate")
def activate_package(ask: Ask, which: Package) -> None:
    """Have new sessions pin a stored package; refused once a session has used another.

    Example: fedbus package activate 9f86d081
    """
    view = ask.api.activate_package(naming.package(ask.api, which))
    ask.done(view, f"new sessions pin {view.package}")


@command(package, "deactivate")
def deactivate_package(ask: Ask) -> None:
    """Have new sessions pin no package; refused once a session has used one.

    Example: fedbus package deactivate
    """
    ask.done(ask.api.deactivate_package(), "new sessions pin no package")


@command(package, "download")
def download_package(
    ask: Ask,
    which: Package,
    to: Target = None,
    force: Force = False,
) -> None:
    """Download a package's archive, checked against its SHA-256.

    Example: fedbus package download 9f86d081 --to package.tgz
    """
    view = ask.api.get_package(naming.package(ask.api, which))
    path = _free(to or Path(f"{view.digest[:12]}.{view.form}"), force=force)
    with transfer(f"download {path.name}") as progress:
        ask.api.download_package(path, view.digest, progress=progress)
    ask.done(view, f"{path} is the package {view.digest}")


@command(package, "active")
def active(ask: Ask) -> None:
    """Show which package new sessions pin, whether it can still be replaced, and the generations so far.

    Example: fedbus package active
    """
    view = ask.api.get_federation()
    what = "no package" if view.package is None else f"the package {view.package}"
    text = f"generation {view.generation}: new sessions pin {what}"
    if view.configured:
        text += (
            f"\nsession {view.session} has used it, so it is not replaced: begin anew with "
            "fedbus package initialise"
        )
    ask.done(view, text)


@command(package, "initialise")
def initialise(
    ask: Ask,
    which: Package,
    seed: Annotated[
        str, typer.Option("--model", "-m", help="The beginning of its SHA-256, or newest.")
    ] = "newest",
) -> None:
    """Begin a new generation with a package and a seed model. Sessions that run keep theirs.

    Example: fedbus package initialise digits --model newest
    """
    view = ask.api.initialise(naming.package(ask.api, which), naming.model(ask.api, seed))
    ask.done(view, f"generation {view.generation}: new sessions pin the package {view.package}")


@contextmanager
def transfer(what: str) -> Iterator[Told]:
    """Show a progress bar on standard error, where that is a terminal; give what is told of the bytes."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _free(path: Path, *, force: bool) -> Path:
    if path.exists() and not force:
        raise BadOption(f"{path} is there already; say --force to replace it")
    return path
