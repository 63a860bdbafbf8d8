"""The client's line to the bus: connects for ever, hears mail, asks and gets answers.

Every lost connection is replaced by a new one made from scratch, with one rule for all causes: a server
that restarts, a device that is revoked for a while, a broken link.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from random import SystemRandom
from ssl import SSLContext

from fedbus_schemas import subjects
from fedbus_schemas.asks import Answer
from fedbus_schemas.refusals import Refusal, RefusalCode
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.transport import WebSocketTransport
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from pydantic import ValidationError

from fedbus import _backoff, _spans
from fedbus._keys import Keys
from fedbus.errors import BadOption, BusAway, NotPermitted
from fedbus.options import Options

log = logging.getLogger("fedbus")

PING_INTERVAL_S = 15
PINGS_OUTSTANDING_MAX = 2
STEADY_S = 5.0
"""A connection that lasted this long was a good one: the pauses begin anew after it."""

_VIOLATION = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.I)


class Bus:
    """Asks in the client's name. `serve` must run; `ask` waits until there is a connection."""

    def __init__(
        self,
        *,
        project: str,
        name: str,
        servers: tuple[str, ...],
        keys: Keys,
        options: Options,
        tls: SSLContext | None = None,
    ) -> None:
        if any(_is_websocket(server) for server in servers) and find_spec("aiohttp") is None:
            raise BadOption(
                "the credentials name a WebSocket server (ws:// or wss://), which needs aiohttp: "
                "pip install 'fedbus[websocket]'"
            )
        self._project = project
        self._name = name
        self._servers = servers
        self._keys = keys
        self._options = options
        self._tls = tls
        self._connection: _Connection | None = None
        self._connected = asyncio.Event()

    async def serve(
        self, hear: Callable[[bytes], None], attend: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Stay connected until cancelled.

        `hear` gets every live mail. `attend` is started on each new connection, when mail is heard
        already, and is cancelled when the connection is lost.
        """
        pauses = self._pauses()
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            try:
                await self._serve_one(hear, attend)
                failures = 0
                log.warning("connection to the bus lost; connecting again")
            except BusAway as error:
                failures += 1
                # The first, second, fourth, eighth: a long absence fills no log.
                if failures & (failures - 1) == 0:
                    log.warning("no connection to the bus: %s; trying again", error)
            if loop.time() - started > STEADY_S:
                pauses = self._pauses()
            await asyncio.sleep(next(pauses))

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        """Ask once. Raises `BusAway` without an answer, `NotPermitted` where the bus forbids it."""
        while (connection := self._connection) is None:
            await self._connected.wait()
        subject = subjects.ask(self._project, self._keys.device, verb)
        try:
            data = await connection.request(
                subject,
                content,
                {**_headers(trace_id), **_spans.headers(verb)},
                timeout_s or self._options.ask_timeout_s,
            )
        except MaxPayloadError:
            detail = f"{len(content)} bytes are too many for one message on this bus"
            return Answer(refusal=Refusal(code=RefusalCode.TOO_LARGE, detail=detail))
        try:
            return Answer.model_validate_json(data)
        except ValidationError as error:
            raise BusAway(f"the answer to {verb} cannot be read") from error

    async def _serve_one(
        self, hear: Callable[[bytes], None], attend: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        connection = _Connection(self._keys, self._options, self._tls)
        try:
            await connection.open(SystemRandom().choice(self._servers), self._name)
            await connection.hear(subjects.task(self._project, self._keys.device), hear)
            self._connection = connection
            self._connected.set()
            async with asyncio.TaskGroup() as group:
                attending = group.create_task(attend())
                await connection.lost.wait()
                attending.cancel()
        finally:
            self._connected.clear()
            self._connection = None
            await connection.close()

    def _pauses(self) -> Iterator[float]:
        return _backoff.pauses(self._options.backoff_min_s, self._options.backoff_max_s)


class _Connection:
    """One connection, until it is lost. nats-py's own reconnecting is off."""

    def __init__(self, keys: Keys, options: Options, tls: SSLContext | None) -> None:
        self.lost = asyncio.Event()
        self._device = keys.device
        self._sign_nonce = keys.sign_nonce
        self._token = keys.token.encode if keys.token is not None else None
        self._options = options
        self._tls = tls
        self._nats = Nats()
        self._inbox = f"_INBOX.{keys.device}.{secrets.token_hex(12)}"
        self._asked = 0
        self._waiting: dict[str, tuple[str, asyncio.Future[bytes]]] = {}

    async def open(self, server: str, name: str) -> None:
        """Connect and listen for answers. Raises `BusAway`."""
        # nats-py learns the public key only together with the `nkeys` package, which we do without.
        self._nats._public_nkey = self._device
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await self._nats.connect(
                    servers=[server],
                    name=name,
                    signature_cb=self._sign_nonce,
                    user_jwt_cb=self._token,
                    tls=self._tls,
                    # Else whoever sits between could talk us out of it: the offer of TLS is not encrypted.
                    tls_handshake_first=server.lower().startswith("tls://"),
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=self._options.connect_timeout_s,
                    ping_interval=PING_INTERVAL_S,
                    max_outstanding_pings=PINGS_OUTSTANDING_MAX,
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                )
            await self._nats.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        except (NatsError, OSError, TimeoutError, ValueError) as error:
            raise BusAway(f"{server}: {_why(error)}") from error

    async def hear(self, subject: str, hear: Callable[[bytes], None]) -> None:
        """Subscribe. Whatever is asked after this reaches the server after it. Raises `BusAway`.

        No flush: nats-py writes its PING past what still waits to be written, so it would prove nothing.
        """

        async def on_message(message: Msg) -> None:
            hear(message.data)

        try:
            await self._nats.subscribe(subject, cb=on_message)
        except (NatsError, OSError, TimeoutError) as error:
            raise BusAway(_why(error)) from error

    async def request(
        self, subject: str, payload: bytes, headers: dict[str, str], timeout_s: float
    ) -> bytes:
        """Ask once, and give the answer's bytes. Raises `BusAway`, `NotPermitted`, `MaxPayloadError`."""
        if self.lost.is_set():
            raise BusAway("the connection was lost")
        self._asked += 1
        number = str(self._asked)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (subject, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self._nats.publish(
                    subject, payload, reply=f"{self._inbox}.{number}", headers=headers or None
                )
                return await answer
        except MaxPayloadError:
            raise
        except TimeoutError as error:
            raise BusAway(f"no answer within {timeout_s:g} s") from error
        except (NatsError, OSError) as error:
            raise BusAway(_why(error)) from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Close, whatever the state."""
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await self._nats.close()
                await self._close_http()
        except (NatsError, OSError, TimeoutError) as error:
            log.debug("closing the connection: %s", _why(error))
        self._lose()

    async def _close_http(self) -> None:
        """Close the HTTP session of a WebSocket that did not open: nats-py leaves it behind."""
        transport = self._nats._transport
        if isinstance(transport, WebSocketTransport) and transport:
            transport.close()  # type: ignore[no-untyped-call]  # untyped there
            await transport.wait_closed()  # type: ignore[no-untyped-call]  # untyped there

    async def _on_answer(self, message: Msg) -> None:
        number = message.subject.rsplit(".", 1)[-1]
        _, answer = self._waiting.get(number, ("", None))
        if answer is None or answer.done():
            return
        if not message.data and (message.headers or {}).get("Status") == "503":
            answer.set_exception(BusAway("nobody answers on the bus yet"))
        else:
            answer.set_result(message.data)

    async def _on_error(self, error: Exception) -> None:
        found = _VIOLATION.search(str(error))
        if found is None:
            log.debug("bus: %s", _why(error))
            return
        publishing = found[1].lower() == "publish"
        violation = NotPermitted(found[2], "publish to" if publishing else "listen to")
        log.error("%s", violation)
        # The error comes apart from the request, with the subject in lower case.
        for subject, answer in list(self._waiting.values()):
            if publishing and subject.lower() == found[2].lower() and not answer.done():
                answer.set_exception(violation)

    async def _on_closed(self) -> None:
        self._lose()

    def _lose(self) -> None:
        self.lost.set()
        for _, answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(BusAway("the connection was lost"))


def _is_websocket(server: str) -> bool:
    return server.lower().startswith(("ws://", "wss://"))


def _headers(trace_id: str) -> dict[str, str]:
    if not re.fullmatch(r"[0-9a-f]{32}", trace_id):
        return {}
    return {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}


def _why(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "authorization violation" in text.lower():
        return "the bus refuses this device's key; is the client added there, or was it revoked?"
    return text.removeprefix("nats: ")
