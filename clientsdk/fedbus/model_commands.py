"""`fedbus model convert`: from a file that a helper knows to the tensor file of the servers, and back."""

from pathlib import Path
from typing import Annotated

import typer

from fedbus import _files
from fedbus._tensorfile import Array, dtype_name
from fedbus.errors import BadOption
from fedbus.helpers import DEFAULT, Helper, find, list_order

SUFFIXES = {".safetensors": DEFAULT, ".npz": "numpyhelper"}
"""Which helper a file's name says, where none is named."""

app = typer.Typer(no_args_is_help=True, help="Models as files.")


@app.callback()
def _model() -> None:
    """Keep `convert` a sub-command, also while it is the only one."""


@app.command("convert")
def convert_file(
    source: Annotated[Path, typer.Argument(help="The file to read.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    helper: Annotated[
        str, typer.Option(help="Reads SOURCE. Without: what its name says (.npz: numpyhelper).")
    ] = "",
    to: Annotated[
        str, typer.Option(help="Writes TARGET. Without: what its name says (.safetensors).")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it is there.")] = False,
) -> None:
    """Convert a model, as a seed made for FEDn: `fedbus model convert seed.npz seed.safetensors`.

    A list of arrays becomes tensors with the names 0, 1, … in the list's order.
    """
    if target.exists() and not force:
        raise BadOption(f"{target} is there already; say --force to replace it")
    reader, writer = find(helper or _said(source)), find(to or _said(target))
    arrays = convert(source, target, reader, writer)
    for name in list_order(arrays):
        print(f"{name}\t{dtype_name(name, arrays[name])}\t{list(arrays[name].shape)}")


def convert(source: Path, target: Path, reader: Helper, writer: Helper) -> dict[str, Array]:
    """Read a file and write it in another form, whole or not at all; gives the arrays.

    Raises `BadModel` for what cannot be read and `BadResult` for what the other form cannot hold.
    """
    arrays = reader.from_file(source, {})
    beside = target.with_name(target.name + _files.NEW)
    try:
        writer.to_file(arrays, beside)
        _files.move(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return arrays


def _said(path: Path) -> str:
    name = SUFFIXES.get(path.suffix)
    if name is None:
        raise BadOption(f"the name of {path} does not say what it is; name a helper")
    return name
