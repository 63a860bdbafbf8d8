"""How a model lies in a file that a package reads and writes: the helpers, found by their names.

A helper turns arrays by name into a file and back. The servers see tensor files only; a helper stands
between them and code that wants another form, as FEDn's packages do. Helpers are entry points of the group
`fedbus.helpers`, or a module in the package's own folder with a class `Helper` in it.

```python
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fedbus.helpers import find

helper = find("numpyhelper")
model = {"0": np.zeros((2, 3), np.float32), "1": np.ones(3, np.float32)}
with TemporaryDirectory() as folder:
    path = Path(folder) / "model.npz"
    helper.to_file(model, path)
    assert np.array_equal(helper.from_file(path, model)["1"], model["1"])
```

No helper unpickles anything, and every one bounds what it reads by the model that it expects.
"""

import importlib.util
import re
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from fedbus._tensorfile import Array
from fedbus.errors import BadOption

GROUP = "fedbus.helpers"
DEFAULT = "safetensors"

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")


@runtime_checkable
class Helper(Protocol):
    """Writes and reads models. Both methods block: call them in a thread."""

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write arrays of any shape and of numbers. Raises `BadResult` for what the form cannot hold."""

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read arrays with the names and shapes of `like`. Raises `BadModel`, whatever the bytes.

        An empty `like` says that nothing is known: then the file's own names are taken (`0`, `1`, … where
        it has none), and only the general limits hold. The element types are the file's.
        """


def names() -> tuple[str, ...]:
    """Name the installed helpers, sorted."""
    return tuple(sorted(entry_points(group=GROUP).names))


def find(name: str, package: Path | None = None) -> Helper:
    """Find a helper by its name: an installed one, else `NAME.py` in the package's folder.

    The package's own one is code of that package: it is loaded and run in this process. Raises `BadOption`
    when there is none, or when what is there is none.
    """
    installed = entry_points(group=GROUP, name=name)
    if installed:
        return _made(next(iter(installed)).load(), name)
    own = None if package is None or not _NAME.fullmatch(name) else package / f"{name}.py"
    if own is None or not own.is_file():
        where = "" if package is None else f", and there is no {name}.py in {package}"
        raise BadOption(f"no helper is named {name!r}; there are {', '.join(names())}{where}")
    return _made(_load(own, name), name)


def list_order(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """Give the order of a model's names where a form has a list: by number if all are numbers, else sorted.

    So the arrays of a list, named `0`, `1`, … `10`, come back in the list's order.
    """
    if all(name.isascii() and name.isdecimal() for name in arrays):
        return tuple(sorted(arrays, key=lambda name: (int(name), name)))
    return tuple(sorted(arrays))


def _load(path: Path, name: str) -> object:
    spec = importlib.util.spec_from_file_location(f"fedbus_package_{name}", path)
    assert spec is not None, "a file that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as `import` would: dataclasses and pickles in it need that
    spec.loader.exec_module(module)
    found: object = getattr(module, "Helper", None)
    if found is None:
        raise BadOption(f"{path} has no class Helper")
    return found


def _made(kind: object, name: str) -> Helper:
    made: object = kind() if callable(kind) else None
    if not isinstance(made, Helper):
        raise BadOption(
            f"the helper {name!r} has no to_file(arrays, path) and from_file(path, like)"
        )
    return made
