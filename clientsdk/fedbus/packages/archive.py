"""Makes a package's archive. The same files make the same bytes, so a package is named by its SHA-256.

A tar with sorted names, zeroed times and owners and two kinds of mode, in a gzip without name and time. The
compressed bytes are those of the machine's zlib: two machines with different ones may name the same folder
differently, and either archive runs everywhere.
"""

import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedbus import _files
from fedbus.errors import BadPackage
from fedbus.packages import ignoring
from fedbus.packages.extraction import MANIFESTS, digest_of
from fedbus.packages.limits import ArchiveLimits

LEVEL = 9


@dataclass(frozen=True, slots=True)
class Archived:
    """An archive that was made: its SHA-256, its length in bytes, and the names of its files."""

    path: Path
    digest: str
    size: int
    names: tuple[str, ...]


def create(folder: Path, target: Path, limits: ArchiveLimits | None = None) -> Archived:
    """Write a package folder's archive, whole or not at all.

    Raises `BadPackage` when there is no manifest, when a file is a link or none that can be packed, or when
    it is over a limit.
    """
    limits = limits or ArchiveLimits()
    if not any((folder / name).is_file() for name in MANIFESTS):
        raise BadPackage(f"{folder} holds none of {', '.join(MANIFESTS)}: it is no package folder")
    names = tuple(_names(folder, limits, leave_out=target))
    beside = target.with_name(target.name + _files.NEW)
    try:
        with (
            beside.open("wb") as file,
            gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name in names:
                _add(archive, folder / name, name)
        size = beside.stat().st_size
        if size > limits.archive_bytes_max:
            raise BadPackage(
                f"the archive has {size} bytes, over archive_bytes_max = {limits.archive_bytes_max}; "
                f"leave files out with {ignoring.OURS}"
            )
        digest = digest_of(beside)
        _files.move(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return Archived(target, digest, size, names)


def digest_of_folder(folder: Path, limits: ArchiveLimits | None = None) -> str:
    """Give the SHA-256 over a folder's packed files, names and modes: changes when one of them does."""
    found = hashlib.sha256()
    for name in _names(folder, limits or ArchiveLimits()):
        path = folder / name
        found.update(f"{name}\0{_mode(path.stat()):o}\0{digest_of(path)}\n".encode())
    return found.hexdigest()


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Give the name, time of change and size of each of a folder's packed files."""
    found = ((name, (folder / name).stat()) for name in _names(folder, ArchiveLimits()))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _names(folder: Path, limits: ArchiveLimits, leave_out: Path | None = None) -> list[str]:
    names: list[str] = []
    total = 0
    for path, name in _walk(folder, "", ignoring.read_rules(folder), limits):
        if leave_out is not None and path.absolute() == leave_out.absolute():
            continue
        names.append(name)
        total += path.stat().st_size
        if len(names) > limits.files_max or total > limits.bytes_max:
            raise BadPackage(
                f"{folder} holds over {limits.files_max} files or {limits.bytes_max} bytes; leave files "
                f"out with {ignoring.OURS}"
            )
    return sorted(names, key=lambda name: name.encode())


def _walk(
    folder: Path, prefix: str, rules: tuple[ignoring.Rule, ...], limits: ArchiveLimits
) -> Iterator[tuple[Path, str]]:
    if prefix.count("/") >= limits.depth_max:
        raise BadPackage(f"{folder} lies over {limits.depth_max} folders deep")
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = f"{prefix}{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignoring.is_ignored(name, is_folder=is_folder, by=rules):
            continue
        if is_folder:
            yield from _walk(Path(entry.path), f"{name}/", rules, limits)
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path), name
        else:
            raise BadPackage(f"{name} is a link or a special file; a package holds files only")


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as content:
        found = os.fstat(content.fileno())
        member = tarfile.TarInfo(name)
        member.size = found.st_size
        member.mode = _mode(found)
        archive.addfile(member, content)


def _mode(found: os.stat_result) -> int:
    return 0o755 if found.st_mode & stat.S_IXUSR else 0o644
