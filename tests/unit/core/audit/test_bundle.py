"""The form of a bundle: one set of members has one sequence of bytes, and any tar reads it."""

import hashlib
import io
import tarfile

import pytest
from fedbus_core.audit import ustar
from fedbus_core.audit.bundle import BundleError, Item, update_name, write
from fedbus_core.audit.findings import Code

from tests import audit_worlds as worlds


def test_any_tar_reads_it_and_the_checksums_are_those_of_sha256sum() -> None:
    members = worlds.three_rounds().members()
    with tarfile.open(fileobj=io.BytesIO(worlds.pack(members))) as archive:
        names = archive.getnames()
        contents = {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    sums = contents.pop("SHA256SUMS").decode()
    assert contents == members
    assert sums.splitlines() == [
        f"{hashlib.sha256(contents[name]).hexdigest()}  {name}" for name in names[:-1]
    ]


def test_the_same_members_give_the_same_bytes() -> None:
    members = worlds.three_rounds().members()
    backwards = dict(reversed(list(members.items())))
    assert worlds.pack(backwards) == worlds.pack(members)


def test_a_long_blob_key_uses_the_prefix_field() -> None:
    name = f"blobs/{'p' * 32}/updates/c{'a' * 16}/{'0' * 64}"
    assert len(name) > ustar.NAME_MAX
    assert ustar.read_header(ustar.header(name, 7)) == (name, 7)


@pytest.mark.parametrize("size", [-1, ustar.MEMBER_BYTES_MAX + 1])
def test_a_member_has_a_limit(size: int) -> None:
    with pytest.raises(ValueError, match="a member holds"):
        ustar.header("index.json", size)


@pytest.mark.parametrize("name", ["", "x" * 101, "a/" * 100 + "x", "ä.json", "log/\n.json"])
def test_a_header_needs_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="member"):
        ustar.header(name, 1)


@pytest.mark.parametrize(
    "names",
    [
        ["heads/00000001.json", "log/00000001.json"],
        ["log/00000001.json", "log/00000001.json"],
        ["log/1.json"],
        ["blobs/../../etc/passwd"],
        ["SHA256SUMS"],
    ],
)
def test_writing_refuses_members_in_the_wrong_place(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"wrong place|not a member"):
        list(write(Item(name, 1, [b"x"]) for name in names))


@pytest.mark.parametrize("pieces", [[], [b"ab", b"cd"]])
def test_writing_refuses_content_of_another_length(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError, match="was to have 3 bytes"):
        list(write([Item("log/00000001.json", 3, pieces)]))


def test_a_file_that_is_cut_or_goes_on_is_not_whole() -> None:
    data = worlds.one_round().bundle()
    for length in (0, 1, 511, 512, 700, len(data) - 1024, len(data) - 1):
        report = worlds.verify(data[:length])
        assert worlds.codes(report) == {Code.FORM}, length
        assert report.readable == (length >= 512)
    assert worlds.codes(worlds.verify(data + bytes(512))) == {Code.FORM}


def test_an_index_in_another_form_is_refused() -> None:
    members = worlds.one_round().members()
    members["index.json"] += b" "
    with pytest.raises(BundleError, match="one form"):
        worlds.opened(worlds.Memory(worlds.pack(members)))
    members["index.json"] = b"[]"
    with pytest.raises(BundleError, match="cannot be read"):
        worlds.opened(worlds.Memory(worlds.pack(members)))


def test_updates_sort_as_they_were_stored() -> None:
    names = [update_name(1, 1, sequence, "c" + "a" * 16) for sequence in (9, 10, 2**53)]
    assert names == sorted(names)
