"""Gets a task's model: from the message, from here, or from the object store with a grant."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from weakref import WeakValueDictionary

from fedbus_schemas.asks import GrantRequest
from fedbus_schemas.commands import CommandGrantRequest
from fedbus_schemas.models import BlobRef
from fedbus_schemas.tasks import ModelToFetch

from fedbus import _threads
from fedbus._asking import OPEN_SOON, Asker
from fedbus._blobs import Store
from fedbus._models import Incoming, Models
from fedbus.errors import BadModel, StoreAway, refused

log = logging.getLogger("fedbus")


class Fetcher:
    """Fetches models, each one once at a time."""

    def __init__(
        self,
        asker: Asker,
        blobs: Store,
        models: Models,
        *,
        bytes_max: int,
        patience_s: float,
        done: Callable[[BlobRef], None] = lambda _: None,
    ) -> None:
        """`done` is called when a download is over, however it went."""
        self._asker = asker
        self._blobs = blobs
        self._models = models
        self._bytes_max = bytes_max
        self._patience_s = patience_s
        self._done = done
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def fetch(
        self,
        model: ModelToFetch,
        request: GrantRequest | CommandGrantRequest,
        *,
        until: float,
        stop: Callable[[], bool],
        trace_id: str,
    ) -> bytes | bytearray:
        """Give the model's bytes, which are the ones that its digest names.

        Raises `BadModel`, `Refused`, and `Away` when the time is over.
        """
        if model.size > self._bytes_max:
            raise BadModel(f"the model has {model.size} bytes, over model_bytes_max")
        if model.inline is not None:
            return _inline(model.inline, model)
        blob = request.blob
        lock = self._locks.setdefault(blob.digest, asyncio.Lock())
        async with lock:  # a round and a command may want the same model
            return await self._find(request, until, stop, trace_id)

    async def _find(
        self,
        request: GrantRequest | CommandGrantRequest,
        until: float,
        stop: Callable[[], bool],
        trace_id: str,
    ) -> bytes | bytearray:
        blob = request.blob
        data = await _threads.run(lambda: self._models.find(blob), "fedbus-cache")
        if data is not None:
            return data
        incoming = await _threads.run(lambda: self._models.incoming(blob), "fedbus-cache")
        try:
            data = await self._download(request, incoming, until, stop, trace_id)
            await _threads.run(lambda: self._keep(blob, data, incoming), "fedbus-cache")
        finally:
            self._done(blob)
            incoming.close()
        return data

    async def _download(
        self,
        request: GrantRequest | CommandGrantRequest,
        incoming: Incoming,
        until: float,
        stop: Callable[[], bool],
        trace_id: str,
    ) -> bytes | bytearray:
        """Fetch what is missing, with a new grant after each break; what came before it counts.

        While bytes come, the time is not over: `until` is when to give up without any.
        """
        loop = asyncio.get_running_loop()
        pauses = self._asker.pauses()
        while not incoming.is_right():
            before = incoming.place
            answer = await self._asker.insist(
                _verb(request), request, until=until, trace_id=trace_id, passing=OPEN_SOON
            )
            if answer.refusal is not None:
                raise refused(answer.refusal)
            try:
                if answer.grant is None:
                    raise StoreAway("the answer to a grant request holds no grant")
                get = partial(self._blobs.get, answer.grant, incoming)
                return await _threads.Stoppable(stop).run(get)
            except StoreAway as error:
                if incoming.place > before:
                    pauses = self._asker.pauses()
                    until = max(until, loop.time() + self._patience_s)
                if stop() or loop.time() >= until:
                    raise
                done = f"{incoming.place} of {incoming.size} bytes"
                log.warning(
                    "model %s…: %s; going on after %s", request.blob.digest[:12], error, done
                )
            await asyncio.sleep(next(pauses))
        return incoming.data

    def _keep(self, blob: BlobRef, data: bytes | bytearray, incoming: Incoming) -> None:
        incoming.close(synced=True)
        path = incoming.path if incoming.is_right() else None
        self._models.add(blob, data, path)


def _verb(request: GrantRequest | CommandGrantRequest) -> str:
    return "grant" if isinstance(request, GrantRequest) else "command_grant"


def _inline(text: str, blob: BlobRef) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadModel("the model in the message is not base64") from error
    if len(data) != blob.size or hashlib.sha256(data).hexdigest() != blob.digest:
        raise BadModel("the model in the message is not the one that its digest names")
    return data
