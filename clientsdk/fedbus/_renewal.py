"""Renews the device's token for the bus at half its life, and by the key alone when it has ended."""

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from random import SystemRandom

from fedbus_schemas.asks import RENEW
from fedbus_schemas.credentials import Credentials
from fedbus_schemas.devices import Renew

from fedbus import _enrolment, _files, _threads
from fedbus._asking import Line
from fedbus._keys import Keys
from fedbus.errors import BusAway, FedbusError, Refused

log = logging.getLogger("fedbus")

WAIT_MIN_S = 60.0
"""The wait after each renewal, also one that failed: a wrong clock causes no flood. Less for a short life."""
ASK_TIMEOUT_S = 10.0


class Renewal:
    """Keeps a client's token alive. With a `file` the next run begins with the newest token."""

    def __init__(self, credentials: Credentials, keys: Keys, line: Line, file: Path | None) -> None:
        self._credentials = credentials
        self._keys = keys
        self._line = line
        self._file = file

    async def run(self) -> None:
        """Renew until cancelled; at once when half of the token's life is over at the start."""
        if self._keys.token is None:
            return  # a bus that knows this device by its key alone
        while True:
            signed, ends = _enrolment.token_times(self._keys.token)
            half = (ends - signed) / 2
            left = signed + half - time.time()
            if left > 0:
                await asyncio.sleep(min(left, half) * SystemRandom().uniform(0.9, 1.0))
            await self._renew(ended=time.time() > ends)
            await asyncio.sleep(min(WAIT_MIN_S, max(half / 4, 0.1)))

    async def _renew(self, *, ended: bool) -> None:
        try:
            if ended and self._credentials.api is not None:
                ask = partial(_enrolment.renew, self._credentials, self._keys)
                token = (await _threads.run(ask, "fedbus-renewal")).token
            else:
                token = await self._asked()
        except BusAway:
            return
        except Refused as error:
            log.warning("the bus gives this device no further token: %s", error)
            return
        except FedbusError as error:
            log.warning("the token could not be renewed: %s", error)
            return
        if token is None:
            return
        self._keys.token = token
        await _threads.run(partial(self._keep, token), "fedbus-renewal")
        log.info("the device's token was renewed")

    async def _asked(self) -> str | None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):  # a line that is down waits until it is up
                answer = await self._line.ask(RENEW, Renew().to_bytes())
        except TimeoutError as error:
            raise BusAway("no answer to the renewal") from error
        if answer.refusal is not None:
            raise Refused(answer.refusal.code, answer.refusal.detail)
        return answer.minted.token if answer.minted is not None else None

    def _keep(self, token: str) -> None:
        self._credentials = self._credentials.model_copy(update={"token": token})
        if self._file is not None:
            text = self._credentials.model_dump_json(indent=2)
            _files.write_private(self._file, text.encode() + b"\n")
