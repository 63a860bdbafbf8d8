"""Records as they are kept and sent: what a user logged, checked, as JSON."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fedbus_schemas.ids import SETTINGS_MAX, TEXT_MAX
from fedbus_schemas.records import (
    PAYLOAD_BYTES_MAX,
    AttributesRecord,
    EventRecord,
    MetricsRecord,
    Record,
    ResultRecord,
    TelemetryRecord,
)
from pydantic import ValidationError

from fedbus._context import RunningTask
from fedbus.errors import BadRecord

_BEGINNING = b'{"number":1,'
Fields = dict[str, Any]


def metrics(
    values: object, step: int, time_s: float, task: RunningTask | None
) -> tuple[bytes, list[str]]:
    """Make a metrics record; give it, and the names left out because they are NaN or infinite.

    The record is empty when all are. Raises `BadRecord`.
    """
    found: dict[str, float] = {}
    left_out: list[str] = []
    for name, value in _mapping("metrics", values):
        number = _number(name, value)
        if math.isfinite(number):
            found[name] = number
        else:
            left_out.append(name)
    if len(found) > SETTINGS_MAX:
        raise BadRecord(f"{len(found)} metrics at once, at most {SETTINGS_MAX}")
    if not found:
        return b"", left_out
    fields = _task(task) | {"metrics": found, "step": step}
    return _made(MetricsRecord, "metrics", fields, time_s), left_out


def attributes(values: object, time_s: float) -> bytes:
    """Make an attributes record. Raises `BadRecord`."""
    found: dict[str, object] = {}
    for name, value in _mapping("attributes", values):
        plain = _plain(value)
        if plain is not None and not isinstance(plain, bool | int | float | str):
            raise BadRecord(
                f"attribute {name!r} must be a text, a number, true, false or None, "
                f"not {type(value).__name__}"
            )
        if isinstance(plain, float) and not math.isfinite(plain):
            raise BadRecord(f"attribute {name!r} must be finite, not {plain}")
        if isinstance(plain, str) and len(plain) > TEXT_MAX:
            raise BadRecord(f"attribute {name!r} has {len(plain)} characters, at most {TEXT_MAX}")
        found[name] = plain
    return _made(AttributesRecord, "attributes", {"attributes": found}, time_s)


def telemetry(key: str, payload: object, time_s: float) -> bytes:
    """Make a telemetry record. Raises `BadRecord`."""
    what = f"telemetry {key!r}"
    fields = {"key": key, "payload": _payload(what, payload)}
    return _made(TelemetryRecord, what, fields, time_s)


def result(key: str, payload: object, time_s: float, task: RunningTask | None) -> bytes:
    """Make a record of an inference result. Raises `BadRecord`."""
    what = f"inference result {key!r}"
    fields = _task(task) | {"key": key, "payload": _payload(what, payload)}
    return _made(ResultRecord, what, fields, time_s)


def event(text: str, level: str, time_s: float, task: RunningTask | None) -> bytes:
    """Make an event record. Raises `BadRecord`."""
    fields = _task(task) | {"text": text, "level": str(level)}
    return _made(EventRecord, "event", fields, time_s)


def _made(kind: type[Record], what: str, fields: Fields, time_s: float) -> bytes:
    time = datetime.fromtimestamp(time_s, UTC)
    try:
        record = kind.model_validate({"number": 1, "time": time, **fields})
        content = record.to_bytes()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadRecord(f"{what}: {place}: {first['msg']}") from error
    except ValueError as error:  # a text that is no Unicode
        raise BadRecord(f"{what}: {error}") from error
    return content.removeprefix(_BEGINNING)


def _task(task: RunningTask | None) -> Fields:
    if task is None:
        return {}
    named = {"session": task.session, "round": task.round, "model": task.model}
    return {name: value for name, value in named.items() if value is not None}


def _mapping(what: str, values: object) -> list[tuple[str, object]]:
    if not isinstance(values, Mapping):
        raise BadRecord(f"{what} must be a dict by name, not {type(values).__name__}")
    if not values:
        raise BadRecord(f"{what} are empty")
    for name in values:
        if not isinstance(name, str):
            raise BadRecord(f"{what} go by names, and {name!r} is no text")
    return list(values.items())


def _number(name: str, value: object) -> float:
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise BadRecord(f"metric {name!r} must be a number, not {_shown(value)}")
    try:
        return float(plain)
    except OverflowError as error:
        raise BadRecord(f"metric {name!r} is too large for a 64-bit float") from error


def _plain(value: object) -> object:
    """Turn a scalar of numpy, or of what works alike, into Python's own."""
    if isinstance(value, bool | int | float | str) and type(value) in (bool, int, float, str):
        return value
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        plain: object = item()
        return plain
    return value


def _payload(what: str, payload: object) -> object:
    try:
        text = json.dumps(
            payload, default=_as_json, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        )
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecord(f"{what} is not JSON: {error}") from error
    if size > PAYLOAD_BYTES_MAX:
        raise BadRecord(f"{what} has {size} bytes as JSON, at most {PAYLOAD_BYTES_MAX}")
    plain: object = json.loads(text)
    return plain


def _as_json(value: object) -> object:
    """Turn what JSON does not know into what it does: arrays into lists."""
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        plain: object = tolist()
        return plain
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:40] + '…'} ({type(value).__name__})"
