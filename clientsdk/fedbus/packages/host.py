"""Gives a client the trainer of each session: the package that the session pins, or one local folder."""

import hashlib
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from fedbus import _files
from fedbus.errors import BadPackage
from fedbus.packages.extraction import unpack
from fedbus.packages.limits import ArchiveLimits, RunLimits
from fedbus.packages.runners import Package, Places
from fedbus.trainer import Trainer

log = logging.getLogger("fedbus")

LOADED_MAX = 16
"""Packages that are ready to run; the one used longest ago goes first. Its folder stays."""


class PackageHost:
    """Keeps the packages of many sessions side by side, a folder a digest. Its methods block."""

    def __init__(
        self,
        folder: Path,
        *,
        allowed: frozenset[str] | None = None,
        run_limits: RunLimits | None = None,
        archive_limits: ArchiveLimits | None = None,
    ) -> None:
        """Keep everything below `folder`. `allowed`: the only digests that may run; none = all."""
        self._folder = folder
        self._allowed = allowed
        self._run_limits = run_limits
        self._archive_limits = archive_limits
        self._loaded: OrderedDict[str, Package] = OrderedDict()

    def has(self, digest: str) -> bool:
        """Whether the package is here, so that its archive need not be fetched."""
        return self._place(digest).is_dir()

    def trainer(
        self, digest: str, archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> Trainer:
        """Give a package's functions; unpack, install and start it if it is new here.

        Raises `BadPackage` and `PackageFailed`.
        """
        if self._allowed is not None and digest not in self._allowed:
            raise BadPackage(
                f"this client does not run the package {digest}: it is not listed here"
            )
        package = self._loaded.get(digest)
        if package is None:
            if archive is not None and not self.has(digest):
                self._unpack(digest, archive)
            package = self._load(self._place(digest), cancelled)
            self._loaded[digest] = package
            if len(self._loaded) > LOADED_MAX:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(digest)
        return package.trainer()

    def local(self, folder: Path) -> Trainer:
        """Give the functions of a package that lies in a folder of this machine, for development."""
        return self._load(folder, lambda: False).trainer()

    def _load(self, folder: Path, cancelled: Callable[[], bool]) -> Package:
        places = Places(self._folder / "work", self._folder / "environments")
        package = Package(folder, places, self._run_limits, cancelled)
        if package.has("startup"):
            places.work.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=places.work) as work:
                package.run("startup", work=Path(work), cancelled=cancelled)
        return package

    def _unpack(self, digest: str, archive: bytes | bytearray) -> None:
        if hashlib.sha256(archive).hexdigest() != digest:
            raise BadPackage(f"the archive is not the package {digest}")
        place = self._place(digest)
        place.parent.mkdir(mode=_files.FOLDER_MODE, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix="archive-") as file:
            file.write(archive)
            file.flush()
            names = unpack(Path(file.name), place, self._archive_limits)
        log.info("package %s…: unpacked %d files", digest[:12], len(names))

    def _place(self, digest: str) -> Path:
        return self._folder / "packages" / digest
