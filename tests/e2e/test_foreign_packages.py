"""Packages of FEDn's and Scaleout Edge's users run unchanged, on the real `fedn` and `scaleoututil`.

Their environments are installed from the package index, which takes a minute each: left out of the usual run.
"""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from fedbus.helpers import find
from fedbus.packages import checking
from fedbus.packages.archive import create
from fedbus.packages.forms import form_of
from fedbus.packages.host import ENVIRONMENTS, PackageHost
from fedbus.packages.manifest import read_manifest
from fedbus.packages.runners import Package, Places
from fedbus_core.aggregation.tensorfile import write
from fedbus_local.stack import LocalStack

from tests.stacks import Federation, Json, eventually, federation

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

FOLDER = Path(__file__).parent / "foreign_packages"
PACKAGES = {
    "fedn_files": FOLDER / "fedn_files",
    "scaleout_files": FOLDER / "scaleout_files",
    "scaleout_code": FOLDER / "scaleout_code",
}


def manifest_folder(folder: Path) -> Path:
    return next(path.parent for path in folder.rglob("*.yaml") if path.stem in ("fedn", "scaleout"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client keeps its packages; their environments are installed once."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("name", PACKAGES)
def test_the_check_finds_nothing_wrong(tmp_path: Path, home: Path, name: str) -> None:
    asked = checking.Asked(place=tmp_path, settings={"steps": 20}, environments=home / ENVIRONMENTS)
    findings = list(checking.check(manifest_folder(PACKAGES[name]), asked))
    told = "\n".join(map(str, findings))
    assert not [one for one in findings if one.level is checking.Level.FAULT], told
    assert {"environment", "build", "train", "validate"} <= {one.what for one in findings}, told


async def _session(fed: Federation, digest: str, model: dict[str, Json]) -> list[Json]:
    held = (await fed.ask("POST", "/v1/models", content=write(model)))["digest"]
    await fed.ask("POST", "/v1/federation/initialise", json={"package": digest, "model": held})
    session = await fed.start(model, rounds=2, minimum=1, train={"steps": 20})
    await fed.ended(session)

    async def validated() -> bool:
        return bool((await fed.show(session))["validation"]["reports"] == 1)

    await eventually(validated, f"{session} is validated")
    rounds = await fed.rounds(session)
    view = await fed.show(session)
    assert view["package"] == digest
    await fed.assert_sound(session)
    return [*rounds, view]


async def test_their_sessions_learn(stack: LocalStack, tmp_path: Path, home: Path) -> None:
    async with federation(stack, clients=0) as fed:
        await fed.add("site", PackageHost(home))
        await fed.online(1)
        seeds: dict[str, dict[str, Json]] = {
            "fedn_files": {"0": np.zeros(4), "1": np.zeros(1)},
            "scaleout_files": {"0": np.zeros(4, np.float32)},
            "scaleout_code": {"0": np.zeros(4)},
        }
        for name, folder in PACKAGES.items():
            packed = await asyncio.to_thread(_packed, folder, tmp_path / name)
            uploaded = await fed.ask("POST", "/v1/packages", content=packed.read_bytes())
            first, second, view = await _session(fed, uploaded["digest"], seeds[name])
            assert view["validation"]["metrics"]["mse"] < 0.5, name
            if name == "fedn_files":
                assert second["metrics"] == {"lr": 0.1, "steps": 20.0}
            if name == "scaleout_code":  # one process did both rounds
                assert (first["metrics"]["rounds"], second["metrics"]["rounds"]) == (1, 2)
                page = await fed.ask("GET", "/v1/metrics", params={"key": "mse", "limit": 100})
                assert len(page["items"]) == 40
                page = await fed.ask("GET", "/v1/attributes", params={"key": "style"})
                assert [one["value"] for one in page["items"]] == ["in process"]
                body = {"task": "custom:Count", "timeout_s": 60}
                path = (
                    f"/v1/commands/{(await fed.ask('POST', '/v1/commands', json=body))['command']}"
                )
                ended = await fed.ask("GET", path, params={"wait_s": 30})
                assert ended["status"] == "completed", ended
                [one] = (await fed.ask("GET", f"{path}/results"))["items"]
                assert one["value"] == '{"rounds":2}'


def test_predictions_are_what_the_package_writes(tmp_path: Path, home: Path) -> None:
    folder = manifest_folder(PACKAGES["fedn_files"])
    copy = Path(shutil.copytree(folder, tmp_path / "client"))
    package = Package(copy, Places(tmp_path / "work", home / ENVIRONMENTS))
    package.start()
    told = package.predict({"0": np.zeros(4), "1": np.full(1, 0.5)})
    package.close()
    assert told == {"predictions": [0.5, 0.5, 0.5]}


def _packed(folder: Path, place: Path) -> Path:
    """Pack as each of them does: FEDn's archives hold the folder `client`, made by plain tar."""
    if folder.name == "fedn_files":
        return Path(shutil.make_archive(str(place), "gztar", folder, "client"))
    return create(folder, place.with_suffix(".tgz")).path


def test_a_seed_of_theirs_becomes_a_model(tmp_path: Path) -> None:
    form = form_of(read_manifest(PACKAGES["scaleout_files"]))
    form.write({"0": np.ones(3)}, tmp_path / "seed.npz", "ab")
    assert form.read(tmp_path / "seed.npz", {})["0"].tolist() == [1, 1, 1]
    find("numpyhelper").to_file({"0": np.ones(3)}, tmp_path / "bare.npz")
    assert form.read(tmp_path / "bare.npz", {})["0"].tolist() == [1, 1, 1]
