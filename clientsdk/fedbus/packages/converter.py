"""Runs a package's own helper, inside the package's Python: from a tensor file to the package's form, and back.

`converter.py FOLDER FILE to TENSORS TARGET`, or `… from SOURCE TENSORS [LIKE]`. `FILE` holds a class `Helper`,
as `fedbus.helpers.Helper` is. A script; it needs numpy.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TO, FROM = "to", "from"


def main(folder: str, file: str, way: str, source: str, target: str, like: str = "") -> None:
    """Convert one file."""
    tensors = _load("fedbus_inner", Path(__file__).with_name("inner.py"))
    sys.path.insert(0, folder)
    helper = _load(Path(file).stem, Path(folder) / file).Helper()
    if way == TO:
        helper.to_file(tensors.read_tensors(source), Path(target))
    else:
        arrays = helper.from_file(Path(source), tensors.read_tensors(like) if like else {})
        tensors.write_tensors(arrays, target)


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a file that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
