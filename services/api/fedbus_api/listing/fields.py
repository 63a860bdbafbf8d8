"""The fields of a view that a list can be filtered and sorted by, found from the view's own types.

A field's name is what stands in the answer, nested ones with dots: `settings.name`, `metrics.loss`. Of a
list of values or of things, a filter holds when it holds for any of them.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, StrEnum
from typing import Annotated, Literal, Union, get_args, get_origin

from fedbus_schemas.refusals import RefusalCode
from pydantic import AwareDatetime, BaseModel

from fedbus_api.problems import Problem

DEPTH_MAX = 4
"""How deep fields nest."""

Value = str | float | bool | datetime | None


class Kind(StrEnum):
    """What the values of a field are."""

    TEXT = "text"
    NUMBER = "number"
    TRUTH = "truth"
    TIME = "time"
    SCALAR = "scalar"
    """Text, a number or a truth value, one beside the other: the entries of a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field. With `many` a row has several values; with `open` the names of its keys come after it."""

    name: str
    path: tuple[str, ...]
    kind: Kind
    many: bool = False
    open: bool = False

    def under(self, key: str) -> "Field":
        """Give the field of one key of an open mapping."""
        path = (*self.path, key)
        return Field(name=f"{self.name}.{key}", path=path, kind=self.kind, many=self.many)

    def values(self, row: object) -> list[Value]:
        """Give the row's values, in order; none known is an empty list or None in it."""
        if len(self.path) == 1 and not self.many:
            return [_plain(getattr(row, self.path[0]))]
        found: list[object] = [row]
        for step in self.path:
            found = [inner for one in found for inner in _step(one, step)]
        return [_plain(one) for one in found]

    def value(self, row: object) -> Value:
        """Give the row's value; of several the first."""
        if len(self.path) == 1 and not self.many:
            return _plain(getattr(row, self.path[0]))
        return next(iter(self.values(row)), None)


class Fields:
    """The fields of a view, by name."""

    def __init__(self, view: type[BaseModel], without: tuple[str, ...] = ()) -> None:
        self.known: Mapping[str, Field] = {
            one.name: one
            for one in _fields(view, _Place())
            if not any(one.name == left or one.name.startswith(f"{left}.") for left in without)
        }

    def find(self, name: str) -> Field:
        """Find a field. Raises `Problem`."""
        found = self.known.get(name)
        if found is not None and not found.open:
            return found
        for cut in (place for place, letter in enumerate(name) if letter == "."):
            mapping = self.known.get(name[:cut])
            if mapping is not None and mapping.open and name[cut + 1 :]:
                return mapping.under(name[cut + 1 :])
        shown = [f"{one.name}.<key>" if one.open else one.name for one in self.known.values()]
        detail = f"query.{name[:64]}: there is no such field; the fields are {', '.join(shown)}"
        raise Problem(RefusalCode.FIELD_UNKNOWN, detail)


def _step(value: object, step: str) -> list[object]:
    if value is None:
        return [None]
    inner: object = value.get(step) if isinstance(value, Mapping) else getattr(value, step)
    if isinstance(inner, tuple | list | frozenset):
        return list(inner)
    return [inner]


_PLAIN = (str, int, float, bool, datetime)


def _plain(value: object) -> Value:
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, _PLAIN):
        return value
    raise AssertionError(f"a field's value is a {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a view the search is."""

    names: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    many: bool = False
    depth: int = 0

    def field(self, kind: Kind, *, is_open: bool = False) -> Field:
        name = ".".join(self.names)
        return Field(name=name, path=self.path, kind=kind, many=self.many, open=is_open)


def _fields(view: type[BaseModel], place: _Place) -> Iterator[Field]:
    for attribute, info in view.model_fields.items():
        names = (*place.names, info.alias or attribute)
        inner = _Place(names, (*place.path, attribute), place.many, place.depth)
        yield from _field(info.annotation, inner)


def _field(annotation: object, place: _Place) -> Iterator[Field]:
    annotation = _bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (tuple, list):
        yield from _field(arguments[0], replace(place, many=True))
    elif origin is dict:
        kind = _kind(_bare(arguments[1]))
        if kind is not None:
            yield place.field(kind, is_open=True)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if place.depth < DEPTH_MAX:
            yield from _fields(annotation, replace(place, depth=place.depth + 1))
    else:
        kind = _kind(annotation)
        if kind is not None:
            yield place.field(kind)


def _bare(annotation: object) -> object:
    """Take off `Annotated` and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            some = [one for one in get_args(annotation) if one is not types.NoneType]
            if len(some) != 1:
                return annotation
            annotation = some[0]
        else:
            return annotation


_KINDS: tuple[tuple[Callable[[type], bool], Kind], ...] = (
    (lambda one: issubclass(one, bool), Kind.TRUTH),
    (lambda one: issubclass(one, str | Enum), Kind.TEXT),
    (lambda one: issubclass(one, int | float), Kind.NUMBER),
)


def _kind(annotation: object) -> Kind | None:
    if get_origin(annotation) is Literal:
        return Kind.TEXT
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = {_kind(_bare(one)) for one in get_args(annotation)}
        return Kind.SCALAR if None not in kinds and Kind.TIME not in kinds else None
    if not isinstance(annotation, type):
        return None
    if annotation is AwareDatetime:  # a class of its own that stands for aware `datetime`s
        return Kind.TIME
    return next((kind for holds, kind in _KINDS if holds(annotation)), None)
