"""Packages as archives: the same files make the same bytes, and nothing that comes out can hurt."""

import bz2
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fedbus.errors import BadPackage
from fedbus.packages import ignoring
from fedbus.packages.archive import create
from fedbus.packages.extraction import root_of, unpack
from fedbus.packages.limits import ArchiveLimits
from hypothesis import given, settings
from hypothesis import strategies as st

SMALL = ArchiveLimits(
    archive_bytes_max=10**6, bytes_max=20_000_000, files_max=50, ratio_max=50, depth_max=4
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "client"
    (place / "lib").mkdir(parents=True)
    (place / "fedn.yaml").write_text("entry_points: {}\n")
    (place / "lib" / "model.py").write_text("x = 1\n")
    (place / "run.sh").write_text("#!/bin/sh\n")
    (place / "run.sh").chmod(0o755)
    return place


def test_the_same_files_make_the_same_archive(folder: Path, tmp_path: Path) -> None:
    first = create(folder, tmp_path / "a.tgz")
    os.utime(folder / "lib" / "model.py", (1, 1))
    (folder / "lib" / "__pycache__").mkdir()
    (folder / "lib" / "__pycache__" / "model.pyc").write_bytes(b"x")
    again = create(folder, tmp_path / "b.tgz")
    assert (first.digest, first.names) == (again.digest, again.names)
    assert first.names == ("fedn.yaml", "lib/model.py", "run.sh")
    assert unpack(tmp_path / "a.tgz", tmp_path / "out") == first.names
    assert (tmp_path / "out" / "lib" / "model.py").read_text() == "x = 1\n"
    assert stat.S_IMODE((tmp_path / "out" / "run.sh").stat().st_mode) == 0o700
    (folder / "lib" / "model.py").write_text("x = 2\n")
    assert create(folder, tmp_path / "c.tgz").digest != first.digest


def test_ignore_files_keep_files_out(folder: Path, tmp_path: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "all.csv").write_text("1")
    (folder / "seed.npz").write_text("1")
    (folder / ".fednignore").write_text("data\n*.npz\n")
    (folder / ".fedbusignore").write_text("# ours\n!/seed.npz\nlib/*.py\n")
    names = create(folder, tmp_path / "a.tgz").names
    assert names == (".fedbusignore", ".fednignore", "fedn.yaml", "run.sh", "seed.npz")


@pytest.mark.parametrize(
    ("rule", "name", "is_folder", "ignored"),
    [
        ("*.csv", "a/b/c.csv", False, True),
        ("/a.csv", "b/a.csv", False, False),
        ("data/", "data", False, False),
        ("data/", "x/data", True, True),
        ("a/**/z", "a/b/c/z", False, True),
        ("a/**/z", "a/z", False, True),
        ("a?c", "a/c", False, False),
        ("[!a]x", "bx", False, True),
        ("[!a]x", "ax", False, False),
        ("[z-a]", "[z-a]", False, True),
        ("\\#x", "#x", False, True),
    ],
)
def test_rules_are_those_of_git(rule: str, name: str, is_folder: bool, ignored: bool) -> None:
    assert ignoring.is_ignored(name, is_folder=is_folder, by=ignoring.rules([rule])) is ignored


def test_a_folder_with_a_link_or_without_a_manifest_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadPackage, match="link is a link"):
        create(folder, tmp_path / "a.tgz")
    with pytest.raises(BadPackage, match="no package folder"):
        create(folder / "lib", tmp_path / "a.tgz")
    assert not list(tmp_path.glob("a.tgz*"))


def test_finds_the_package_in_a_folder_of_the_archive(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.tar.gz", "w:gz") as archive:
        archive.add(folder, "client")
    unpack(tmp_path / "old.tar.gz", tmp_path / "out")
    assert root_of(tmp_path / "out") == tmp_path / "out" / "client"


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"x", **more: str) -> bytes:
    """Give a tar with one member."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    for key, value in more.items():
        setattr(info, key, value)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zipped(name: str, mode: int = stat.S_IFREG | 0o644, data: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def many(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return file.getvalue()


def lying_header() -> bytes:
    """A header that claims a long name of 1 GiB."""
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 1024**3
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)


ESCAPES: dict[str, bytes] = {
    "parent": member("../x"),
    "parent inside": member("a/../../x"),
    "absolute": member("/tmp/x"),
    "drive": member("C:x"),
    "backslash": member("a\\..\\x"),
    "control": member("a\nb"),
    "nameless": member("."),
    "symlink": member("x", tarfile.SYMTYPE, linkname="/etc"),
    "hardlink": member("x", tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": member("x", tarfile.CHRTYPE),
    "fifo": member("x", tarfile.FIFOTYPE),
    "sparse": member("x", tarfile.GNUTYPE_SPARSE),
    "twice": many("a", "a"),
    "twice in another case": many("a", "A"),
    "a file as a folder": many("a", "a/b"),
    "a folder as a file": many("a/b", "a"),
    "deep": member("a/b/c/d/e"),
    "long": member("a/" * 3 + "b" * 300),
    "many": many(*(f"f{number}" for number in range(60))),
    "gzip bomb": gzip.compress(member("x", data=bytes(19_000_000))),
    "gzip bomb within the ratio of nothing": gzip.compress(bytes(50_000_000)),
    "bzip2 bomb": bz2.compress(member("x", data=bytes(19_000_000))),
    "zip bomb": zipped("x", data=bytes(19_000_000)),
    "large": gzip.compress(member("x", data=bytes(range(256)) * 82_000)),
    "zip parent": zipped("../x"),
    "zip symlink": zipped("x", stat.S_IFLNK | 0o777),
    "zip device": zipped("x", stat.S_IFCHR | 0o644),
    "lying header": lying_header(),
    "truncated": gzip.compress(member("x"))[:-20],
    "truncated zip": zipped("x")[:-30],
    "nothing": b"",
    "a script": b"#!/bin/sh\n",
}


@pytest.mark.parametrize("data", ESCAPES.values(), ids=ESCAPES.keys())
def test_refuses_what_could_hurt_and_leaves_nothing(data: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "in"
    archive.write_bytes(data)
    place = tmp_path / "inner" / "out"
    with pytest.raises(BadPackage):
        unpack(archive, place, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "inner"]
    assert not list((tmp_path / "inner").iterdir())


PLAIN: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
}


@pytest.mark.parametrize("pack", PLAIN.values(), ids=PLAIN.keys())
def test_unpacks_every_form(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(pack(many("a", "b/c", "b/" + "d" * 150)))
    assert unpack(tmp_path / "in", tmp_path / "out", SMALL) == ("a", "b/c", "b/" + "d" * 150)


def test_unpacks_a_zip(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(zipped("a/b.py", stat.S_IFREG | 0o755))
    assert unpack(tmp_path / "in", tmp_path / "out", SMALL) == ("a/b.py",)
    assert os.access(tmp_path / "out" / "a" / "b.py", os.X_OK)


@given(
    seed=st.sampled_from([many("a", "b/c"), zipped("a/b"), gzip.compress(many("a", "b/c"))]),
    edits=st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=4)), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_bytes_only_files_below_the_folder_come_out(
    seed: bytes, edits: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(seed)
    for place, content in edits:
        at = place % max(1, len(data))
        data[at : at + len(content)] = content
    folder = tmp_path_factory.mktemp("any")
    (folder / "in").write_bytes(data)
    try:
        names = unpack(folder / "in", folder / "out", SMALL)
    except BadPackage:
        assert sorted(path.name for path in folder.iterdir()) == ["in"]
        return
    found = [path for path in (folder / "out").rglob("*") if not path.is_dir()]
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in found)
    assert {path.relative_to(folder / "out").as_posix() for path in found} == set(names)
    assert sorted(path.name for path in folder.iterdir()) == ["in", "out"]
