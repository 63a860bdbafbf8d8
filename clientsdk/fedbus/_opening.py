"""Opens what a client keeps on its disk, or in memory where no folder is named."""

from pathlib import Path

from fedbus._link import Link
from fedbus._models import Models
from fedbus._store import Kept, KeptInFolder, KeptInMemory
from fedbus.errors import BadOption
from fedbus.options import Options


def kept(options: Options, device: str) -> Kept:
    """Give the updates that wait for their receipt. Raises `BadOption`."""
    if options.state_dir is None:
        return KeptInMemory()
    try:
        return KeptInFolder(Path(options.state_dir) / device, options.kept_updates_max)
    except OSError as error:
        raise BadOption(f"state_dir {options.state_dir} cannot be used: {error}") from error


def link(options: Options, device: str) -> Link:
    """Give what is known of the link to the object store."""
    return Link(
        None if options.state_dir is None else Path(options.state_dir) / device / "link.json"
    )


def models(options: Options, device: str) -> Models:
    """Give the fetched models. Raises `BadOption`."""
    try:
        folder = None if options.cache_dir is None else Path(options.cache_dir)
        return Models(folder, options.cached_models_max, options.cache_bytes_max, device)
    except OSError as error:
        raise BadOption(f"cache_dir {options.cache_dir} cannot be used: {error}") from error
