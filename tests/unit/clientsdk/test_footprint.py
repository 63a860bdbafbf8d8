"""The SDK stays thin: what it loads, how long that takes, what it installs."""

import json
import re
import subprocess
import sys
from importlib.metadata import requires

import fedbus
import pytest
from packaging.requirements import Requirement

PACKAGES_MAX = 10
IMPORT_MAX_S = 0.3
USE_MAX_S = 5.0
"""A generous guard for a busy machine. The loading of numpy alone took 0.25 s where this was written."""

ALLOWED = {
    "Crypto",
    "annotated_types",
    "fedbus",
    "fedbus_schemas",
    "nats",
    "numpy",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}
OPTIONAL = {"_cffi_backend", "cffi", "pycparser", "fast_mail_parser", "orjson", "email_validator"}
"""Taken by a dependency if the environment happens to have it."""

PROBE = """
import json, sys, time
sys.modules["aiohttp"] = None  # as without the extra `websocket`
started = time.perf_counter()
import fedbus
import_s = time.perf_counter() - started
light = sorted(sys.modules)
for name in fedbus.__all__:
    getattr(fedbus, name)
use_s = time.perf_counter() - started
names = {name.partition(".")[0] for name in sys.modules}
from_site = {
    name for name in names
    if "site-packages" in (getattr(sys.modules.get(name), "__file__", None) or "")
}
print(json.dumps({"import_s": import_s, "use_s": use_s, "light": light, "names": sorted(names),
    "from_site": sorted(from_site)}))
"""


def probe(code: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_importing_is_quick_and_loads_nothing_foreign() -> None:
    found = probe(PROBE)
    print(f"import fedbus: {found['import_s']:.4f} s; all of it in use: {found['use_s']:.3f} s")
    assert float(str(found["import_s"])) < IMPORT_MAX_S
    assert float(str(found["use_s"])) < USE_MAX_S
    light, names, from_site = found["light"], found["names"], found["from_site"]
    assert isinstance(light, list)
    assert isinstance(names, list)
    assert isinstance(from_site, list)
    assert not {"numpy", "nats", "pydantic", "Crypto"} & set(light)
    assert not {name for name in names if name.startswith("fedbus")} - ALLOWED
    foreign = {name for name in from_site if not name.startswith(("_", "sitecustomize"))}
    assert not foreign - ALLOWED - OPTIONAL


def test_every_public_name_is_there_and_no_other() -> None:
    for name in fedbus.__all__:
        assert getattr(fedbus, name) is not None
    assert set(fedbus.__all__) <= set(dir(fedbus))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fedbus.nothing  # noqa: B018


def test_installing_takes_at_most_ten_packages() -> None:
    packages = closure("fedbus")
    print(f"{len(packages)} packages: {', '.join(sorted(packages))}")
    assert len(packages) <= PACKAGES_MAX


def closure(name: str, found: frozenset[str] = frozenset()) -> frozenset[str]:
    """All that `pip install` of a package brings, itself included, without extras."""
    found |= {name}
    for line in requires(name) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is not None and not marker.evaluate({"extra": ""}):
            continue
        needed = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if needed not in found:
            found = closure(needed, found)
    return found


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert fedbus.__version__ == version("fedbus")


COMMAND = """
import json, sys
from importlib.metadata import entry_points
from fedbus import cli
cli.gather(entry_points(group=cli.GROUP), "session")
print(json.dumps({"names": sorted(sys.modules)}))
"""


def test_an_operators_command_loads_neither_the_bus_nor_the_local_stack() -> None:
    names = probe(COMMAND)["names"]
    assert isinstance(names, list)
    assert "fedbus.operator.sessions" in names
    assert {"nats", "valkey", "fedbus.client", "fedbus_local", "fedbus_core"}.isdisjoint(names)
