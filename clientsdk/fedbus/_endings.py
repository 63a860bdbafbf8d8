"""Tells the servers that a transfer is over, so that somebody else may go ahead."""

import logging
from collections.abc import Callable, Coroutine

from fedbus_schemas.asks import TransferDone
from fedbus_schemas.models import BlobRef

from fedbus._asking import Line
from fedbus._uploading import Upload
from fedbus.errors import BusAway, NotPermitted

log = logging.getLogger("fedbus")


class Endings:
    """Says it once; unsaid, the servers know it after a while. After `close` nothing is said."""

    def __init__(self, line: Line, spawn: Callable[[Coroutine[None, None, None]], object]) -> None:
        self._line = line
        self._spawn = spawn
        self._closed = False

    def close(self) -> None:
        """Say nothing any more: who is only stopped sends the rest when it runs again."""
        self._closed = True

    def done(self, blob: BlobRef) -> None:
        """Let others transfer."""
        if not self._closed:
            self._spawn(self._say(blob, given_up=False))

    def give_up(self, upload: Upload) -> None:
        """Let the servers delete what is there of an upload, as soon as nothing of it is on the link."""
        if not self._closed:
            self._spawn(self._say_given_up(upload))

    async def _say_given_up(self, upload: Upload) -> None:
        await upload.transfer.over()
        await self._say(upload.update.blob, given_up=True)

    async def _say(self, blob: BlobRef, *, given_up: bool) -> None:
        done = TransferDone(blob=blob.digest, given_up=given_up)
        try:
            await self._line.ask("done", done.to_bytes())
        except (BusAway, NotPermitted) as error:
            log.debug("done: %s", error)
