"""The bundle: one session's log with all that it names, as one file whose every byte is determined.

A bundle is an uncompressed ustar archive (`ustar`). Its members, in this order and sorted within:

    log/<entry>.json                                   the stored bytes of each entry
    heads/<entry>.json                                 the stored bytes of each signed head
    updates/<round>/<attempt>/<sequence>-<client>.json the stored bytes of each update, late ones too
    blobs/<key>                                        models, sets, rule states, code, updates that counted
    index.json                                         what this is, what is absent, the controllers' keys
    SHA256SUMS                                         a line for every other member, for `sha256sum -c`

Numbers are written with leading zeros. The index stands near the end so that a bundle can be written in one
pass. Reading takes the headers once; contents are read by their offset, one member at a time.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ProjectId, PublicKey, SessionId
from fedbus_schemas.wire import Message
from pydantic import Field

from fedbus_core.audit import ustar

INDEX = "index.json"
SUMS = "SHA256SUMS"
INDEX_BYTES_MAX = 64 * 1024 * 1024
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""The largest entry, head or update message that is looked at; the streams hold 1 MiB a message."""
MEMBERS_MAX = 4_000_000
"""Each takes some 400 bytes of memory while a bundle is open."""
PIECE_BYTES = 1024 * 1024
UNREADABLE = "unreadable"
"""Stands for the client in the name of a stored update that cannot be read."""

_NUMBER = r"[0-9]{8}"
_CLIENT = r"c[a-z2-7]{16}"
_SECTIONS = tuple(
    re.compile(form)
    for form in (
        rf"log/{_NUMBER}\.json",
        rf"heads/{_NUMBER}\.json",
        rf"updates/{_NUMBER}/{_NUMBER}/[0-9]{{16}}-({_CLIENT}|{UNREADABLE})\.json",
        rf"blobs/[a-z0-9][a-z0-9-]{{0,31}}/(models|sets|states|functions|updates/{_CLIENT})/[0-9a-f]{{64}}",
        re.escape(INDEX),
        re.escape(SUMS),
    )
)


class BundleError(ValueError):
    """The bytes are not a bundle: at `offset`, in or before `member`."""

    def __init__(self, offset: int, member: str, detail: str) -> None:
        self.offset = offset
        self.member = member
        self.detail = detail
        super().__init__(f"byte {offset}, {member or 'no member'}: {detail}")


class Reader(Protocol):
    """Random access to a file."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Read `length` bytes; fewer only where the file ends."""
        ...


class AbsentBlob(Message):
    """A blob that the log names and the bundle does not hold: deleted by rule, left out, or not found."""

    key: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0)]
    why: Literal["pruned", "left_out", "missing"]


class Index(Message):
    """What the bundle is. Its bytes are what `to_bytes` gives."""

    format: Literal[1] = 1
    project: ProjectId
    session: SessionId
    entries: Annotated[int, Field(ge=1)]
    absent: tuple[AbsentBlob, ...] = ()
    trust: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A member to be written: its content comes in pieces, `size` bytes in all."""

    name: str
    size: int
    pieces: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Member:
    """A member that is there. `offset` is where its content begins."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class UpdateMember:
    """A stored update's member, with what its name says."""

    member: Member
    sequence: int
    client: str


def log_name(number: int) -> str:
    """The member of a log entry."""
    return f"log/{number:08d}.json"


def head_name(number: int) -> str:
    """The member of a signed head."""
    return f"heads/{number:08d}.json"


def update_name(round_number: int, attempt: int, sequence: int, client: str) -> str:
    """The member of a stored update."""
    return f"updates/{round_number:08d}/{attempt:08d}/{sequence:016d}-{client}.json"


def blob_name(key: str) -> str:
    """The member of a blob."""
    return f"blobs/{key}"


def order(name: str) -> tuple[int, str]:
    """Where a member stands. Raises `ValueError` for a name that no member has."""
    for section, form in enumerate(_SECTIONS):
        if form.fullmatch(name):
            return section, name
    raise ValueError(f"{name[:200]!r} is not a member of a bundle")


def write(items: Iterable[Item]) -> Iterator[bytes]:
    """Write a bundle in one pass; items come in the bundle's order, the index last.

    Raises `ValueError` for items out of order and for content that is not as long as was said.
    """
    lines: list[str] = []
    last = (-1, "")
    for item in items:
        place = order(item.name)
        if place <= last or item.name == SUMS:
            raise ValueError(f"{item.name} stands in the wrong place of a bundle")
        last = place
        yield ustar.header(item.name, item.size)
        running, length = hashlib.sha256(), 0
        for piece in item.pieces:
            running.update(piece)
            length += len(piece)
            if length > item.size:
                break
            yield piece
        if length != item.size:
            raise ValueError(f"{item.name} was to have {item.size} bytes and has {length}")
        yield bytes(ustar.padding(item.size))
        lines.append(sum_line(running.hexdigest(), item.name))
    sums = "".join(lines).encode()
    yield ustar.header(SUMS, len(sums))
    yield sums
    yield bytes(ustar.padding(len(sums)))
    yield ustar.END


def sum_line(digest: str, name: str) -> str:
    """A member's line in SHA256SUMS."""
    return f"{digest}  {name}\n"


class Bundle:
    """An opened bundle: where every member lies, and the index. Contents are read when asked for."""

    def __init__(self, reader: Reader, members: dict[str, Member], index: Index) -> None:
        self._reader = reader
        self.members = members
        self.index = index
        self.absent = {blob.key: blob for blob in index.absent}
        self._updates: dict[tuple[int, int], list[UpdateMember]] = {}
        self.heads: list[int] = []
        self.logged: list[int] = []
        for member in members.values():
            self._sort_in(member)

    @classmethod
    def open(cls, reader: Reader) -> "Bundle":
        """Read every header and the index. Raises `BundleError` for anything that is not a bundle."""
        members: dict[str, Member] = {}
        for member in _scan(reader):
            members[member.name] = member
            if len(members) > MEMBERS_MAX:
                raise BundleError(member.offset, member.name, f"over {MEMBERS_MAX} members")
        member = members[INDEX]
        if member.size > INDEX_BYTES_MAX:
            raise BundleError(member.offset, INDEX, f"the index is over {INDEX_BYTES_MAX} bytes")
        data = reader.read_at(member.offset, member.size)
        try:
            index = read(Index, data)
        except Unreadable as error:
            raise BundleError(member.offset, INDEX, f"the index cannot be read: {error}") from error
        canonical = index.to_bytes()
        if canonical != data:
            place = member.offset + ustar.first_difference(canonical, data)
            raise BundleError(place, INDEX, "the index is not in its one form")
        return cls(reader, members, index)

    def pieces(self, member: Member) -> Iterator[bytes]:
        """Read a member's content in pieces. Raises `BundleError` when the file has shrunk."""
        for start in range(0, member.size, PIECE_BYTES):
            length = min(PIECE_BYTES, member.size - start)
            yield self.read_at(member, start, length)

    def read_at(self, member: Member, start: int, length: int) -> bytes:
        """Read a part of a member's content. Raises `BundleError` when the file has shrunk."""
        piece = self._reader.read_at(member.offset + start, length)
        if len(piece) != length:
            raise BundleError(member.offset + start, member.name, "the file ends too early")
        return piece

    def content(self, name: str, *, size_max: int | None = None) -> bytes | None:
        """Read a member whole; None if there is no such member or it is over `size_max`."""
        member = self.members.get(name)
        if member is None or (size_max is not None and member.size > size_max):
            return None
        return self.read_at(member, 0, member.size)

    def blob(self, key: str) -> Member | None:
        """Find a blob."""
        return self.members.get(blob_name(key))

    def updates(self, round_number: int, attempt: int) -> list[UpdateMember]:
        """The stored updates of an attempt, in the order in which they were stored."""
        return self._updates.get((round_number, attempt), [])

    @property
    def attempts(self) -> Iterable[tuple[int, int]]:
        """The attempts for which there are stored updates."""
        return self._updates.keys()

    def _sort_in(self, member: Member) -> None:
        section, *rest = member.name.removesuffix(".json").split("/")
        if section == "updates":
            sequence, client = rest[2].split("-")
            attempt = int(rest[0]), int(rest[1])
            found = UpdateMember(member, int(sequence), client)
            self._updates.setdefault(attempt, []).append(found)
        elif section == "heads":
            self.heads.append(int(rest[0]))
        elif section == "log":
            self.logged.append(int(rest[0]))


def _scan(reader: Reader) -> Iterator[Member]:
    """Walk over the headers; every byte outside of contents is compared with what it must be."""
    offset, last = 0, (-1, "")
    while last[1] != SUMS:
        block = reader.read_at(offset, ustar.BLOCK)
        try:
            name, size = ustar.read_header(block)
            place = order(name)
        except ValueError as error:
            raise BundleError(offset, f"the member after {last[1] or '-'}", str(error)) from error
        if place <= last or (name == SUMS and last[1] != INDEX):
            raise BundleError(offset, name, f"it may not follow {last[1] or 'the beginning'}")
        member = Member(name, offset + ustar.BLOCK, size)
        end = member.offset + size
        _check_zeros(reader, end, ustar.padding(size), f"the padding after {name}")
        yield member
        offset, last = end + ustar.padding(size), place
    _check_zeros(reader, offset, len(ustar.END), "the end of the archive")
    if reader.size != offset + len(ustar.END):
        raise BundleError(offset + len(ustar.END), SUMS, "the file goes on after its end")


def _check_zeros(reader: Reader, offset: int, length: int, name: str) -> None:
    found = reader.read_at(offset, length)
    if found != bytes(length):
        raise BundleError(
            offset + ustar.first_difference(bytes(length), found),
            name,
            "zero bytes are missing here" if len(found) < length else "this byte must be zero",
        )
