"""How a model lies in the file that a package reads, and in the one that it writes."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedbus._tensorfile import Array
from fedbus.errors import BadResult
from fedbus.helpers import DEFAULT, Helper, find
from fedbus.packages.manifest import EDGE, FOREIGN_HELPER, Manifest

SUFFIXES = {"numpyhelper": ".npz", DEFAULT: ".safetensors"}
MEMBER, METADATA = "training_model.bin", "metadata.json"
"""Where Scaleout's model container keeps the model itself, and what it says of it."""
CONTAINER_VERSION = 2
COPY_BYTES = 1024 * 1024
MODEL_BYTES_MAX = 8 * 1024**3
"""The largest model that is taken out of a container where nothing is known of it."""
SLACK_BYTES = 16 * 1024 * 1024
"""What a model in a container may have beyond eight bytes a number."""


@dataclass(frozen=True, slots=True)
class Form:
    """A helper's form, in Scaleout's container or bare. Reading takes either."""

    helper: Helper
    suffix: str
    in_container: bool = False

    def write(self, model: Mapping[str, Array], path: Path, digest: str) -> None:
        """Write a model; `digest` is its SHA-256, the container's `model_id`."""
        if not self.in_container:
            self.helper.to_file(model, path)
            return
        bare = path.with_name(f"{path.name}.bare")
        self.helper.to_file(model, bare)
        facts = {"version": CONTAINER_VERSION, "model_id": digest, "helper_type": FOREIGN_HELPER}
        with zipfile.ZipFile(path, "w") as container:
            container.writestr(METADATA, json.dumps(facts))
            container.write(bare, MEMBER)
        bare.unlink()

    def read(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read a model with the names and shapes of `like`. Raises `BadModel` and `BadResult`."""
        return self.helper.from_file(_bare(path, like), like)


def form_of(manifest: Manifest) -> Form:
    """Give the form that a package reads and writes. Raises `BadOption` for an unknown helper."""
    name = manifest.helper
    return Form(find(name), SUFFIXES.get(name, ".bin"), in_container=manifest.file == EDGE)


def _bare(made: Path, like: Mapping[str, Array]) -> Path:
    """Take the model out of Scaleout's container, if it came in one. Nothing else of it is read."""
    if not zipfile.is_zipfile(made):
        return made
    bytes_max = (
        SLACK_BYTES + 8 * sum(one.size for one in like.values()) if like else MODEL_BYTES_MAX
    )
    try:
        with zipfile.ZipFile(made) as container:
            if MEMBER not in container.namelist():
                return made
            if container.getinfo(MEMBER).file_size > bytes_max:
                raise BadResult(f"the model in the container has over {bytes_max} bytes")
            bare = made.with_name(f"{made.name}.bare")
            with container.open(MEMBER) as content, bare.open("wb") as file:
                shutil.copyfileobj(content, file, COPY_BYTES)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise BadResult(f"the model container cannot be read: {error}") from error
    return bare
