"""What is stored on NATS JetStream, over its JSON interface (`$JS.API.…`), and the setting-up of it.

Reading goes through batched direct gets: no consumer is made for it. `protected` streams can neither
be purged nor deleted from. Used of the server's interface: STREAM.CREATE, STREAM.UPDATE, STREAM.PURGE,
STREAM.MSG.DELETE, STREAM.INFO, CONSUMER.CREATE, CONSUMER.INFO and DIRECT.GET; permissions need no more.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from fedbus_schemas.streams import Consumer, Stream
from nats.aio.msg import Msg

from fedbus_runtime.errors import AlreadyStored, BusAway, BusRefused, Conflict
from fedbus_runtime.nats_connection import (
    END_OF_BATCH,
    STATUS,
    NatsConnection,
    NoResponders,
    stored,
    to_nanoseconds,
)
from fedbus_runtime.ports import Depth, StoredMessage

CONSUMERS_MAX = 64
DUPLICATE_WINDOW = timedelta(minutes=2)
READ_BATCH_MAX = 500
SUBJECTS_PER_ASK_MAX = 256
"""Subjects in one ask for the latest; the server gives at most 1,024 results."""

_NO_MESSAGE = "404"
_TOO_MANY_RESULTS = "413"
_TIMED_OUT = "408"
_WRONG_LAST_SEQUENCE = {10071, 10164}
_STORE_FAILED = 10077
_UNAVAILABLE = 503
_NAME_IN_USE = 10058
_NOT_FOUND = {10059, 10014}
_NO_SUCH_MESSAGE = ("no message found", "stream store EOF")
_GONE = re.compile(r"sequence \d+ not found")
"""What the server says of a message that was deleted before, where it still knows the sequence."""

Json = dict[str, object]


class ServerRefusal(BusRefused):
    """An error answer of the server's JSON interface."""

    def __init__(self, code: int, number: int, text: str) -> None:
        super().__init__(f"{text} ({number})")
        self.code = code
        self.number = number
        self.text = text


class NatsStreams:
    """`ports.Streams` on a NATS connection."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

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
        """Store a message; see `ports.Streams`."""
        sent = dict(headers or {})
        if expected is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(expected)
        if message_id is not None:
            sent["Nats-Msg-Id"] = message_id
        if ttl_s is not None:
            sent["Nats-TTL"] = f"{max(1, round(ttl_s))}s"  # the server takes whole seconds only
        return await self._store(subject, data, sent)

    async def schedule(self, subject: str, target: str, data: bytes, at: datetime) -> None:
        """Store a message later; see `ports.Streams`."""
        due = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        await self._store(
            subject, data, {"Nats-Schedule": f"@at {due}", "Nats-Schedule-Target": target}
        )

    async def cancel(self, stream: Stream, subject: str) -> None:
        """Purge a subject; see `ports.Streams`."""
        await call(self._connection, f"STREAM.PURGE.{stream.name}", {"filter": subject})

    async def delete(self, stream: Stream, sequence: int) -> None:
        """Delete one message; see `ports.Streams`."""
        try:
            await call(
                self._connection,
                f"STREAM.MSG.DELETE.{stream.name}",
                {"seq": sequence, "no_erase": True},
            )
        except ServerRefusal as error:
            gone = error.text in _NO_SUCH_MESSAGE or _GONE.fullmatch(error.text)
            if error.number not in _NOT_FOUND and not gone:
                raise

    async def last(self, stream: Stream, subject: str) -> StoredMessage | None:
        """Give the newest message; see `ports.Streams`."""
        message = await self._connection.ask(
            f"$JS.API.DIRECT.GET.{stream.name}", _bytes({"last_by_subj": subject})
        )
        status = (message.headers or {}).get(STATUS)
        if status == _NO_MESSAGE:
            return None
        _demand_messages(status, message)
        return stored(message)

    async def read(
        self, stream: Stream, subject: str, *, after: int = 0, limit: int = 10_000
    ) -> list[StoredMessage]:
        """Give a subject's messages in order; see `ports.Streams`."""
        found: list[StoredMessage] = []
        while len(found) < limit:
            batch, more = await self._page(
                stream,
                {
                    "next_by_subj": subject,
                    "seq": (found[-1].sequence if found else after) + 1,
                    "batch": min(limit - len(found), READ_BATCH_MAX),
                },
            )
            found += batch
            if not more:
                break
        return found

    async def latest(
        self, stream: Stream, subjects: Sequence[str], *, up_to: int | None = None
    ) -> list[StoredMessage]:
        """Give the newest of every subject; see `ports.Streams`."""
        if up_to == 0:
            return []
        found: dict[int, StoredMessage] = {}
        for start in range(0, len(subjects), SUBJECTS_PER_ASK_MAX):
            for message in await self._latest_of(
                stream, list(subjects[start : start + SUBJECTS_PER_ASK_MAX]), up_to
            ):
                found[message.sequence] = message
        return [found[sequence] for sequence in sorted(found)]

    async def subjects(self, stream: Stream, subject: str) -> dict[str, int]:
        """List subjects; see `ports.Streams`. The server gives them in pages of 100,000."""
        found: dict[str, int] = {}
        while True:
            ask: Json = {"subjects_filter": subject, "offset": len(found)}
            content = await call(self._connection, f"STREAM.INFO.{stream.name}", ask)
            state = content.get("state")
            page = state.get("subjects") if isinstance(state, dict) else None
            found |= {str(name): int(count) for name, count in (page or {}).items()}
            total = content.get("total")
            if not page or not isinstance(total, int) or len(found) >= total:
                return found

    async def _latest_of(
        self, stream: Stream, subjects: list[str], up_to: int | None
    ) -> list[StoredMessage]:
        """Ask for the newest, and go round two limits of the server's answer."""
        try:
            found = await self._pages_of_latest(stream, subjects, up_to)
            if found or up_to is None:
                return found
            # The server finds nothing up to a sequence that the stream has not reached yet.
            newest = await self._pages_of_latest(stream, subjects, None)
            if all(message.sequence <= up_to for message in newest):
                return newest
            return await self._pages_of_latest(stream, subjects, up_to)
        except ServerRefusal as error:
            if str(error.code) != _TOO_MANY_RESULTS or stream.one_per_subject is None:
                raise
            return await self._all_of(stream, subjects, up_to)

    async def _pages_of_latest(
        self, stream: Stream, subjects: list[str], up_to: int | None
    ) -> list[StoredMessage]:
        ask: Json = {"multi_last": subjects, "batch": 4 * SUBJECTS_PER_ASK_MAX}
        if up_to is not None:
            ask["up_to_seq"] = up_to
        found: list[StoredMessage] = []
        while True:
            batch, more = await self._page(stream, ask)
            found += batch
            if not more or not batch:
                return found
            ask["seq"] = batch[-1].sequence + 1

    async def _all_of(
        self, stream: Stream, subjects: list[str], up_to: int | None
    ) -> list[StoredMessage]:
        """Read everything: where a subject has one message, that one is its newest."""
        found: list[StoredMessage] = []
        for subject in subjects:
            after = 0
            while page := await self.read(stream, subject, after=after):
                found += [message for message in page if up_to is None or message.sequence <= up_to]
                after = page[-1].sequence
        return found

    async def _page(self, stream: Stream, ask: Json) -> tuple[list[StoredMessage], bool]:
        answers = await self._connection.collect(f"$JS.API.DIRECT.GET.{stream.name}", _bytes(ask))
        end = answers.pop()
        headers = end.headers or {}
        status = headers.get(STATUS)
        if status == _NO_MESSAGE:
            return [], False
        if status != END_OF_BATCH:
            _demand_messages(status, end)
        return [stored(each) for each in answers], int(headers.get("Nats-Num-Pending", 0)) > 0

    async def _store(self, subject: str, data: bytes, headers: Mapping[str, str]) -> int:
        try:
            answer = await self._connection.ask(subject, data, headers=headers)
            return _number(_checked(answer), "seq")
        except NoResponders as error:
            raise BusAway(f"no stream takes {subject} just now") from error
        except ServerRefusal as error:
            if error.number in _WRONG_LAST_SEQUENCE:
                raise Conflict(f"{subject}: {error.text}") from error
            if error.number == _STORE_FAILED and "per subject" in error.text:
                raise AlreadyStored(subject) from error
            if error.code in {500, 503}:
                raise BusAway(f"{subject}: {error.text}") from error
            raise


async def prepare_stream(connection: NatsConnection, stream: Stream, replicas: int) -> None:
    """Create a stream, or bring an existing one to these settings."""
    config = stream_config(stream, replicas)
    try:
        await call(connection, f"STREAM.CREATE.{stream.name}", config)
    except ServerRefusal as error:
        if error.number != _NAME_IN_USE:
            raise
        await call(connection, f"STREAM.UPDATE.{stream.name}", config)


async def prepare_consumer(connection: NatsConnection, consumer: Consumer) -> None:
    """Create a durable consumer, or bring an existing one to these settings."""
    config: Json = {
        "name": consumer.name,
        "durable_name": consumer.name,
        "filter_subject": consumer.filter,
        "ack_policy": "explicit",
        "ack_wait": to_nanoseconds(consumer.ack_wait),
        "deliver_policy": "all",
        "replay_policy": "instant",
        "max_deliver": -1,
        "max_ack_pending": consumer.pending_max,
    }
    if consumer.unused_max is not None:
        config["inactive_threshold"] = to_nanoseconds(consumer.unused_max)
    await call(
        connection,
        f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}.{consumer.filter}",
        {"stream_name": consumer.stream, "config": config},
    )


async def consumer_depth(connection: NatsConnection, consumer: Consumer) -> Depth:
    """Say how much a consumer has before it. Raises `BusAway` when it is not there."""
    try:
        found = await call(connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}", {})
    except ServerRefusal as error:
        raise BusAway(f"no consumer {consumer.name}: {error}") from error
    return Depth(_number(found, "num_pending"), _number(found, "num_ack_pending"))


async def consumer_exists(connection: NatsConnection, consumer: Consumer) -> bool:
    """Say whether somebody has prepared this consumer."""
    try:
        await call(connection, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}", {})
    except ServerRefusal as error:
        if error.number in _NOT_FOUND:
            return False
        raise
    return True


def stream_config(stream: Stream, replicas: int) -> Json:
    """Write a stream's settings as the server reads them."""
    config: Json = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": str(stream.retention),
        "storage": "memory" if stream.memory else "file",
        "num_replicas": replicas,
        "max_consumers": CONSUMERS_MAX,
        "max_msgs": -1,
        "max_bytes": stream.bytes_max if stream.bytes_max is not None else -1,
        "max_age": to_nanoseconds(stream.age_max) if stream.age_max is not None else 0,
        "max_msg_size": stream.message_bytes_max,
        "max_msgs_per_subject": _per_subject(stream),
        "discard": "new" if stream.one_per_subject == "first" else "old",
        "discard_new_per_subject": stream.one_per_subject == "first",
        "duplicate_window": to_nanoseconds(
            min(DUPLICATE_WINDOW, stream.age_max or DUPLICATE_WINDOW)
        ),
        "deny_delete": stream.protected,
        "deny_purge": stream.protected and not stream.pruned,
        "allow_direct": True,
        "allow_msg_ttl": stream.message_ttl,
        "allow_msg_schedules": stream.schedules,
    }
    if stream.republish is not None:
        source, destination = stream.republish
        config["republish"] = {"src": source, "dest": destination}
    return config


def _per_subject(stream: Stream) -> int:
    if stream.one_per_subject is not None:
        return 1
    return -1 if stream.per_subject_max is None else stream.per_subject_max


async def call(connection: NatsConnection, verb: str, body: Json) -> Json:
    """Call the server's JSON interface. Raises `ServerRefusal`, `BusAway`."""
    try:
        return _checked(await connection.ask(f"$JS.API.{verb}", _bytes(body)))
    except ServerRefusal as error:
        if error.code == _UNAVAILABLE:
            raise BusAway(error.text) from error
        raise


def _checked(answer: Msg) -> Json:
    content: Json = json.loads(answer.data)
    error = content.get("error")
    if isinstance(error, dict):
        raise ServerRefusal(
            int(error.get("code", 0)),
            int(error.get("err_code", 0)),
            str(error.get("description", "refused")),
        )
    return content


def _demand_messages(status: str | None, message: Msg) -> None:
    """Raise what a status line that is no result means."""
    if status is None:
        return
    text = (message.headers or {}).get("Description", "refused")
    if status.startswith("5") or status == _TIMED_OUT:
        raise BusAway(f"{text} (direct get)")
    raise ServerRefusal(int(status), 0, f"{text} (direct get)")


def _number(content: Json, name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int):
        raise BusRefused(f"the answer has no number {name!r}")
    return value


def _bytes(body: Json) -> bytes:
    return json.dumps(body).encode()
