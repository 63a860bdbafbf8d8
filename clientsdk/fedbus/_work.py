"""One call of a user's function, with everything around it that takes time: runs in the compute thread."""

import time
from dataclasses import dataclass

from fedbus import _tensorfile
from fedbus._updates import Measured, Trained, check_measured, check_trained
from fedbus.errors import BadModel, BadPackage, BadResult, FedbusError, PackageFailed, TaskAborted
from fedbus.trainer import CommandFunction, Model, Settings, TrainFunction, ValidateFunction


class FunctionFailed(FedbusError):
    """The user's function raised; `__cause__` is what it raised."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A checked result and the seconds that the function took."""

    trained: Trained
    train_s: float


def train(
    function: TrainFunction, data: bytes | bytearray, settings: Settings, weight_max: int
) -> Timed | None:
    """Call a train function and check its result; None when the task was withdrawn meanwhile.

    Raises `FunctionFailed`, `BadResult`, `BadModel`, and `BadPackage`, `PackageFailed` and `TaskAborted`
    as the function does.
    """
    kinds = _tensorfile.kinds(data)
    model = _model(data)
    started = time.monotonic()
    try:
        result = function(model, settings)
        train_s = time.monotonic() - started
        del model
        if settings.cancelled():
            return None
        return Timed(check_trained(result, kinds, weight_max), train_s)
    except (BadPackage, BadResult, PackageFailed, TaskAborted):
        raise
    except (Exception, SystemExit) as error:
        raise FunctionFailed(_told(error)) from error


def validate(function: ValidateFunction, data: bytes | bytearray, settings: Settings) -> Measured:
    """Call a validate function and check its result. Raises as `train` does."""
    model = _model(data)
    try:
        return check_measured(function(model, settings))
    except (BadPackage, BadResult, PackageFailed, TaskAborted):
        raise
    except (Exception, SystemExit) as error:
        raise FunctionFailed(_told(error)) from error


def command(
    function: CommandFunction, data: bytes | bytearray | None, settings: Settings
) -> object:
    """Call a command's function. Raises as `train` does."""
    model = None if data is None else _model(data)
    try:
        result: object = function(model, settings)
    except (BadPackage, BadResult, PackageFailed, TaskAborted):
        raise
    except (Exception, SystemExit) as error:
        raise FunctionFailed(_told(error)) from error
    return result


def _model(data: bytes | bytearray) -> Model:
    try:
        return _tensorfile.read(data)
    except MemoryError as error:
        raise BadModel(f"the model's {len(data)} bytes do not fit into memory twice") from error


def _told(error: BaseException) -> str:
    """Say in one line what was raised, and at which line of the user's code."""
    where = ""
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
    if trace is not None:
        # The function's own file, at its innermost line there: what a library did below says less.
        file = trace.tb_frame.f_code.co_filename
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                where = f' (file "{file}", line {trace.tb_lineno})'
            trace = trace.tb_next
    return f"{type(error).__name__}: {error}{where}"
