"""`numpyhelper`: a list of arrays as a compressed npz archive, exactly as FEDn's helper of that name writes it.

The archive's members are `0.npy`, `1.npy`, … in the list's order. A model whose names are no numbers gives
its arrays in the order of its sorted names (`list_order`).
"""

from collections.abc import Mapping
from pathlib import Path

from fedbus._tensorfile import Array
from fedbus.errors import BadModel
from fedbus.helpers import list_order, npz


class Helper:
    """A list of arrays in an npz archive."""

    def to_file(self, arrays: Mapping[str, Array], path: Path) -> None:
        """Write the arrays as `0`, `1`, …"""
        listed = {str(place): arrays[name] for place, name in enumerate(list_order(arrays))}
        npz.write(path, listed)

    def from_file(self, path: Path, like: Mapping[str, Array]) -> dict[str, Array]:
        """Read them back under the model's names; under their numbers when no model is known."""
        order = list_order(like)
        if not like:
            return _numbered(npz.read(path, {}))
        places = {str(place): name for place, name in enumerate(order)}
        return npz.read(path, like, lambda number: places.get(number, f"{number} (of the archive)"))


def _numbered(found: dict[str, Array]) -> dict[str, Array]:
    """Take a list's arrays in its order. Members that `numpy.savez` named itself are `arr_0`, `arr_1`, …"""
    numbers = {name: name.removeprefix("arr_") for name in found}
    if {*numbers.values()} != {str(place) for place in range(len(found))}:
        raise BadModel(
            "the archive is not a list of arrays named 0, 1, … without a gap; "
            f"it holds {', '.join(sorted(found))[:200]}"
        )
    by_number = {numbers[name]: array for name, array in found.items()}
    return {name: by_number[name] for name in list_order(by_number)}
