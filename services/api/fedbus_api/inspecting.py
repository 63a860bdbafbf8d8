"""What is in a model: its tensors with their shapes, element types and statistics, and small ones' values."""

import asyncio
import math

import numpy as np
from fedbus_core.aggregation.tensorfile import Buffer, TensorSpec, as_float32, flat, parse_layout
from fedbus_runtime.ports import Blobs
from fedbus_schemas import keys
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.models import ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.trail_views import ParametersView, TensorView
from numpy.typing import NDArray

from fedbus_api.problems import Problem

VALUES_MAX = 10_000
"""Elements of a model whose values are told as JSON; of a larger one only the statistics."""
MODELS_AT_ONCE = 1


class Inspector:
    """Reads models. One at a time is in memory."""

    def __init__(self, blobs: Blobs, bytes_max: int) -> None:
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._slots = asyncio.Semaphore(MODELS_AT_ONCE)

    async def parameters(
        self, project: ProjectId, model: ModelRef, *, values: bool
    ) -> ParametersView:
        """Describe a model's tensors. Raises `Problem` when it is too large to look at, or for its values."""
        if model.size > self._bytes_max:
            detail = (
                f"{model.size} bytes; up to {self._bytes_max} are looked at, download it instead"
            )
            raise Problem(RefusalCode.TOO_LARGE, detail)
        async with self._slots:
            data = await self._blobs.get(keys.model(project, model.digest), model.size)
            return await asyncio.to_thread(_describe, model, data, values)


def _describe(model: ModelRef, data: Buffer, values: bool) -> ParametersView:  # for a thread
    layout = parse_layout(data, len(data))
    items = sum(spec.items for spec in layout.tensors)
    if values and items > VALUES_MAX:
        detail = f"{items} elements; values are told of {VALUES_MAX} at most, download it instead"
        raise Problem(RefusalCode.TOO_LARGE, detail)
    tensors = tuple(_tensor(spec, data, values=values) for spec in layout.tensors)
    return ParametersView(
        digest=model.digest,
        layout=model.layout,
        size=model.size,
        parameters=items,
        tensors=tensors,
    )


def _tensor(spec: TensorSpec, data: Buffer, *, values: bool) -> TensorView:
    numbers = _numbers(spec, data)
    finite = numbers[np.isfinite(numbers)]
    shown = None
    if values:
        shown = tuple(one if math.isfinite(one) else None for one in numbers.ravel().tolist())
    some = finite.size > 0
    return TensorView(
        name=spec.name,
        dtype=spec.dtype,
        shape=spec.shape,
        parameters=spec.items,
        zeros=int(np.count_nonzero(numbers == 0)),
        not_finite=int(numbers.size - finite.size),
        least=float(finite.min()) if some else None,
        most=float(finite.max()) if some else None,
        mean=float(finite.mean(dtype=np.float64)) if some else None,
        deviation=float(finite.std(dtype=np.float64)) if some else None,
        norm=float(np.sqrt(np.square(finite, dtype=np.float64).sum())) if some else None,
        values=shown,
    )


def _numbers(spec: TensorSpec, data: Buffer) -> NDArray[np.float32] | NDArray[np.float64]:
    if spec.dtype in ("BF16", "F16", "F32"):
        return as_float32(spec, data)
    return flat(spec, data).astype(np.float64)
