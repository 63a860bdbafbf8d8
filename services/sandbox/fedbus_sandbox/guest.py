"""The confined process: `python -m fedbus_sandbox.guest FOLDER`. It loads the code, calls it, writes results.

Everything of ours is imported and every file of the host is opened before the process is confined; the
user's code runs after that.
"""

import linecache
import logging
import mmap
import os
import random
import sys
import traceback
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from fedbus_core.aggregation.kernels import bfloat16_bits
from fedbus_core.aggregation.loading import BLOCK_ITEMS, Scratch
from fedbus_core.aggregation.server_functions import CLASS_NAME
from fedbus_core.aggregation.tensorfile import (
    DTYPES,
    Array,
    Buffer,
    Layout,
    TensorFileError,
    as_float32,
    parse_layout,
    parts,
)
from fedbus_schemas.codec import read
from fedbus_schemas.events import FAILURE_CHARS_MAX
from fedbus_schemas.sessions import ServerMethod

from fedbus_sandbox import request as files
from fedbus_sandbox.confine import CannotConfine, Limits, confine, die_with_parent
from fedbus_sandbox.memory import CannotKeep, decode, encode
from fedbus_sandbox.request import Report, Request

Parameters: TypeAlias = "list[Array] | dict[str, Array]"
"""A model as the code sees it: a list where its names are 0, 1, …, else arrays by name."""


class BadResult(Exception):
    """The code gave something that is no model; the text says what."""


class ServerFunctionsBase:
    """What the class may derive from, as in FEDn; it asks for nothing."""


class Printed:
    """Takes what the code prints: so many lines, each cut."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, *values: object, sep: str = " ", **_: object) -> None:
        """Stand in for `print`."""
        for line in sep.join(str(one) for one in values).splitlines():
            if len(self.lines) < files.PRINTED_LINES_MAX:
                self.lines.append(line[: files.PRINTED_CHARS_MAX])


class _Handler(logging.Handler):
    def __init__(self, printed: Printed) -> None:
        super().__init__()
        self._printed = printed

    def emit(self, record: logging.LogRecord) -> None:
        self._printed(self.format(record))


def main(folder: Path) -> None:
    """Serve the one request that lies in the folder."""
    asked = read(Request, (folder / files.REQUEST).read_bytes())
    die_with_parent(asked.host)
    source = (folder / files.SOURCE).read_text(encoding="utf-8")
    linecache.cache[files.SOURCE] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        files.SOURCE,
    )
    printed = Printed()
    outputs = _Outputs(*((folder / name).open("wb") for name in files.OUTPUTS))
    try:
        inputs = _Inputs(folder, asked)
        confine(Limits(asked.memory, asked.file, asked.processor_s))
        functions = _load(source, asked, inputs, printed)
        made = _call(functions, asked, inputs)
        outputs.model.writelines(_pieces(inputs, made))
        outputs.state.write(encode(vars(functions)))
        report = Report(printed=tuple(printed.lines))
    except (CannotConfine, BadResult, CannotKeep) as error:
        report = Report(failure=str(error), printed=tuple(printed.lines))
    except BaseException as error:  # noqa: BLE001  # whatever a stranger's code raises is its failure
        report = Report(failure=_told(error), printed=tuple(printed.lines))
    with outputs.model, outputs.state, outputs.report:
        outputs.report.write(report.to_bytes())


class _Outputs(typing.NamedTuple):
    """Where results go: no other file can be opened later."""

    model: typing.BinaryIO
    state: typing.BinaryIO
    report: typing.BinaryIO


class _Inputs:
    """The files of the call, mapped: pages are read when looked at, and copied when written to."""

    def __init__(self, folder: Path, asked: Request) -> None:
        self.base_layout, self.base = _mapped(folder / files.BASE)
        self.updates = {
            one.client: (_mapped(folder / files.update_name(place))[1], one)
            for place, one in enumerate(asked.updates)
        }
        self.state = (folder / files.STATE).read_bytes() if asked.has_state else None

    def metadata(self, client: str) -> dict[str, float]:
        _, given = self.updates[client]
        return {**given.metrics, "num_examples": given.examples}


def _mapped(path: Path) -> tuple[Layout, Parameters]:
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    layout = parse_layout(data, data.nbytes)
    return layout, _parameters(layout, data)


def _parameters(layout: Layout, data: memoryview) -> Parameters:
    named: dict[str, Array] = {}
    for spec in layout.tensors:
        if spec.dtype == "BF16":
            named[spec.name] = as_float32(spec, data)
            continue
        kind = np.dtype(np.bool_) if spec.dtype == "BOOL" else DTYPES[spec.dtype]
        if spec.items:
            found = np.frombuffer(data, kind, count=spec.items, offset=spec.start)
            named[spec.name] = found.reshape(spec.shape)
        else:
            named[spec.name] = np.empty(spec.shape, kind)
    order = _list_order(layout)
    return [named[name] for name in order] if order else named


def _list_order(layout: Layout) -> list[str]:
    """Give the names in the order of a list, none when they are not 0, 1, …"""
    names = [spec.name for spec in layout.tensors]
    numbered = [str(place) for place in range(len(names))]
    return numbered if sorted(names) == sorted(numbered) else []


def _load(source: str, asked: Request, inputs: _Inputs, printed: Printed) -> Any:
    """Make the user's object, with what it remembered."""
    random.seed(asked.seed)
    np.random.seed(asked.seed % 2**32)  # noqa: NPY002  # what such code draws from
    logger = logging.getLogger("server_functions")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_Handler(printed))
    offered = {
        name: getattr(typing, name)
        for name in ("Any", "Dict", "List", "Optional", "Tuple", "Union")
    }
    space: dict[str, object] = {
        **offered,
        "__name__": "server_functions",
        "ServerFunctionsBase": ServerFunctionsBase,
        "logger": logger,
        "np": np,
        "numpy": np,
        "os": os,
        "print": printed,
        "random": random,
    }
    exec(compile(source, files.SOURCE, "exec"), space)  # noqa: S102  # confined by now
    kind: Any = space[CLASS_NAME]
    functions = kind()
    if inputs.state is not None:
        vars(functions).update(decode(inputs.state))
    return functions


def _call(functions: Any, asked: Request, inputs: _Inputs) -> object:
    if ServerMethod.AGGREGATE in asked.methods:
        updates = {
            client: (parameters, inputs.metadata(client))
            for client, (parameters, _) in inputs.updates.items()
        }
        return functions.aggregate(inputs.base, updates)
    for client, (parameters, _) in inputs.updates.items():
        functions.incremental_aggregate(client, parameters, inputs.metadata(client), inputs.base)
    return functions.get_incremental_aggregate_model()


def _pieces(inputs: _Inputs, made: object) -> list[Buffer]:
    """Encode the new model in the base model's names, types and shapes."""
    layout = inputs.base_layout
    given = _by_name(layout, made)
    tensors: dict[str, Array] = {}
    for spec in layout.tensors:
        value = np.asarray(given[spec.name])
        if value.shape != spec.shape:
            raise BadResult(
                f"{spec.name!r} was given with shape {value.shape}, the model has {spec.shape}"
            )
        if value.dtype.kind not in "biuf":
            raise BadResult(f"{spec.name!r} was given as {value.dtype}, which is no number")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BadResult(f"{spec.name!r} was given with NaN or infinite values")
        tensors[spec.name] = _cast(spec.dtype, value)
        if tensors[spec.name].dtype.kind == "f" and not np.isfinite(tensors[spec.name]).all():
            raise BadResult(f"{spec.name!r} was given with values beyond {spec.dtype}")
    bf16 = [spec.name for spec in layout.tensors if spec.dtype == "BF16"]
    try:
        return parts(tensors, bf16=bf16)
    except TensorFileError as error:
        raise BadResult(error.detail) from error


def _cast(dtype: str, value: Array) -> Array:
    if dtype == "BOOL":
        return value.astype(np.bool_)
    if dtype == "BF16":
        flat, scratch = value.astype(np.float64).ravel(), Scratch()
        blocks = range(0, flat.size, BLOCK_ITEMS)
        bits = [bfloat16_bits(flat[start : start + BLOCK_ITEMS], scratch) for start in blocks]
        return np.frombuffer(b"".join(bits), "<u2").reshape(value.shape)
    with np.errstate(over="ignore"):
        return value.astype(DTYPES[dtype])


def _by_name(layout: Layout, made: object) -> dict[str, Any]:
    order = _list_order(layout)
    if isinstance(made, Mapping):
        given = {str(name): value for name, value in made.items()}
    elif isinstance(made, Sequence) and order:
        given = dict(zip(order, made, strict=False)) if len(made) == len(order) else {}
    else:
        wanted = "a list of arrays" if order else "a dictionary of arrays by name"
        raise BadResult(f"the functions gave {type(made).__name__}, not {wanted}")
    names = {spec.name for spec in layout.tensors}
    if given.keys() != names:
        raise BadResult(
            f"the functions gave {len(given)} arrays of other names than the model's {len(names)}"
        )
    return given


def _told(error: BaseException) -> str:
    """Tell an error with the user's own line."""
    text = "".join(traceback.format_exception_only(error)).strip()
    lines = [
        one for one in traceback.extract_tb(error.__traceback__) if one.filename == files.SOURCE
    ]
    place = f"line {lines[-1].lineno}: {(lines[-1].line or '').strip()}: " if lines else ""
    return f"{place}{text}"[:FAILURE_CHARS_MAX]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
