"""`fedbus package check` and `fedbus run`: a package is tried as a client would run it, in plain words."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fedbus.packages.commands import package, run
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]
RIDGE = ROOT / "examples" / "packages" / "ridge"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="packages run on Linux only")

BUILD = """
import numpy as np
np.savez("seed.npz", **{"0": np.zeros(3, np.float32)})
"""
TRAIN = """
import json, sys
import numpy as np
given, made = sys.argv[1:]
settings = json.load(open(given + "-metadata"))
arrays = np.load(given)
np.savez(made, **{name: arrays[name] + settings.get("step", 1) for name in arrays.files})
json.dump({"num_examples": 7, "loss": 0.5}, open(made + "-metadata", "w"))
"""
VALIDATE = """
import json, sys
json.dump({"mean": 0.25}, open(sys.argv[2], "w"))
"""


def write(folder: Path, **files: str) -> Path:
    place = folder / "client"
    place.mkdir()
    given = {"build": BUILD, "train": TRAIN, "validate": VALIDATE, **files}
    entries = {name: {"command": f"python {name}.py"} for name in given if "." not in name}
    (place / "fedn.yaml").write_text(json.dumps({"entry_points": entries}))
    for name, text in given.items():
        (place / (name if "." in name else f"{name}.py")).write_text(text)
    return place


def check(place: Path, *more: str) -> tuple[int, str]:
    done = CliRunner().invoke(package, ["check", str(place), *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_a_package_that_works_is_said_to(tmp_path: Path) -> None:
    code, said = check(write(tmp_path))
    assert code == 0, said
    assert "manifest: fedn.yaml has build, train, validate" in said
    assert "build: seed.npz has 1 tensors with 3 numbers" in said
    assert "train: 7 examples, loss 0.5" in said
    assert "validate: weight 1, mean 0.25" in said
    assert "hint   folder: fedn.yaml: no python_env is named" in said
    assert said.endswith("the package works\n")


def test_the_example_in_code_that_stays_works() -> None:
    code, said = check(RIDGE, "--settings", '{"steps": 3}')
    assert code == 0, said
    assert "train: 200 examples, mse" in said
    assert "validate: weight 200, mse" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train": "import nothing_here"}, "(list what it imports in python_env.yaml"),
        ({"train": "open('/no/data')"}, "(is the file in the package"),
        ({"train": "x ="}, "folder: train.py, line 1: invalid syntax"),
        ({"train": TRAIN.replace("+ settings", "* np.nan + settings")}, "train: "),
        ({"train": TRAIN.replace('"num_examples": 7', '"n": 7')}, "num_examples = None"),
        ({"train": TRAIN.replace("arrays[name] +", "np.ones(9) +")}, "shape"),
        ({"validate": "raise RuntimeError('no GPU')"}, "RuntimeError: no GPU"),
        ({"validate": "print('nothing')"}, "wrote no report.json"),
        ({"build": "print('nothing')"}, "build: it wrote no seed model"),
        ({".fednignore": "train.py"}, "train runs train.py, which is left out by an ignore file"),
        ({"train": "import time\ntime.sleep(60)"}, "it ran longer than timeout_s = 3 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_says_what_is_wrong(tmp_path: Path, files: dict[str, str], said: str) -> None:
    code, out = check(write(tmp_path, **files), "--timeout-s", "3")
    assert code == 1
    assert any(line.startswith("fault") and said in line for line in out.splitlines()), out
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"server.key": "x"}, "server.key looks like a secret"),
        ({"train": TRAIN.replace('settings.get("step", 1)', "0")}, "nothing was learned"),
        ({"validate": VALIDATE.replace('{"mean": 0.25}', "{}")}, "it reports no numbers"),
    ],
)
def test_hints_at_what_will_be_regretted(tmp_path: Path, files: dict[str, str], said: str) -> None:
    code, out = check(write(tmp_path, **files))
    assert code == 0
    assert any(line.startswith("hint") and said in line for line in out.splitlines()), out


def test_a_package_without_build_is_tried_with_a_given_model(tmp_path: Path) -> None:
    place = write(tmp_path)
    (place / "fedn.yaml").write_text("entry_points: {train: {command: python train.py}}")
    assert "name one with --model" in check(place)[1]
    np.savez(tmp_path / "seed.npz", np.zeros(4))
    code, said = check(place, "--model", str(tmp_path / "seed.npz"))
    assert code == 0
    assert "there is no entry point validate" in said


def test_run_does_what_fedn_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        done = CliRunner().invoke(run, [*words, "-p", str(place), "--environments", "envs"])
        assert done.exit_code == 0, done.output
        return done.stdout

    call("build")
    seed = str(place / "seed.npz")
    told = call("train", "-i", seed, "-o", "out.npz", "--settings", '{"step": 2}')
    assert json.loads(told) == {"num_examples": 7, "loss": 0.5}
    assert np.load("out.npz")["0"].tolist() == [2, 2, 2]
    assert json.loads(Path("out.npz-metadata").read_text()) == json.loads(told)
    call("validate", "-i", "out.npz", "-o", "report.json")
    assert json.loads(Path("report.json").read_text()) == {"mean": 0.25}


def test_run_does_the_same_with_code_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> str:
        done = CliRunner().invoke(run, [*words, "-p", str(RIDGE), "--environments", "envs"])
        assert done.exit_code == 0, done.output
        return done.stdout

    call("build")
    assert "registered train, validate" in call("startup")
    call("train", "-i", "seed.safetensors", "-o", "out.safetensors")
    assert Path("out.safetensors").stat().st_size > 36
    assert "mse" in call("validate", "-i", "out.safetensors", "-o", "report.json")


def test_the_commands_of_this_machine_need_no_http_client(tmp_path: Path) -> None:
    place = write(tmp_path)
    code = "import sys\nsys.modules['httpx'] = None\nfrom fedbus.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "package", "create", str(place), "-o", "made.tgz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made.tgz").is_file()


def test_a_client_for_packages_says_at_once_that_the_extra_is_missing(tmp_path: Path) -> None:
    code = "import sys\nsys.modules['yaml'] = None\nfrom fedbus.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "client", "start", "--credentials", "none.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'fedbus[package]'" in done.stderr
