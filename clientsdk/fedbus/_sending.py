"""Sends a finished update: the file if it rides apart, then the signed manifest, always the same bytes."""

import asyncio
import logging
from collections.abc import Callable

from fedbus_schemas.refusals import Refusal, RefusalCode

from fedbus._asking import OPEN_SOON, PASSING, Asker
from fedbus._content import Content
from fedbus._store import Kept, in_memory
from fedbus._updates import Update
from fedbus._uploading import Upload, Uploader
from fedbus.errors import BusAway, StoreAway

log = logging.getLogger("fedbus")


class Sender:
    """Uploads and submits updates."""

    def __init__(
        self,
        asker: Asker,
        uploader: Uploader,
        kept: Kept,
        *,
        patience_s: float,
        given_up: Callable[[Upload], None],
    ) -> None:
        self._asker = asker
        self._uploader = uploader
        self._kept = kept
        self._patience_s = patience_s
        self._given_up = given_up

    async def send(
        self, update: Update, *, stored: bool, until: float, trace_id: str
    ) -> Refusal | None:
        """Send until a server keeps the update (None) or refuses it for good.

        What was `stored` before has its file in the object store and is only submitted again.
        While the upload gets on, the time is not over: `until` is when to give up without progress.
        `given_up` hears of an upload in the middle of which this was cancelled.

        Raises `Away` when the time is over, `OSError` or `ContentGone` when the kept file is gone.
        """
        loop = asyncio.get_running_loop()
        pauses = self._asker.pauses()
        upload: Upload | None = None
        while True:
            if upload is None and not stored and not update.rides_along:
                upload = Upload(update, self._content(update), until, trace_id)
            before = 0 if upload is None else upload.place
            try:
                refusal = await self._once(update, upload, until, trace_id)
            except asyncio.CancelledError:
                if upload is not None:
                    self._given_up(upload)
                raise
            except StoreAway as error:
                if upload is not None and upload.place > before:
                    pauses = self._asker.pauses()
                    upload.until = until = max(until, loop.time() + self._patience_s)
                if loop.time() >= until:
                    raise
                log.warning("%s: %s; trying again", update.key, error)
            else:
                missing = refusal is not None and refusal.code is RefusalCode.BLOB_MISSING
                if not missing or loop.time() >= until:
                    return refusal
                stored, upload = False, None
            await asyncio.sleep(next(pauses))

    async def _once(
        self, update: Update, upload: Upload | None, until: float, trace_id: str
    ) -> Refusal | None:
        if upload is not None:
            refusal = await self._uploader.upload(upload)
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

    def _content(self, update: Update) -> Content:
        made = in_memory(update)
        return self._kept.file(update) if made.file is None else made.file
