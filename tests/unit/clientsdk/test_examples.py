"""Every example in a docstring of the SDK runs."""

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType

import fedbus
import pytest

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    modules = [fedbus] + [
        importlib.import_module(f"fedbus.{one.name}")
        for one in pkgutil.iter_modules(fedbus.__path__)
        if not one.name.startswith("_")
    ]
    for module in modules:
        for name, text in documented(module):
            for example in EXAMPLE.findall(text):
                yield name, example


def documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    yield module.__name__, module.__doc__ or ""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) == module.__name__ and value.__doc__:
            yield f"{module.__name__}.{name}", inspect.cleandoc(value.__doc__)


FOUND = list(examples())


@pytest.mark.parametrize(("name", "example"), FOUND, ids=[name for name, _ in FOUND])
def test_the_example_runs(name: str, example: str) -> None:
    exec(compile(textwrap.dedent(example), f"<example of {name}>", "exec"), {"__name__": "example"})


def test_the_main_ones_have_examples() -> None:
    names = {name for name, _ in FOUND}
    for needed in ("client.run", "client.Client", "options.Options", "trainer.Settings"):
        assert f"fedbus.{needed}" in names
    assert "fedbus.testing.run_once" in names
