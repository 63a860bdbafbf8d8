"""From what a train function returned to what is sent: the checks, the file, the signed manifest."""

import base64
import hashlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from fedbus_schemas import signing
from fedbus_schemas.ids import SETTINGS_MAX
from fedbus_schemas.models import INLINE_BYTES_MAX, BlobRef
from fedbus_schemas.tasks import TrainTask
from fedbus_schemas.updates import Manifest, Submission, Timings
from pydantic import ValidationError

from fedbus import _tensorfile
from fedbus._tensorfile import DTYPES, Array, Buffer, Kind
from fedbus.errors import BadResult

METRIC_NAME_MAX = 128
WEIGHT_MAX = 2**63 - 1

# The smallest float32 that rounds to an infinite bfloat16.
_BFLOAT16_END = np.uint32(0x7F7F8000).view(np.float32)


@dataclass(frozen=True, slots=True, order=True)
class UpdateKey:
    """What there is at most one update of."""

    session: str
    round: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.session} round {self.round}.{self.attempt}"


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A train function's arrays: the file of an update before it is made."""

    tensors: Mapping[str, Array]
    dtypes: Mapping[str, str]

    def parts(self) -> Iterator[Buffer]:
        """Yield the file's bytes, the same each time unless the arrays are changed meanwhile."""
        return _tensorfile.parts(self.tensors, self.dtypes)

    def joined(self) -> bytes:
        """Make the file in memory."""
        return b"".join(self.parts())


@dataclass(frozen=True, slots=True)
class Update:
    """A finished update: the exact bytes to submit, and the file to upload if it does not ride along.

    Made once. Whatever is sent again is these bytes. `result` is there until the file is made.
    """

    key: UpdateKey
    blob: BlobRef
    submission: bytes
    rides_along: bool
    file: bytes | None = None
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """A train function's result, checked."""

    result: Result
    weight: int
    metrics: dict[str, float]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """A validate function's result, checked. `left_out` names metrics that were NaN or infinite."""

    weight: int
    metrics: dict[str, float]
    left_out: tuple[str, ...] = ()


def check_trained(result: object, model: Mapping[str, Kind], weight_max: int) -> Trained:
    """Check what a train function returned against the model. Raises `BadResult`."""
    if not isinstance(result, tuple | list) or len(result) != 3:
        raise BadResult("train must return (model, number of examples, metrics)")
    tensors, weight, metrics = result
    if not isinstance(tensors, Mapping):
        raise BadResult(f"train must return the model as a dict, not {type(tensors).__name__}")
    arrays = _arrays(tensors, model)
    dtypes = {name: dtype for name, (dtype, _) in model.items()}
    numbers, left_out = _metrics(metrics)
    weight = _whole(weight, 1, weight_max)
    return Trained(Result(arrays, dtypes), weight, numbers, left_out)


def check_measured(result: object) -> Measured:
    """Check what a validate function returned. Raises `BadResult`."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise BadResult("validate must return (number of examples, metrics)")
    weight, metrics = result
    numbers, left_out = _metrics(metrics)
    return Measured(_whole(weight, 0, WEIGHT_MAX), numbers, left_out)


def make(
    *,
    project: str,
    session: str,
    client: str,
    task: TrainTask,
    trained: Trained,
    timings: Timings,
    public_key: str,
    sign: Callable[[bytes, str], str],
) -> Update:
    """Write and sign the manifest, once. A small file rides along in the submission.

    Raises `BadResult` when the metrics are too much for a manifest.
    """
    blob = _blob_of(trained.result)
    rides_along = blob.size <= min(task.inline_bytes_max, INLINE_BYTES_MAX)
    try:
        manifest = Manifest(
            project=project,
            session=session,
            round=task.round,
            attempt=task.attempt,
            client=client,
            base=task.model.digest,
            update=blob,
            weight=trained.weight,
            metrics=trained.metrics,
            timings=timings,
        )
        text = manifest.to_bytes().decode()
        submission = Submission(
            manifest=text,
            key=public_key,
            signature=sign(signing.MANIFEST, text),
            inline=base64.b64encode(trained.result.joined()).decode() if rides_along else None,
        )
    except ValidationError as error:
        raise BadResult("the metrics' names are too long together, or not text") from error
    return Update(
        key=UpdateKey(session, task.round, task.attempt),
        blob=blob,
        submission=submission.to_bytes(),
        rides_along=rides_along,
        result=None if rides_along else trained.result,
    )


def _blob_of(result: Result) -> BlobRef:
    digest, size = hashlib.sha256(), 0
    for part in result.parts():
        digest.update(part)
        size += memoryview(part).nbytes
    return BlobRef(digest=digest.hexdigest(), size=size)


def reopen(submission: bytes) -> Update:
    """Make the update again from a kept submission. Raises `ValueError` when it is not one."""
    kept = Submission.model_validate_json(submission)
    manifest = kept.content()
    key = UpdateKey(manifest.session, manifest.round, manifest.attempt)
    return Update(key, manifest.update, submission, rides_along=kept.inline is not None)


def _arrays(tensors: Mapping[object, object], model: Mapping[str, Kind]) -> dict[str, Array]:
    missing = sorted(model.keys() - tensors.keys())
    unknown = sorted(str(name) for name in tensors.keys() - model.keys())
    if missing:
        raise BadResult(f"tensor {missing[0]!r} of the model is missing in the result")
    if unknown:
        raise BadResult(f"tensor {unknown[0]!r} of the result is not in the model")
    return {name: _fitted(name, tensors[name], *kind) for name, kind in model.items()}


def _fitted(name: str, value: object, dtype: str, shape: tuple[int, ...]) -> Array:
    try:
        array: Array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise BadResult(f"tensor {name!r} cannot be made an array: {error}") from error
    if array.shape != shape:
        raise BadResult(f"tensor {name!r} has the shape {array.shape}, the model's has {shape}")
    wanted = np.dtype(np.float32) if dtype == "BF16" else DTYPES[dtype]
    fitted = _cast(name, array, wanted)
    if wanted.kind == "f" and not np.isfinite(fitted).all():
        bad = int(fitted.size - np.count_nonzero(np.isfinite(fitted)))
        raise BadResult(f"tensor {name!r} holds NaN or infinity in {bad} of {fitted.size} places")
    if dtype == "BF16" and not _fits_bfloat16(fitted):
        raise BadResult(f"tensor {name!r} holds a value too large for bfloat16")
    return fitted


def _cast(name: str, array: Array, wanted: np.dtype[np.generic]) -> Array:
    """Cast to the model's element type, if that says the same: floats round, whole numbers stay."""
    if array.dtype == wanted:
        return array
    if wanted.kind == "f" and array.dtype.kind in "fiu":
        with np.errstate(over="ignore"):
            return array.astype(wanted)
    if wanted.kind in "iu" and array.dtype.kind in "iu":
        cast = array.astype(wanted)
        # Compared as Python's own whole numbers at the ends only: numpy would compare as float64.
        if array.size == 0 or (
            int(array.min()) == int(cast.min()) and int(array.max()) == int(cast.max())
        ):
            return cast
        raise BadResult(f"tensor {name!r} holds a whole number that does not fit into {wanted}")
    raise BadResult(f"tensor {name!r} has the element type {array.dtype}, the model's is {wanted}")


def _fits_bfloat16(array: Array) -> bool:
    return bool((np.abs(array) < _BFLOAT16_END).all())


def _whole(weight: object, low: int, high: int) -> int:
    try:
        number = operator.index(weight)  # type: ignore[arg-type]
    except TypeError as error:
        raise BadResult(f"the number of examples must be a whole number, not {weight!r}") from error
    if isinstance(weight, bool) or not low <= number <= high:
        raise BadResult(f"the number of examples must be from {low} to {high}, not {weight!r}")
    return number


def _metrics(metrics: object) -> tuple[dict[str, float], tuple[str, ...]]:
    if not isinstance(metrics, Mapping):
        raise BadResult(f"metrics must be a dict of numbers, not {type(metrics).__name__}")
    if len(metrics) > SETTINGS_MAX:
        raise BadResult(f"{len(metrics)} metrics, over the {SETTINGS_MAX} that may be sent")
    numbers = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or len(name) > METRIC_NAME_MAX:
            raise BadResult(f"a metric's name must be a short text, not {str(name)[:64]!r}")
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise BadResult(f"metric {name!r} must be a number") from error
    # A loss that is not a number must not cost the round its update: it is left out.
    left_out = tuple(name for name, value in numbers.items() if not math.isfinite(value))
    return {name: value for name, value in numbers.items() if math.isfinite(value)}, left_out
