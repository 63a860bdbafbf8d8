"""Brings an update's file into the object store: in one, or in pieces that a broken link cannot undo."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from fedbus_schemas.asks import Answer, Grant, GrantRequest, PiecesRequest
from fedbus_schemas.pieces import PIECES_ASKED_MAX, Piece, piece_bytes_max, piece_bytes_min
from fedbus_schemas.refusals import Refusal

from fedbus import _content, _threads
from fedbus._asking import OPEN_SOON, PASSING, Asker
from fedbus._blobs import LinkBroke, Store
from fedbus._content import Content
from fedbus._link import Link
from fedbus._updates import Update
from fedbus.errors import BusAway, StoreAway

log = logging.getLogger("fedbus")

GRANT_AGE_MAX_S = 300.0
"""Grants that are older are asked for anew, rather than to learn after a piece that they were too old."""


@dataclass(slots=True)
class Upload:
    """An upload under way: how far it is, until when to go on without progress."""

    update: Update
    content: Content
    until: float
    trace_id: str
    place: int = 0
    transfer: _threads.Stoppable = field(default_factory=_threads.Stoppable)
    """What is on the link now, or was last."""


class Uploader:
    """Uploads, one try at a time. Each try goes on where the store says that the last one ended."""

    def __init__(self, asker: Asker, blobs: Store, link: Link) -> None:
        self._asker = asker
        self._blobs = blobs
        self._link = link

    async def upload(self, upload: Upload) -> Refusal | None:
        """Upload what is missing. Raises `Away`, and `ContentGone`."""
        if upload.update.blob.size <= self._link.whole_bytes_max:
            return await self._whole(upload)
        return await self._in_pieces(upload)

    async def _whole(self, upload: Upload) -> Refusal | None:
        key, blob = upload.update.key, upload.update.blob
        request = GrantRequest(
            purpose="upload",
            session=key.session,
            round=key.round,
            attempt=key.attempt,
            blob=blob,
        )
        answer = await self._ask("grant", request, upload)
        if answer.refusal is not None:
            return answer.refusal
        grant = answer.grant
        if grant is None:
            raise StoreAway("the answer to a grant request holds no grant")
        if not grant.exists:
            await self._put(grant, upload, upload.content)
        return None

    async def _in_pieces(self, upload: Upload) -> Refusal | None:
        size = upload.update.blob.size
        refusal = await self._look(upload)
        if refusal is not None or upload.place == size:
            return refusal
        while upload.place < size:
            refusal = await self._next_pieces(upload)
            if refusal is not None:
                return refusal
        refusal = await self._look(upload)
        if refusal is None and upload.place < size:
            raise StoreAway(f"the object store has lost what came after byte {upload.place}")
        return refusal

    async def _look(self, upload: Upload) -> Refusal | None:
        """Ask how much is there; at the end that is the proof that all of it is."""
        answer = await self._ask("pieces", _asking_for(upload.update, ()), upload)
        if answer.refusal is not None:
            return answer.refusal
        if answer.pieces is None or answer.pieces.stored is None:
            raise StoreAway("the answer does not say how much of the update is there")
        if answer.pieces.stored and not upload.place:
            log.info("%s: %d bytes are there already", upload.update.key, answer.pieces.stored)
        upload.place = answer.pieces.stored
        return None

    async def _next_pieces(self, upload: Upload) -> Refusal | None:
        pieces = await _threads.run(lambda: self._cut(upload), "fedbus-transfer")
        answer = await self._ask("pieces", _asking_for(upload.update, pieces), upload)
        if answer.refusal is not None:
            return answer.refusal
        grants = () if answer.pieces is None else answer.pieces.grants
        if len(grants) != len(pieces):
            raise StoreAway("the answer does not hold a grant for each piece")
        loop = asyncio.get_running_loop()
        asked = loop.time()
        for piece, grant in zip(pieces, grants, strict=True):
            if loop.time() - asked > GRANT_AGE_MAX_S:
                return None
            part = _content.part_of(upload.content, piece.start, piece.size)
            await self._put(grant, upload, part)
            self._link.carried()
            upload.place = piece.start + piece.size
        return None

    async def _put(self, grant: Grant, upload: Upload, content: Content) -> None:
        upload.transfer = _threads.Stoppable()
        try:
            await upload.transfer.run(partial(self._blobs.put, grant, content))
        except LinkBroke:
            self._link.broke(_content.size_of(content))
            raise

    def _cut(self, upload: Upload) -> list[Piece]:
        size, place = upload.update.blob.size, upload.place
        least, most = piece_bytes_min(size), piece_bytes_max(size)
        pieces = []
        for length in self._link.lengths(size - place, least, most, PIECES_ASKED_MAX):
            part = _content.part_of(upload.content, place, length)
            pieces.append(Piece(digest=_content.digest_of(part), size=length, start=place))
            place += length
        return pieces

    async def _ask(
        self, verb: str, request: GrantRequest | PiecesRequest, upload: Upload
    ) -> Answer:
        answer = await self._asker.insist(
            verb, request, until=upload.until, trace_id=upload.trace_id, passing=OPEN_SOON
        )
        if answer.refusal is not None and answer.refusal.code in PASSING:
            raise BusAway("the servers gave no grant in the time there was")
        return answer


def _asking_for(update: Update, pieces: Sequence[Piece]) -> PiecesRequest:
    return PiecesRequest(
        session=update.key.session,
        round=update.key.round,
        attempt=update.key.attempt,
        blob=update.blob,
        pieces=tuple(pieces),
    )
