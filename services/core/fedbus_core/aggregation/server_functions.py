"""An operator's server functions: what their source offers, and what is asked of whoever runs them.

The five methods and their meaning are FEDn's (its page "server functions"). Nothing here runs code.
"""

import ast
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fedbus_schemas.sessions import ServerFunctions, ServerMethod

from fedbus_core.aggregation.rows import Source
from fedbus_core.aggregation.rules.rule import Member
from fedbus_core.aggregation.tensorfile import Buffer

CLASS_NAME = "ServerFunctions"
SOURCE_BYTES_MAX = 256 * 1024


class SourceError(Exception):
    """The text is no source of server functions; the message says where and why."""


class FunctionFailed(Exception):
    """A function raised, gave something that is no model, or used up what it may use."""


@dataclass(frozen=True, slots=True)
class Given:
    """An update as the functions see it. `size` is its file's length in bytes."""

    member: Member
    source: Source
    size: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One call: make the new model of a round. `state` is what the last one left, None before the first.

    `updates` are sorted by client. `seed` starts the chance that the functions use.
    """

    functions: ServerFunctions
    source: bytes
    base: Buffer
    updates: Sequence[Given]
    state: Buffer | None
    seed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The new model's file, what the functions remember, and the lines that they printed."""

    model: bytearray
    state: bytearray
    printed: tuple[str, ...] = ()


Run: TypeAlias = Callable[[Aggregate], Answer]
"""Runs the functions somewhere safe and waits for them. Raises `FunctionFailed`."""


def call_seed(seed: int, round_number: int) -> int:
    """Give what starts the chance of a round's functions: the session's seed and the round decide it."""
    name = f"functions/{seed}/{round_number}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def methods_of(source: bytes) -> tuple[ServerMethod, ...]:
    """Say which methods the class `ServerFunctions` in a source defines, sorted. Raises `SourceError`."""
    if len(source) > SOURCE_BYTES_MAX:
        raise SourceError(f"the source has {len(source)} bytes, over {SOURCE_BYTES_MAX}")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise SourceError(f"the source is no Python: {line}") from error
    found = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == CLASS_NAME]
    if not found:
        raise SourceError(f"the source defines no class {CLASS_NAME}")
    names = {one.name for one in found[-1].body if isinstance(one, ast.FunctionDef)}
    methods = tuple(sorted(one for one in ServerMethod if one in names))
    if not methods:
        known = ", ".join(sorted(ServerMethod))
        raise SourceError(f"the class {CLASS_NAME} defines none of {known}")
    halves = {ServerMethod.INCREMENTAL_AGGREGATE, ServerMethod.GET_INCREMENTAL_AGGREGATE_MODEL}
    if len(halves & set(methods)) == 1:
        raise SourceError(f"{' and '.join(sorted(halves))} are defined together or not at all")
    return methods
