"""Gives a client the trainer of each session: the package that the session pins, or one local folder."""

import hashlib
import logging
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from fedbus.consent.policy import Limits
from fedbus.errors import BadPackage, FedbusError
from fedbus.packages import room
from fedbus.packages.archive import fingerprint
from fedbus.packages.extraction import unpack
from fedbus.packages.limits import ArchiveLimits, RunLimits, StoreLimits
from fedbus.packages.locking import locked, shared
from fedbus.packages.runners import Owner, Package, Places
from fedbus.recorder import Recorder
from fedbus.trainer import Trainer

log = logging.getLogger("fedbus")

LOADED_MAX = 4
"""Packages that are ready to run, some of them in a process that stays; the one used longest ago goes first.
Its folder stays."""

WORK, ENVIRONMENTS, PACKAGES = "work", "environments", "packages"
"""The folders of a client's packages: what is under way, what is installed, what is unpacked."""

_RUN = re.compile(r"run-(\d+)-.*")


class _Host:
    """What both hosts share: where they keep things, for whom they work, and how a package is started."""

    def __init__(
        self, folder: Path, run_limits: RunLimits | None, store_limits: StoreLimits | None = None
    ) -> None:
        self._folder = folder
        self._run_limits = run_limits
        self._store_limits = store_limits or StoreLimits()
        self._loading = threading.RLock()
        self._owner = Owner()
        self.latest: tuple[str, Trainer] | None = None
        """The package used last (no digest: a local folder), and its functions."""

    def begin(
        self, name: str, device: str, recorder: Recorder, limits: Callable[[], Limits]
    ) -> None:
        """Say which client the packages work for."""
        self._owner = Owner(name, device, recorder, limits)
        _sweep(self._folder / WORK)

    def _started(self, place: Path, cancelled: Callable[[], bool]) -> Package:
        """Give a package that has started. What has failed to start, or trains not, holds nothing."""
        places = Places(self._folder / WORK, self._folder / ENVIRONMENTS, self._store_limits)
        package = Package(place, places, self._run_limits, cancelled, self._owner)
        try:
            package.start(cancelled)
            package.trainer()
        except BaseException:
            package.close()
            raise
        return package


class PackageHost(_Host):
    """Implements `fedbus.trainer.Packages`: the packages of many sessions side by side, a folder a digest."""

    def __init__(
        self,
        folder: Path,
        *,
        run_limits: RunLimits | None = None,
        archive_limits: ArchiveLimits | None = None,
        store_limits: StoreLimits | None = None,
    ) -> None:
        """Keep everything below `folder`."""
        super().__init__(folder, run_limits, store_limits)
        self._archive_limits = archive_limits
        self._loaded: OrderedDict[str, Package] = OrderedDict()

    @property
    def is_local(self) -> bool:
        """Whether it runs a folder of this machine, whatever a session pins."""
        return False

    def end(self) -> None:
        """End the processes of all packages."""
        with self._loading:
            self.latest = None
            while self._loaded:
                self._loaded.popitem()[1].close()

    def has(self, digest: str) -> bool:
        """Whether the package is here, so that its archive need not be fetched."""
        return self._place(digest).is_dir()

    def trainer(
        self, digest: str, archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> Trainer:
        """Give a package's functions; unpack, install and start it if it is new here.

        Raises `BadPackage` and `PackageFailed`.
        """
        with self._loading:
            package = self._loaded.get(digest)
            if package is None:
                package = self._loaded[digest] = self._ready(digest, archive, cancelled)
                if len(self._loaded) > LOADED_MAX:
                    self._loaded.popitem(last=False)[1].close()
            self._loaded.move_to_end(digest)
            trainer = package.trainer()
            self.latest = (digest, trainer)
            return trainer

    def restart(
        self, digest: str, archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> None:
        """Start a package anew, or one that is new here.

        Raises as `trainer` does. Then all is as before: the one that ran goes on, and what was unpacked for
        the new one is removed.
        """
        with self._loading:
            was_here = self.has(digest)
            if not was_here and archive is None:
                raise BadPackage(f"the package {digest} is not here yet: a session brings it")
            try:
                package = self._ready(digest, archive, cancelled)
                trainer = package.trainer()
            except FedbusError:
                if not was_here:
                    shutil.rmtree(self._place(digest), ignore_errors=True)
                raise
            before = self._loaded.get(digest)
            self._loaded[digest] = package
            self._loaded.move_to_end(digest)
            self.latest = (digest, trainer)
            if before is not None:
                before.close()

    def _ready(
        self, digest: str, archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> Package:
        """Give a package that has started."""
        place = self._place(digest)
        if archive is not None and not self.has(digest):
            self._unpack(digest, archive, cancelled)
        with shared(room.lock_of(place), cancelled):
            return self._started(place, cancelled)

    def _unpack(
        self, digest: str, archive: bytes | bytearray, cancelled: Callable[[], bool]
    ) -> None:
        if hashlib.sha256(archive).hexdigest() != digest:
            raise BadPackage(f"the archive is not the package {digest}")
        place = self._place(digest)
        with locked(room.lock_of(place), cancelled):
            if place.is_dir():
                return  # another process of this client was faster
            with tempfile.NamedTemporaryFile(dir=place.parent, prefix="archive-") as file:
                file.write(archive)
                file.flush()
                names = unpack(Path(file.name), place, self._archive_limits)
        log.info("package %s…: unpacked %d files", digest[:12], len(names))
        room.make(
            place.parent,
            count_max=self._store_limits.packages_max,
            bytes_max=self._store_limits.packages_bytes_max,
            spare={digest, *self._loaded},
        )

    def _place(self, digest: str) -> Path:
        """Give a package's folder. Each client has its own: what packages write there is theirs."""
        return self._folder / PACKAGES / (self._owner.device or "-") / digest


class LocalPackage(_Host):
    """Implements `fedbus.trainer.Packages` for development: one folder of this machine, for every session.

    What changed in the folder is in force at the next task.
    """

    def __init__(self, package: Path, folder: Path, *, run_limits: RunLimits | None = None) -> None:
        """Run the package in `package`; keep environments and work below `folder`."""
        super().__init__(folder, run_limits)
        self._package_folder = package
        self._package: Package | None = None
        self._seen: tuple[tuple[str, int, int], ...] = ()

    @property
    def is_local(self) -> bool:
        """Whether it runs a folder of this machine, whatever a session pins."""
        return True

    def end(self) -> None:
        """End the package's process."""
        with self._loading:
            self.latest = None
            if self._package is not None:
                self._package.close()
                self._package = None

    def has(self, _digest: str) -> bool:
        """There is nothing to fetch."""
        return True

    def trainer(
        self, _digest: str, _archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> Trainer:
        """Give the folder's functions. Raises `BadPackage` and `PackageFailed`."""
        with self._loading:
            seen = fingerprint(self._package_folder)
            if self._package is None or seen != self._seen:
                self.end()
                self._package, self._seen = self._started(self._package_folder, cancelled), seen
            trainer = self._package.trainer()
            self.latest = ("", trainer)
            return trainer

    def restart(
        self, _digest: str, _archive: bytes | bytearray | None, cancelled: Callable[[], bool]
    ) -> None:
        """Start the folder's package anew. Raises as `trainer` does; then the one that ran goes on."""
        with self._loading:
            seen = fingerprint(self._package_folder)
            package = self._started(self._package_folder, cancelled)
            trainer = package.trainer()
            before, self._package, self._seen = self._package, package, seen
            self.latest = ("", trainer)
            if before is not None:
                before.close()


def _sweep(work: Path) -> None:
    """Remove what runs of a client that was killed have left."""
    for path in work.glob("run-*"):
        found = _RUN.fullmatch(path.name)
        if found is not None and not Path("/proc", found[1]).exists():
            shutil.rmtree(path, ignore_errors=True)
