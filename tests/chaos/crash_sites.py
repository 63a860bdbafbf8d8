"""Reads the services' source for crash points: every call of theirs that changes something outside.

A site is `<service>.<module>.<function>.<method>`, for the consumer loop with the consumer's name behind it:
the names that `fedbus_runtime.crash_points` gives them when they are passed.
"""

import ast
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

from fedbus_runtime.crash_points import CHANGING, SETTLING
from fedbus_schemas import streams
from fedbus_schemas.streams import Consumer

SERVICES = Path(__file__).parents[2] / "services"
ROLES = ("controller", "combiner", "api")
THROUGH_RUNTIME = ("enter",)
"""Methods of the runtime's own parts that append under another name than their port's."""
SPAWNS = frozenset({"create_task", "supervise"})
CALLS = frozenset(
    {*(name for names in CHANGING.values() for name in names), *SETTLING, *THROUGH_RUNTIME}
)
NO_PORTS = frozenset(
    {
        "api.main.serve.serve",
        "api.routes.status.status.count",
        "api.routes.dead_letters.retry.retry",
    }
)
"""Calls that only have a port method's name: of the HTTP server, and of the api's own parts."""


@lru_cache(maxsize=1)
def sites() -> Counter[str]:
    """Give every site; where one function calls a method twice, it counts twice."""
    found: Counter[str] = Counter()
    loop = list(_calls(SERVICES / "runtime/fedbus_runtime/consumer.py"))
    for role in ROLES:
        package = SERVICES / role / f"fedbus_{role}"
        for path in sorted(package.rglob("*.py")):
            module = ".".join(path.relative_to(package).with_suffix("").parts)
            found.update(f"{role}.{module}.{site}" for site in _calls(path))
        for consumer in _consumers(package / "main.py"):
            found.update(f"{role}.consumer.{site}.{consumer}" for site in loop)
    for site in NO_PORTS:
        del found[site]
    return found


def _calls(path: Path) -> Iterator[str]:
    """Give `function.method` of each call that is awaited or made a task of."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.AsyncFunctionDef):
            for method in _inside(function):
                yield f"{function.name}.{method}"


def _inside(function: ast.AsyncFunctionDef) -> Iterator[str]:
    nested = {
        inner
        for one in ast.walk(function)
        if one is not function and isinstance(one, ast.AsyncFunctionDef)
        for inner in ast.walk(one)
    }
    for node in ast.walk(function):
        if node in nested:
            continue
        if isinstance(node, ast.Await):
            yield from _changing([node.value], CALLS)
        elif isinstance(node, ast.Call) and _method(node) in SPAWNS:
            yield from _changing(node.args, CALLS | {"serve"})


def _changing(candidates: Collection[ast.expr], methods: Collection[str]) -> Iterator[str]:
    for one in candidates:
        if isinstance(one, ast.Call) and _method(one) in methods:
            yield _method(one)


def _method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _consumers(main: Path) -> list[str]:
    """Name the consumers that a service's main takes messages from."""
    named = {
        node.id
        for node in ast.walk(ast.parse(main.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }
    known = {name: one for name, one in vars(streams).items() if isinstance(one, Consumer)}
    return sorted(known[name].name for name in named & known.keys())
