"""Reads stored updates: which there are for an attempt, and the bytes of each, checked against its manifest."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from fedbus_runtime.errors import BlobCorrupt, BlobMissing
from fedbus_runtime.ports import Blobs, RoundKey, StoredMessage, Streams
from fedbus_schemas import keys, subjects
from fedbus_schemas.codec import read
from fedbus_schemas.events import RefusedUpdate
from fedbus_schemas.ids import ClientId
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.updates import Manifest, StoredUpdate


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored update: where it lies, what its client says of it, and the bytes if they came along."""

    client: ClientId
    sequence: int
    stored: StoredUpdate
    manifest: Manifest


class Updates:
    """The stored updates of any attempt."""

    def __init__(self, streams: Streams, blobs: Blobs) -> None:
        self._streams = streams
        self._blobs = blobs

    async def up_to(
        self, key: RoundKey, cohort: Sequence[ClientId], cutoff: int
    ) -> dict[ClientId, Candidate]:
        """Give the candidates: all that was stored up to the cut-off, by client."""
        wanted = [
            subjects.update(key.project, key.session, key.round, client, key.attempt)
            for client in cohort
        ]
        stored = await self._streams.latest(UPDATES, wanted, up_to=cutoff)
        found = [_candidate(message) for message in stored]
        return {one.client: one for one in found}

    async def content(
        self, key: RoundKey, candidate: Candidate
    ) -> bytes | bytearray | RefusedUpdate:
        """Give an update's bytes with the manifest's hash and length, or why there are none."""
        update = candidate.manifest.update
        if candidate.manifest.declined is not None:
            return _refuse(candidate, RefusalCode.DECLINED, f"rule {candidate.manifest.declined}")
        if candidate.stored.inline is not None:
            return base64.b64decode(candidate.stored.inline)  # its hash was checked at the door
        blob = keys.update(key.project, candidate.client, update.digest)
        try:
            data = await self._blobs.get(blob, update.size)
        except BlobMissing:
            return _refuse(candidate, RefusalCode.BLOB_MISSING, f"no blob {update.digest}")
        except BlobCorrupt as error:
            size = await self._blobs.size(blob)  # one that is too long is not read to its end
            if size == update.size:
                return _refuse(candidate, RefusalCode.HASH_MISMATCH, str(error))
        else:
            size = len(data)
            if size == update.size:
                return data
        detail = f"{size} bytes stored, {update.size} in the manifest"
        return _refuse(candidate, RefusalCode.SIZE_MISMATCH, detail)


def _candidate(message: StoredMessage) -> Candidate:
    stored = read(StoredUpdate, message.data)
    client = subjects.token(message.subject, 5)
    return Candidate(client, message.sequence, stored, stored.content())


def _refuse(candidate: Candidate, code: RefusalCode, detail: str) -> RefusedUpdate:
    return RefusedUpdate(client=candidate.client, code=code, detail=detail)
