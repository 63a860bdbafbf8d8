"""Sends a finished update: the file if it rides apart, then the signed manifest, always the same bytes."""

import asyncio
import logging

from fedbus_schemas.asks import GrantRequest
from fedbus_schemas.refusals import Refusal, RefusalCode

from fedbus import _threads
from fedbus._asking import OPEN_SOON, PASSING, Asker
from fedbus._blobs import Blobs
from fedbus._store import Kept
from fedbus._updates import Update
from fedbus.errors import BusAway, StoreAway

log = logging.getLogger("fedbus")


class Sender:
    """Uploads and submits updates."""

    def __init__(self, asker: Asker, blobs: Blobs, kept: Kept) -> None:
        self._asker = asker
        self._blobs = blobs
        self._kept = kept

    async def send(
        self, update: Update, *, stored: bool, until: float, trace_id: str
    ) -> Refusal | None:
        """Send until a server keeps the update (None) or refuses it for good.

        What was `stored` before has its file in the object store and is only submitted again.

        Raises `Away` when the time is over, and `OSError` when the kept file is gone.
        """
        loop = asyncio.get_running_loop()
        pauses = self._asker.pauses()
        while True:
            try:
                refusal = await self._once(update, stored, until, trace_id)
            except StoreAway as error:
                if loop.time() >= until:
                    raise
                log.warning("%s: %s; trying again", update.key, error)
            else:
                missing = refusal is not None and refusal.code is RefusalCode.BLOB_MISSING
                if not missing or loop.time() >= until:
                    return refusal
                stored = False
            await asyncio.sleep(next(pauses))

    async def _once(
        self, update: Update, stored: bool, until: float, trace_id: str
    ) -> Refusal | None:
        if not update.rides_along and not stored:
            refusal = await self._upload(update, until, trace_id)
            if refusal is not None:
                return refusal
        answer = await self._asker.insist(
            "submit",
            update.submission,
            until=until,
            trace_id=trace_id,
            passing=OPEN_SOON,
        )
        if answer.refusal is not None and answer.refusal.code in PASSING:
            raise BusAway("the servers could not take the update in the time there was")
        return answer.refusal

    async def _upload(self, update: Update, until: float, trace_id: str) -> Refusal | None:
        request = GrantRequest(
            purpose="upload",
            session=update.key.session,
            round=update.key.round,
            attempt=update.key.attempt,
            blob=update.blob,
        )
        answer = await self._asker.insist(
            "grant", request, until=until, trace_id=trace_id, passing=OPEN_SOON
        )
        if answer.refusal is not None:
            if answer.refusal.code in PASSING:
                raise BusAway("the servers gave no grant in the time there was")
            return answer.refusal
        grant = answer.grant
        if grant is None:
            raise StoreAway("the answer to a grant request holds no grant")
        if not grant.exists:
            await _threads.Stoppable().run(
                lambda stop: self._blobs.put(grant, self._file(update), stop)
            )
        return None

    def _file(self, update: Update) -> bytes:
        return self._kept.file(update) if update.file is None else update.file
