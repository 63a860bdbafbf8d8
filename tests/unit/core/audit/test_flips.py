"""No byte of a bundle can change without being found, and no byte that counts even with new checksums."""

import pytest
from fedbus_core.audit.findings import Code

from tests import audit_worlds as worlds

CHUNKS = 4


@pytest.mark.parametrize("mask", [0x01, 0x80])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_flipped_byte_is_found_and_its_place_is_named(mask: int, chunk: int) -> None:
    whole = worlds.one_update().bundle()
    assert worlds.verify(whole).ok
    data = bytearray(whole)
    for at in range(chunk, len(data), CHUNKS):
        data[at] ^= mask
        report = worlds.verify(bytes(data))
        assert report.errors, f"byte {at} flipped with {mask:#x} is not found"
        assert all(finding.place for finding in report.errors)
        data[at] ^= mask


def test_the_named_place_is_where_the_byte_is() -> None:
    data = worlds.three_rounds().bundle()
    reader = worlds.Memory(data)
    for member in worlds.opened(reader).members.values():
        if member.name == "SHA256SUMS":
            continue
        flipped = bytearray(data)
        flipped[member.offset + member.size // 2] ^= 0x01
        report = worlds.verify(bytes(flipped))
        places = [finding.place for finding in report.errors]
        assert any(member.name in place for place in places), (member.name, places)
        flipped = bytearray(data)
        flipped[member.offset - 512 + 300] ^= 0x01
        report = worlds.verify(bytes(flipped))
        assert [finding.code for finding in report.errors] == [Code.FORM]
        assert f"byte {member.offset - 512}" in report.errors[0].place


@pytest.mark.parametrize("section", ["log/", "heads/", "blobs/"])
def test_a_change_under_new_checksums_is_found_by_what_the_log_says(section: str) -> None:
    members = worlds.one_round().members()
    for name, content in members.items():
        if not name.startswith(section):
            continue
        for at in range(0, len(content), 3):
            changed = bytearray(content)
            changed[at] ^= 0x01
            report = worlds.verify(worlds.pack({**members, name: bytes(changed)}))
            assert report.errors, f"{name} byte {at}"
            assert Code.CHECKSUM not in worlds.codes(report)
