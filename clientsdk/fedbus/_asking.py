"""Asks until there is an answer: the same message again, with pauses, while servers are away."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Protocol

from fedbus_schemas.asks import Answer
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.wire import Message

from fedbus import _backoff
from fedbus.errors import BusAway, NotPermitted
from fedbus.options import Options

log = logging.getLogger("fedbus")

FIRST_TIMEOUT_S = 1.0
PAUSE_MAX_S = 2.0

PASSING = frozenset({RefusalCode.RETRY_LATER})
OPEN_SOON = PASSING | {RefusalCode.ROUND_UNKNOWN, RefusalCode.CLIENT_UNKNOWN}
"""What may pass for work on a task: a server that is behind does not know the round yet, and one that has
forgotten the client hears its hello again soon."""


class Line(Protocol):
    """The line to the bus. `fedbus._transport.Bus` is the real one."""

    async def serve(
        self,
        hear: Callable[[bytes], None],
        attend: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        """Stay connected; run `attend` on each connection; give live mail to `hear`."""

    async def ask(
        self, verb: str, content: bytes, trace_id: str = "", timeout_s: float | None = None
    ) -> Answer:
        """Ask once; none = wait as long as the options say. Raises `BusAway` and `NotPermitted`."""


class Asker:
    """Insists on answers."""

    def __init__(self, line: Line, options: Options) -> None:
        self._line = line
        self._options = options

    async def insist(
        self,
        verb: str,
        message: Message | bytes,
        *,
        until: float | None = None,
        trace_id: str = "",
        passing: frozenset[RefusalCode] = PASSING,
        forbidden_ends: bool = False,
    ) -> Answer:
        """Ask until there is an answer that will not pass, at most until then (the loop's clock).

        At the end of the time the last refusal is the answer; without one, raises `BusAway`. A bus
        that forbids the question may allow it later; with `forbidden_ends`, raises `NotPermitted`.
        """
        content = message if isinstance(message, bytes) else message.to_bytes()
        last: Answer | None = None
        pauses = self.pauses()
        patience = self._timeouts()
        try:
            async with asyncio.timeout_at(until):
                while True:
                    try:
                        last = await self._line.ask(verb, content, trace_id, next(patience))
                    except BusAway as error:
                        log.debug("%s: %s; asking again", verb, error)
                    except NotPermitted:
                        if forbidden_ends:
                            raise
                    else:
                        if last.refusal is None or last.refusal.code not in passing:
                            return last
                        log.debug("%s: %s; asking again", verb, last.refusal.code)
                        hint_s = last.refusal.retry_after_s
                        if hint_s is not None:
                            longest_s = self._options.backoff_max_s
                            await asyncio.sleep(_backoff.around(min(hint_s, longest_s)))
                            continue
                    await asyncio.sleep(next(pauses))
        except TimeoutError as error:
            if last is not None:
                return last
            raise BusAway(f"no answer to {verb} in the time there was") from error

    def _timeouts(self) -> Iterator[float]:
        """Give how long to wait for an answer, try by try: a service that died in mid-answer says
        nothing, and asking again is harmless, so the first wait is short.
        """
        timeout_s = min(FIRST_TIMEOUT_S, self._options.ask_timeout_s)
        while True:
            yield timeout_s
            timeout_s = min(2 * timeout_s, self._options.ask_timeout_s)

    def pauses(self) -> Iterator[float]:
        """Give the pauses between tries on a connection that stands: a server that comes back is
        found soon, and one that has too much to do says so itself (`retry_after_s`).
        """
        longest_s = max(self._options.backoff_min_s, min(PAUSE_MAX_S, self._options.backoff_max_s))
        return _backoff.pauses(self._options.backoff_min_s, longest_s)
