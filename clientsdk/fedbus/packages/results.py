"""Reads what a package says of its work: a JSON mapping, as FEDn's metadata and reports are."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedbus.errors import BadResult

JSON_BYTES_MAX = 1024 * 1024
METRICS_MAX = 64


def read_mapping(path: Path, entry: str) -> dict[str, Any]:
    """Read a mapping that a package wrote. Raises `BadResult`, whatever the bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(JSON_BYTES_MAX + 1)
    except OSError as error:
        raise BadResult(f"{entry} wrote no {path.name}") from error
    if len(data) > JSON_BYTES_MAX:
        raise BadResult(f"{entry} wrote over {JSON_BYTES_MAX} bytes to {path.name}")
    try:
        content: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadResult(f"{entry} wrote no JSON to {path.name}: {error}") from error
    if not isinstance(content, dict):
        raise BadResult(f"{entry} wrote no mapping to {path.name}")
    return content


def trained(told: Mapping[str, Any], entry: str) -> tuple[int, dict[str, float]]:
    """Give the examples and the metrics of a training; the mapping may lie in `training_metadata`."""
    inner = told.get("training_metadata")
    told = {**told, **inner} if isinstance(inner, dict) else told
    examples = told.get("num_examples")
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        raise BadResult(
            f"{entry} said num_examples = {examples!r}; it must be a whole number of at least 1"
        )
    return examples, metrics_of(told)


def measured(told: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """Give the weight and the metrics of a validation; without `num_examples` it weighs 1."""
    examples = told.get("num_examples", 1)
    weight = examples if isinstance(examples, int) and examples >= 0 else 1
    return weight, metrics_of(told)


def metrics_of(told: Mapping[str, Any]) -> dict[str, float]:
    """Take the numbers out of a report, at most 64 of them; texts are for the package's own log."""
    numbers = {
        str(name): float(value)
        for name, value in told.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "num_examples"
    }
    finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
    return dict(list(finite.items())[:METRICS_MAX])
