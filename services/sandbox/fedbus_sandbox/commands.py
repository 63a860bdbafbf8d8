"""`fedbus server-functions test FILE`: runs a class on fake updates, as a combiner would."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import typer
from fedbus_core.aggregation.rules.rule import Member
from fedbus_core.aggregation.server_functions import (
    Aggregate,
    FunctionFailed,
    Given,
    SourceError,
    call_seed,
    methods_of,
)
from fedbus_core.aggregation.tensorfile import Array, TensorFileError, parse_layout, views, write
from fedbus_schemas.codec import digest
from fedbus_schemas.models import BlobRef
from fedbus_schemas.sessions import ServerFunctions

from fedbus_sandbox.host import run

FAILED = 1

app = typer.Typer(
    no_args_is_help=True, help="Try code of your own that makes a session's models at the server."
)


@app.callback()
def _group() -> None:
    """Keep the command's name although it is the only one."""


@app.command("test")
def try_out(
    file: Annotated[
        Path,
        typer.Argument(help="The source: a class ServerFunctions.", exists=True, dir_okay=False),
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="A model as safetensors; none = two small arrays.", exists=True),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="Fake clients.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds, one after the other.")] = 2,
    seed: Annotated[int, typer.Option(help="Starts all chance.")] = 0,
    seconds_max: Annotated[float, typer.Option(help="Seconds that a call may take.")] = 600.0,
    memory_mb: Annotated[int, typer.Option(min=64, help="MiB that a call may take.")] = 2_048,
) -> None:
    """Run the functions on fake updates, confined as in a combiner; say what they made or where they failed.

    Example: fedbus server-functions test mine.py --clients 5
    """
    source = file.read_bytes()
    try:
        base = _default() if model is None else model.read_bytes()
        arrays = views(parse_layout(base, len(base)), base)
        methods = methods_of(source)
        functions = ServerFunctions(
            code=BlobRef(digest=digest(source), size=len(source)),
            methods=methods,
            seconds_max=seconds_max,
            memory_mb=memory_mb,
        )
    except (SourceError, TensorFileError) as error:
        _fail(str(error))
    if not functions.makes_models:
        _fail(f"the class defines {', '.join(methods)}, and nothing that aggregates")
    state: bytearray | None = None
    for number in range(1, rounds + 1):
        updates = _fakes(arrays, clients, seed + number)
        call = Aggregate(functions, source, base, updates, state, call_seed(seed, number))
        try:
            answer = run(call)
        except FunctionFailed as error:
            _fail(f"round {number}: {error}")
        for line in answer.printed:
            typer.echo(f"round {number} printed: {line}")
        typer.echo(
            f"round {number}: model {digest(answer.model)[:16]}, state {len(answer.state)} bytes"
        )
        base, state = bytes(answer.model), answer.state


def _fail(text: str) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    raise typer.Exit(FAILED)


def _default() -> bytes:
    return write({"0": np.zeros((4, 3), np.float32), "1": np.zeros(3, np.float32)})


@dataclass(frozen=True, slots=True)
class _Kept:
    data: bytes

    def read_at(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


def _fakes(arrays: dict[str, Array], clients: int, seed: int) -> list[Given]:
    """Make updates that lie around the model, with 10, 20, … examples."""
    chance = np.random.default_rng(seed)
    fakes: list[Given] = []
    for place in range(clients):
        moved = {
            name: np.add(one, chance.normal(0.0, 0.1, one.shape), dtype=np.float64).astype(
                one.dtype
            )
            if one.dtype.kind == "f"
            else one
            for name, one in arrays.items()
        }
        data = write(moved)
        member = Member(f"client-{place + 1}", 10 * (place + 1), {"loss": 1.0})
        fakes.append(Given(member, _Kept(data), len(data)))
    return fakes
