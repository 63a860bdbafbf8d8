# Written by tools/generate_sync_api.py from _async/packages.py (make schemas): change that one.
"""Compute packages, and which one the federation runs."""

from collections.abc import Iterator
from pathlib import Path

from fedbus_schemas.views import ChecksumView, FederationView, PackageView

from fedbus.api import _files
from fedbus.api._asked import Filters
from fedbus.api._files import Progress
from fedbus.api._sync import transfer
from fedbus.api._sync.connection import Connection


class Packages:
    """The project's compute packages."""

    _http: Connection

    def get_package(self, id: str) -> PackageView:  # noqa: A002  # FEDn's name
        """Give a package by its SHA-256."""
        return self._http.get(PackageView, f"/v1/packages/{id}")

    def get_packages(
        self, n_max: int | None = None, *, filters: Filters | None = None, sort: str | None = None
    ) -> Iterator[PackageView]:
        """List the stored packages, the newest first."""
        return self._http.rows(PackageView, "/v1/packages", filters, sort, n_max)

    def get_packages_count(self, *, filters: Filters | None = None) -> int:
        """Count the packages."""
        return self._http.count("/v1/packages", filters)

    def get_active_package(self) -> PackageView:
        """Give the package that a new session pins. Raises `ApiError` (`not_found`) if there is none."""
        return self._http.get(PackageView, "/v1/packages/active")

    def get_package_checksum(self, id: str | None = None) -> str:  # noqa: A002  # FEDn's name
        """Give the SHA-256 of the stored bytes of a package (of the active one if none is named)."""
        digest = id or (self.get_active_package()).digest
        return (self._http.get(ChecksumView, f"/v1/packages/{digest}/checksum")).sha256

    def download_package(
        self,
        path: str | Path,
        id: str | None = None,  # noqa: A002  # FEDn's name
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Write a package's archive (of the active one if none is named), checked against its SHA-256."""
        digest = id or (self.get_active_package()).digest
        return transfer.download(self._http, ("packages", digest), Path(path), progress)

    def add_package(
        self, path: str | Path, *, name: str = "", progress: Progress | None = None
    ) -> PackageView:
        """Store an archive by its SHA-256. That makes nobody run it."""
        file = Path(path)
        params = {"name": name, "sha256": _files.sha256(file)}
        source = _files.open_file(file)
        return transfer.upload(self._http, PackageView, "/v1/packages", source, params, progress)

    def activate_package(self, id: str) -> FederationView:  # noqa: A002
        """Have new sessions pin a stored package; refused (`federation_configured`) once one used another."""
        path = "/v1/packages/active"
        return self._http.send(FederationView, path, {"package": id}, method="PUT")

    def deactivate_package(self) -> FederationView:
        """Have new sessions pin no package; refused (`federation_configured`) once one used one."""
        return self._http.send(FederationView, "/v1/packages/active", method="DELETE")

    def set_active_package(
        self,
        path: str | Path,
        helper: str = "numpyhelper",
        name: str = "",
        *,
        progress: Progress | None = None,
    ) -> PackageView:
        """Store an archive and have new sessions pin it.

        `helper` is FEDn's; here the package's own manifest says it. Refused (`federation_configured`) once a
        session has used another package: then `initialise` begins anew.
        """
        view = self.add_package(path, name=name, progress=progress)
        self.activate_package(view.digest)
        return self.get_package(view.digest)

    def set_package(
        self,
        path: str | Path,
        helper: str = "numpyhelper",
        name: str = "",
        *,
        progress: Progress | None = None,
    ) -> PackageView:
        """Do what `set_active_package` does, under the name that FEDn's FAQ has for it."""
        return self.set_active_package(path, helper, name, progress=progress)

    def get_federation(self) -> FederationView:
        """Give the active package, whether it can still be replaced, and the generations so far."""
        return self._http.get(FederationView, "/v1/federation")

    def initialise(self, package_id: str, model_id: str) -> FederationView:
        """Begin a new generation with a stored package and seed model. Sessions that run keep theirs."""
        body = {"package": package_id, "model": model_id}
        return self._http.send(FederationView, "/v1/federation/initialise", body)
