"""How a model lies in a file that a package reads and writes: the helpers, found by their names.

A helper turns arrays by name into a file and back. The servers see tensor files only; a helper stands
between them and code that wants another form, as FEDn's packages do. Helpers are entry points of the group
`fedbus.helpers`. One that a package ships runs in a process of that package (`fedbus.packages.forms`).

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

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, runtime_checkable

from fedbus._tensorfile import Array
from fedbus.errors import BadOption

GROUP = "fedbus.helpers"
DEFAULT = "safetensors"


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


def find(name: str) -> Helper:
    """Find an installed helper by its name. Raises `BadOption` when there is none, or what is there is none."""
    installed = entry_points(group=GROUP, name=name)
    if not installed:
        raise BadOption(f"no helper is named {name!r}; there are {', '.join(names())}")
    kind: object = next(iter(installed)).load()
    made: object = kind() if callable(kind) else None
    if not isinstance(made, Helper):
        raise BadOption(
            f"the helper {name!r} has no to_file(arrays, path) and from_file(path, like)"
        )
    return made


def list_order(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """Give the order of a model's names where a form has a list: by number if all are numbers, else sorted.

    So the arrays of a list, named `0`, `1`, … `10`, come back in the list's order.
    """
    if all(name.isascii() and name.isdecimal() for name in arrays):
        return tuple(sorted(arrays, key=lambda name: (int(name), name)))
    return tuple(sorted(arrays))
