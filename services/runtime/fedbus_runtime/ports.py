"""The seams to the outside world. Each has a real adapter and an in-memory twin (`memory.py`).

Services get these as constructor arguments; nothing else of theirs touches a server.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from fedbus_schemas.ids import AttemptNumber, ClientId, ProjectId, RoundNumber, SessionId, Sha256
from fedbus_schemas.live import LiveRound as LiveRound
from fedbus_schemas.streams import Consumer, Stream
from fedbus_schemas.work import PartialRecord


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as a stream keeps it. `time` is when the server stored it (UTC)."""

    subject: str
    sequence: int
    data: bytes
    time: datetime
    headers: Mapping[str, str] = field(default_factory=dict)


class Delivery(Protocol):
    """A stored message on loan to a consumer until it is settled."""

    @property
    def message(self) -> StoredMessage:
        """What was delivered."""

    @property
    def count(self) -> int:
        """How often it was delivered, this time included."""

    async def ack(self) -> None:
        """It is done; a work queue forgets it."""

    async def retry(self, after_s: float) -> None:
        """Give it back, to be delivered again after at least this long."""

    async def working(self) -> None:
        """Still at it: start the ack wait anew."""

    async def discard(self) -> None:
        """Never deliver it again. Only after a copy went to the dead letters."""


class Streams(Protocol):
    """What is stored. Every wait has a timeout in the adapter's settings."""

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        expected: int | None = None,
        message_id: str | None = None,
        ttl_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Store a message and give its stream sequence.

        `expected` is the sequence of the subject's last message (0 = none yet): compare-and-set.
        Raises `Conflict` when another was first, `AlreadyStored` when the stream keeps the first
        message of a subject for ever, `BusAway` when no server answers.
        """

    async def schedule(self, subject: str, target: str, data: bytes, at: datetime) -> None:
        """Store `data` on `target` at a time. A later call with the same `subject` replaces it."""

    async def cancel(self, stream: Stream, subject: str) -> None:
        """Take back what is scheduled (or kept) on a subject."""

    async def delete(self, stream: Stream, sequence: int) -> None:
        """Delete one message; one that is gone already is no error. Raises `BusRefused` where protected."""

    async def last(self, stream: Stream, subject: str) -> StoredMessage | None:
        """Give the newest message of a subject; wildcards are allowed."""

    async def read(
        self, stream: Stream, subject: str, *, after: int = 0, limit: int = 10_000
    ) -> list[StoredMessage]:
        """Give the messages of a subject (wildcards allowed) with a higher sequence than `after`, in order."""

    async def latest(
        self, stream: Stream, subjects: Sequence[str], *, up_to: int | None = None
    ) -> list[StoredMessage]:
        """Give the newest message of every subject that matches, none of it above `up_to`, by sequence."""

    async def subjects(self, stream: Stream, subject: str) -> dict[str, int]:
        """Give the subjects in a stream that match (wildcards allowed), each with its number of messages."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How much a consumer has before it: not taken yet, and taken but not settled."""

    pending: int
    unsettled: int


class Deliveries(Protocol):
    """Durable consumers."""

    async def prepare(self, streams: Sequence[Stream], consumers: Sequence[Consumer]) -> None:
        """Create or update the streams and consumers. Safe to call from several services at once."""

    async def await_ready(self, consumers: Sequence[Consumer]) -> None:
        """Return once another service has prepared these."""

    async def fetch(self, consumer: Consumer, batch: int) -> list[Delivery]:
        """Wait a bounded time for up to `batch` messages; an empty list is normal.

        Raises `BusAway` when the server cannot be reached.
        """

    async def depth(self, consumer: Consumer) -> Depth:
        """Say how much there is to do. Raises `BusAway`, also when nobody has prepared the consumer."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came in. `sender` is the device key that the server attests, if it crossed accounts."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sender: str | None


class Wire(Protocol):
    """What is not stored: requests and live feeds."""

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask and wait for one answer. Raises `NoAnswer` when nobody serves it or time is up."""

    async def serve(
        self, subject: str, queue: str, handler: Callable[[Request], Awaitable[bytes | None]]
    ) -> None:
        """Answer requests until cancelled, many at a time; None = no answer (the asker repeats itself)."""

    def listen(self, subject: str) -> AsyncIterator[StoredMessage]:
        """Yield what a republished feed brings, from the moment the first step has been taken.

        `sequence` and `time` are the stored ones. What was missed while the bus was away is not made
        up for: read the stream.
        """

    async def returned(self) -> None:
        """Return when the bus was away and is back: what it kept in memory only may be gone."""


class Blobs(Protocol):
    """The object store: immutable blobs, keyed by `keys.py`, the last part being the SHA-256."""

    async def put(self, key: str, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Store a blob made of these parts. A blob that exists is left alone. Raises `StoreAway`."""

    async def get(self, key: str, size_max: int) -> bytearray:
        """Read a whole blob, checking its SHA-256 while it streams.

        Raises `BlobMissing`, `BlobCorrupt` (wrong hash or longer than `size_max`), `StoreAway`.
        """

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part, unchecked. Raises `BlobMissing`, `StoreAway`."""

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield a blob in pieces of about 1 MiB, unchecked. Raises `BlobMissing`, `StoreAway`."""

    async def size(self, key: str) -> int | None:
        """Give a blob's length, None when there is none. Raises `StoreAway`."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs; those that are gone already are no error. Raises `StoreAway`."""

    async def list(self, prefix: str) -> Sequence[str]:
        """Give the keys under a prefix, sorted. Raises `StoreAway`."""

    async def written(self, prefix: str) -> Mapping[str, datetime]:
        """Give the keys under a prefix, each with when the store took it. Raises `StoreAway`."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A presigned request: send exactly these headers with it."""

    method: str
    url: str
    headers: Mapping[str, str]
    expires: datetime


class Grants(Protocol):
    """Presigned requests against the object store's public endpoint."""

    def upload(
        self, key: str, digest: Sha256, size: int, now: datetime, lifetime_s: int
    ) -> SignedUrl:
        """Allow one create-only PUT of exactly these bytes: length, SHA-256 and If-None-Match are signed."""

    def download(self, key: str, now: datetime, lifetime_s: int) -> SignedUrl:
        """Allow reading one blob."""


@dataclass(frozen=True, slots=True)
class RoundKey:
    """Names one attempt of a round."""

    project: ProjectId
    session: SessionId
    round: RoundNumber
    attempt: AttemptNumber


@dataclass(frozen=True, slots=True)
class Tally:
    """What counting came to: how many are stored, and the batches that filled up, each handed out once."""

    stored: int
    batches: tuple[tuple[ClientId, ...], ...] = ()


class RoundRecords(Protocol):
    """The live round state in Redis. All of it can be rebuilt from the streams; all writes are idempotent.

    Every method raises `RecordsAway` when the server cannot be reached.
    """

    async def put_round(self, state: LiveRound) -> None:
        """Keep a session's state unless a newer one (`number`) is there already."""

    async def get_round(self, project: ProjectId, session: SessionId) -> LiveRound | None:
        """Give a session's state; None means: rebuild it from the log."""

    async def count(self, key: RoundKey, updates: Mapping[ClientId, int], batch_size: int) -> Tally:
        """Add stored updates (client to sequence): a union, so adding twice changes nothing."""

    async def counted(self, key: RoundKey) -> dict[ClientId, int]:
        """Give the updates counted so far, client to sequence."""

    async def put_partial(self, key: RoundKey, partial: PartialRecord) -> None:
        """Remember a partial sum."""

    async def partials(self, key: RoundKey) -> list[PartialRecord]:
        """Give the partial sums that are remembered."""

    async def forget(self, key: RoundKey) -> None:
        """Drop an attempt's updates and partials: it is over."""

    def epoch(self) -> str:
        """Name the server's memory: another name after a restart or a restore, when copies may be old."""


class Presence(Protocol):
    """Who is online. Raises `RecordsAway` when the server cannot be reached."""

    async def seen(self, project: ProjectId, clients: Sequence[ClientId], at: datetime) -> None:
        """A heartbeat of these clients came in."""

    async def gone(self, project: ProjectId, clients: Sequence[ClientId], heard: datetime) -> None:
        """These clients said goodbye: they count as last heard of then, until they are seen again."""

    async def online(self, project: ProjectId, since: datetime) -> dict[ClientId, datetime] | None:
        """Give the clients heard of since then. None means: records were lost, nothing is known yet."""

    async def known_since(self, project: ProjectId) -> datetime | None:
        """Say how far back the records reach; None as for `online`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLimits:
    """How much may be under way in a project at once, and how long a transfer counts at most."""

    transfers: int
    bytes: int
    lease: timedelta


class Transfers(Protocol):
    """Places for transfers to and from the object store, shared by all combiners.

    A place is a lease: one whose client died is free again when it ends. Raises `RecordsAway`.
    """

    async def take(
        self, project: ProjectId, name: str, size: int, limits: TransferLimits, now: datetime
    ) -> int:
        """Take a place, or keep the one that `name` has; 0 = taken, else how many wait for one.

        A single transfer may be larger than what is allowed in all.
        """

    async def release(self, project: ProjectId, name: str) -> None:
        """Give a place back; a second time changes nothing."""


class Accounts(Protocol):
    """The accounts' tokens, as the bus keeps them. Raises `BusAway`, and `BusRefused` for what it refuses."""

    async def token(self, account: str) -> str:
        """Give an account's token as it stands."""

    async def replace(self, token: str) -> None:
        """Put a newer token in place; whoever it revokes is cut off."""


class Documents(Protocol):
    """The api's lists: documents by kind and id, each with the log entry it was made from.

    A cache: a reader compares `number` with the log's head and makes up the difference.
    Raises `RecordsAway` when the server cannot be reached.
    """

    async def put(self, project: ProjectId, kind: str, name: str, number: int, data: bytes) -> None:
        """Keep a document unless a newer one is there already."""

    async def get(self, project: ProjectId, kind: str, name: str) -> tuple[int, bytes] | None:
        """Give a document with its number."""


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> datetime:
        """Give the time in UTC."""

    def monotonic(self) -> float:
        """Give seconds from an arbitrary start that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
