"""One NATS connection: it signs in with a seed, asks and collects answers, and says when the server is away.

Requests have their own table of waiting answers instead of the library's, so that a lost connection fails
them at once (not after their timeout) and one request can have many answers (batched direct get).
What was sent just before the connection broke may still arrive after the reconnect: whoever gets
`BusAway` repeats the request, and everything that is repeated is compare-and-set or idempotent.
"""

import asyncio
import base64
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ssl import SSLContext
from typing import Self

import nats.errors
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedbus_schemas import nkeys
from nats.aio.client import Client, Server
from nats.aio.msg import Msg

from fedbus_runtime.errors import BusAway, BusRefused
from fedbus_runtime.ports import StoredMessage

ASK_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2
RECONNECT_WAIT_MAX_S = 1.0
RECONNECT_WAIT_FIRST_S = 0.05
PING_INTERVAL_S = 10
PINGS_LOST_MAX = 2
DRAIN_TIMEOUT_S = 5

STATUS = "Status"
"""Where the library puts the number of a status line."""
NO_RESPONDERS = "503"
END_OF_BATCH = "204"
MESSAGE_ID = "Nats-Msg-Id"
"""What the publisher names a message by: kept, since it tells who repeats himself."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = structlog.get_logger(__name__)
_chance = random.SystemRandom()


class NoResponders(BusAway):
    """Nobody is subscribed to the request's subject: no such stream, or no such service just now."""


class _Answers:
    """Collects the answers to one request until the one that ends it."""

    def __init__(self, *, many: bool) -> None:
        self.many = many
        self.messages: list[Msg] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def add(self, message: Msg) -> None:
        self.messages.append(message)
        if not self.many or (message.headers or {}).get(STATUS):
            self.finish(None)

    def finish(self, error: BusAway | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """Where and as whom to connect. `seed` is the text of a user's nkey seed, None where no one signs in.

    With a `token` the user signs in by that and the seed, as in operator mode.
    """

    urls: Sequence[str]
    name: str
    seed: str | None = None
    token: str | None = None
    inbox_prefix: str = "_INBOX"
    tls: SSLContext | None = None


class NatsConnection:
    """A connection that stays: it reconnects for ever, with a jittered wait."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self._client = Client()
        self._inbox = f"{options.inbox_prefix}.{secrets.token_hex(8)}"
        self._numbers = itertools.count(1)
        self._waiting: dict[str, _Answers] = {}
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._back = asyncio.Event()
        self._on_lost: list[Callable[[], None]] = []
        self._on_back: list[Callable[[], Awaitable[None]]] = []
        self._failed_attempts = 0
        self._last_error = ""

    @classmethod
    async def open(cls, options: NatsOptions, timeout_s: float = ASK_TIMEOUT_S) -> Self:
        """Connect. Raises `BusAway` with the last error when that took too long."""
        self = cls(options)
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect()
        except TimeoutError as error:
            await self._client.close()
            raise BusAway(f"cannot connect to {self.where}: {self._last_error}") from error
        except (nats.errors.Error, OSError) as error:
            raise BusAway(f"cannot connect to {self.where}: {error}") from error
        return self

    @property
    def where(self) -> str:
        """The servers' addresses, for messages."""
        return ", ".join(self._options.urls)

    @property
    def connected(self) -> bool:
        """Whether a server is connected right now."""
        return self._up.is_set()

    @property
    def client(self) -> Client:
        """The library's client, for subscriptions."""
        return self._client

    async def wait_connected(self) -> None:
        """Return as soon as a server is connected."""
        await self._up.wait()

    async def wait_returned(self) -> None:
        """Return when the connection has been lost and is back."""
        await self._back.wait()

    async def wait_closed(self) -> None:
        """Return when the connection is closed for good: by us, or because the server turned us away."""
        await self._closed.wait()

    async def close(self) -> None:
        """Send what is pending and close."""
        if self._closed.is_set():
            return
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                if self._client.is_connected:
                    await self._client.flush()
        except (TimeoutError, nats.errors.Error) as error:
            _log.warning("bus.close.unflushed", error=repr(error))
        await self._client.close()
        self._closed.set()
        self._lose("closed")

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call this each time the connection breaks."""
        self._on_lost.append(call)

    def when_back(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call this each time the connection is back, before `wait_returned` returns."""
        self._on_back.append(call)

    def new_inbox(self) -> str:
        """Give a subject under our inbox prefix that nobody else uses."""
        return f"{self._options.inbox_prefix}.{secrets.token_hex(8)}"

    async def ask(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ASK_TIMEOUT_S,
    ) -> Msg:
        """Send a request and give the answer. Raises `BusAway`, `NoResponders`, `BusRefused`."""
        answers = await self._exchange(subject, data, headers, timeout_s, many=False)
        return answers[0]

    async def collect(
        self, subject: str, data: bytes, *, timeout_s: float = ASK_TIMEOUT_S
    ) -> list[Msg]:
        """Send a request and give all answers; the last one carries the status that ends them."""
        return await self._exchange(subject, data, None, timeout_s, many=True)

    async def send(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish. While the server is away a bounded amount is kept and sent later."""
        try:
            await self._client.publish(
                subject, data, reply=reply, headers=dict(headers) if headers else None
            )
        except nats.errors.MaxPayloadError as error:
            raise BusRefused(f"{len(data)} bytes are more than the server takes") from error
        except nats.errors.Error as error:
            raise BusAway(f"cannot send to {subject}: {error}") from error

    async def _exchange(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        *,
        many: bool,
    ) -> list[Msg]:
        token = str(next(self._numbers))
        answers = self._waiting[token] = _Answers(many=many)
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
                await self.send(subject, data, reply=f"{self._inbox}.{token}", headers=headers)
                await answers.done
        except TimeoutError as error:
            raise BusAway(f"no answer on {subject} within {timeout_s} s") from error
        finally:
            del self._waiting[token]
            answers.done.cancel()
        if (answers.messages[-1].headers or {}).get(STATUS) == NO_RESPONDERS:
            raise NoResponders(f"nobody answers on {subject}")
        return answers.messages

    async def _connect(self) -> None:
        sign: Callable[[str], bytes] | None = None
        token = self._options.token
        if self._options.seed is not None:
            key = Ed25519PrivateKey.from_private_bytes(nkeys.raw_seed(self._options.seed))
            sign = partial(_sign, key)
            # The library takes seeds only through a package that we do not need: it sends this
            # private attribute as the user's name and lets the callback sign the server's nonce.
            self._client._public_nkey = nkeys.user_public(key.public_key().public_bytes_raw())
            self._client._auth_configured = True
        await self._client.connect(
            servers=list(self._options.urls),
            name=self._options.name,
            inbox_prefix=self._options.inbox_prefix,
            connect_timeout=CONNECT_TIMEOUT_S,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            reconnect_to_server_handler=self._choose_server,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=PINGS_LOST_MAX,
            error_cb=self._note_error,
            disconnected_cb=self._note_lost,
            reconnected_cb=self._note_back,
            closed_cb=self._note_closed,
            signature_cb=sign,
            user_jwt_cb=token.encode if token is not None else None,
            tls=self._options.tls,
            # Else whoever sits between could talk us out of it: the offer of TLS is not encrypted.
            tls_handshake_first=self._options.tls is not None,
        )
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        self._up.set()

    def _choose_server(
        self, servers: list[Server], _info: dict[str, object]
    ) -> tuple[Server | None, float]:
        attempt = self._failed_attempts
        self._failed_attempts += 1
        longest = min(RECONNECT_WAIT_MAX_S, RECONNECT_WAIT_FIRST_S * 2**attempt)
        return servers[attempt % len(servers)], _chance.uniform(0.0, longest)

    async def _on_answer(self, message: Msg) -> None:
        answers = self._waiting.get(message.subject.rpartition(".")[2])
        if answers is not None:
            answers.add(message)

    async def _note_error(self, error: Exception) -> None:
        self._last_error = str(error) or repr(error)
        _log.warning("bus.error", error=self._last_error)

    async def _note_lost(self) -> None:
        self._failed_attempts = 0
        self._lose("lost")

    async def _note_back(self) -> None:
        _log.info("bus.reconnected")
        self._up.set()
        for call in self._on_back:
            await call()
        back, self._back = self._back, asyncio.Event()
        back.set()

    async def _note_closed(self) -> None:
        self._lose("closed")
        self._closed.set()

    def _lose(self, how: str) -> None:
        was_up = self._up.is_set()
        self._up.clear()
        for answers in self._waiting.values():
            answers.finish(BusAway(f"the connection was {how}"))
        for call in self._on_lost:
            call()
        if was_up:
            _log.warning("bus.lost", how=how)


def _sign(key: Ed25519PrivateKey, nonce: str) -> bytes:
    return base64.b64encode(key.sign(nonce.encode()))


def stored(message: Msg) -> StoredMessage:
    """Read a message that a direct get or a republish brought: the place is in its headers."""
    headers = message.headers or {}
    return StoredMessage(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        data=message.data,
        time=datetime.fromisoformat(headers["Nats-Time-Stamp"]),
        headers=own_headers(headers),
    )


def own_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Give the publisher's own headers and message id, without those that concern the server."""
    given = (headers or {}).items()
    return {
        name: text for name, text in given if not name.startswith("Nats-") or name == MESSAGE_ID
    }


def from_nanoseconds(nanoseconds: int) -> datetime:
    """Read a server's time."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def to_nanoseconds(duration: timedelta) -> int:
    """Write a duration as the server wants it."""
    return duration // timedelta(microseconds=1) * 1000
