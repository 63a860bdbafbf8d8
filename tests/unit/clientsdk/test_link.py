"""How large a piece is: learned from what gets through and what breaks."""

from pathlib import Path

import pytest
from fedbus._link import STEADY, Link
from fedbus_schemas.pieces import (
    PIECE_BYTES_MAX,
    PIECE_BYTES_MIN,
    PIECES_MAX,
    piece_bytes_max,
    piece_bytes_min,
)

KIB = 1024
MIB = 1024 * KIB


def test_pieces_double_while_they_get_through() -> None:
    link = Link()
    assert link.whole_bytes_max == PIECE_BYTES_MAX
    plan = link.lengths(100 * MIB, PIECE_BYTES_MIN, PIECE_BYTES_MAX, 16)
    assert [length // KIB for length in plan[:6]] == [512, 1024, 2048, 4096, 8192, 16384]
    assert max(plan) == PIECE_BYTES_MAX
    assert sum(plan) == 100 * MIB
    for length in plan:
        assert length <= link.piece_bytes
        link.carried()
    assert link.piece_bytes == PIECE_BYTES_MAX


def test_after_a_break_they_are_small_and_grow_slowly() -> None:
    link = Link()
    link.broke(4 * MIB)
    assert link.piece_bytes == link.whole_bytes_max == 256 * KIB
    assert link.lengths(10 * MIB, PIECE_BYTES_MIN, PIECE_BYTES_MAX, 3) == [256 * KIB] * 3
    for _ in range(STEADY - 1):
        link.carried()
    assert link.piece_bytes == 256 * KIB
    link.carried()
    assert link.piece_bytes == 512 * KIB


def test_one_break_of_a_good_link_does_not_make_it_a_bad_one() -> None:
    link = Link()
    for _ in range(10):
        link.carried()
    link.broke(PIECE_BYTES_MAX)
    assert link.piece_bytes == MIB


def test_what_was_learned_survives(tmp_path: Path) -> None:
    file = tmp_path / "link.json"
    Link(file).broke(8 * MIB)
    assert Link(file).piece_bytes == 512 * KIB
    assert Link(file).whole_bytes_max == 512 * KIB


@pytest.mark.parametrize("content", [b"", b"[]", b'{"piece_bytes": 1}', b"{" * 5000, b"\xff"])
def test_what_is_no_lesson_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "link.json"
    file.write_bytes(content)
    assert Link(file).piece_bytes == 512 * KIB


def test_a_folder_that_is_gone_costs_only_the_memory(tmp_path: Path) -> None:
    link = Link(tmp_path / "gone" / "link.json")
    link.broke(4 * MIB)
    assert link.piece_bytes == 256 * KIB


@pytest.mark.parametrize("size", [1, 10 * MIB, 1000 * MIB, 2**33, 2**40])
def test_no_update_has_too_many_pieces(size: int) -> None:
    link = Link()
    link.broke(MIB)
    least, most = piece_bytes_min(size), piece_bytes_max(size)
    assert PIECE_BYTES_MIN <= least <= most
    plan = link.lengths(size, least, most, PIECES_MAX + 1)
    assert len(plan) <= PIECES_MAX
    assert sum(plan) == size
