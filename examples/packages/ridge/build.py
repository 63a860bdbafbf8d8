"""Makes the seed model: `fedbus run build`."""

import os
from pathlib import Path

import numpy as np

FEATURES = 8


def build() -> None:
    """Write a model of zeros where Scaleout's and fedbus's `build` look for it."""
    folder = Path(os.environ.get("SCALEOUT_BUILD_OUTPUT_DIR", "."))
    arrays = {"0": np.zeros(FEATURES, np.float32), "1": np.zeros(1, np.float32)}
    write(folder / "seed.safetensors", arrays)


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a tensor file; with the package `safetensors` this is its `save_file`."""
    import json

    place, header = 0, {}
    for name, array in sorted(arrays.items()):
        place, start = place + array.nbytes, place
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [start, place]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(array.tobytes() for _, array in sorted(arrays.items()))
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
