"""The generator of schemas as a module, for tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[3] / "tools/generate_schemas.py"


def load_tool() -> ModuleType:
    """Import tools/generate_schemas.py, which is no package."""
    name = "generate_schemas"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TOOL)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def tool() -> ModuleType:
    return load_tool()
