"""Grants: presigned requests for exactly one blob, given only to those whose task needs it.

An upload in pieces has no state here: what the store holds says how far it is.
"""

from fedbus_core.rounds.admission import UPDATE_OVERHEAD_BYTES, admit_round
from fedbus_core.rounds.cohort import member
from fedbus_core.rounds.mail import models
from fedbus_core.rounds.state import Session
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.pieced_blobs import from_start, read_pieces, unfinished
from fedbus_runtime.ports import Blobs, Clock, Grants, SignedUrl
from fedbus_schemas import keys
from fedbus_schemas.asks import Answer, Grant, GrantRequest, PiecesGrant, PiecesRequest
from fedbus_schemas.ids import ProjectId, Sha256
from fedbus_schemas.models import BlobRef
from fedbus_schemas.pieces import Piece, piece_bytes_max, piece_bytes_min
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord

LIFETIME_S = 900
"""How long a grant is valid; a client whose transfer takes longer asks again and continues."""


class Granting:
    """Decides about grants and makes them."""

    def __init__(self, log: FoldedLog[Session], blobs: Blobs, grants: Grants, clock: Clock) -> None:
        self._log = log
        self._blobs = blobs
        self._grants = grants
        self._clock = clock

    async def grant(self, project: ProjectId, sender: ClientRecord, wanted: GrantRequest) -> Answer:
        """Answer a grant request that nothing is against. Raises `Away` when a server is."""
        if wanted.purpose == "download":
            return self.download(keys.model(project, wanted.blob.digest))
        if wanted.purpose == "package":
            return self.download(keys.package(project, wanted.blob.digest))
        return await self.upload(
            keys.update(project, sender.client, wanted.blob.digest), wanted.blob
        )

    async def upload(self, key: str, blob: BlobRef) -> Answer:
        """Grant the upload of a blob, and say whether it is there. Raises `StoreAway`."""
        exists = await self._blobs.size(key) == blob.size
        return Answer(grant=_grant(self._upload(key, blob), exists=exists))

    def download(self, key: str) -> Answer:
        """Grant the download of a blob."""
        return Answer(grant=_grant(self._grants.download(key, self._clock.now(), LIFETIME_S)))

    async def refuses(
        self, project: ProjectId, sender: ClientRecord, wanted: GrantRequest | PiecesRequest
    ) -> Refusal | None:
        """Give the reason why this may not be moved, or None. Asks the log only. Raises `Away`."""
        state = await self._log.newest(project, wanted.session)
        if isinstance(wanted, PiecesRequest):
            return _refuse_upload(state, sender, wanted) or _refuse_pieces(wanted)
        if wanted.purpose == "upload":
            return _refuse_upload(state, sender, wanted)
        return _refuse_download(state, sender, wanted)

    async def pieces(
        self, project: ProjectId, sender: ClientRecord, wanted: PiecesRequest
    ) -> Answer:
        """Answer a request about an upload in pieces that nothing is against. Raises `Away`."""
        prefix = keys.pieces(project, sender.client, wanted.blob.digest)
        size = wanted.blob.size
        if not wanted.pieces:
            row = from_start(read_pieces(await self._blobs.list(prefix)), size)
            return Answer(pieces=PiecesGrant(stored=row[-1].end if row else 0))
        uploads = [
            self._upload(keys.piece(prefix, size, one.start, one.size, one.digest), one)
            for one in wanted.pieces
        ]
        return Answer(pieces=PiecesGrant(grants=tuple(map(_grant, uploads))))

    async def forget(self, project: ProjectId, sender: ClientRecord, digest: Sha256) -> None:
        """Delete what is there of an upload that its client gave up. A whole update stays. Raises `Away`."""
        prefix = keys.pieces(project, sender.client, digest)
        pieces = [key for each in unfinished(await self._blobs.list(prefix)) for key in each]
        if pieces:
            await self._blobs.delete(pieces)

    def _upload(self, key: str, blob: BlobRef) -> SignedUrl:
        return self._grants.upload(key, blob.digest, blob.size, self._clock.now(), LIFETIME_S)


def _grant(signed: SignedUrl, *, exists: bool = False) -> Grant:
    return Grant.model_validate(
        {
            "method": signed.method,
            "url": signed.url,
            "headers": dict(signed.headers),
            "expires": signed.expires,
            "exists": exists,
        }
    )


def _refuse_download(
    state: Session | None, sender: ClientRecord, wanted: GrantRequest
) -> Refusal | None:
    blob, named = wanted.blob, {}
    if state is not None and wanted.purpose == "package":
        named = {state.package.digest: state.package.size} if state.package else {}
    elif state is not None:
        named = {one.digest: one.size for one in models(state)}
    if state is None or named.get(blob.digest) != blob.size:
        kind = "package" if wanted.purpose == "package" else "model"
        detail = f"{kind} {blob.digest} of {blob.size} bytes is in none of your open tasks"
        return Refusal(code=RefusalCode.BLOB_NOT_GRANTED, detail=detail)
    groups = (state.round, state.outcome)
    if not any(group and member(group.cohort, sender.client) for group in groups):
        detail = "you are in no round of this session"
        return Refusal(code=RefusalCode.NOT_IN_COHORT, detail=detail)
    return None


def _refuse_upload(
    state: Session | None, sender: ClientRecord, wanted: GrantRequest | PiecesRequest
) -> Refusal | None:
    refusal = admit_round(state, wanted.session, wanted.round, wanted.attempt)
    if refusal is not None:
        return refusal
    assert state is not None
    assert state.round is not None
    if member(state.round.cohort, sender.client) is None:
        return Refusal(code=RefusalCode.NOT_IN_COHORT, detail=f"round {wanted.round}")
    size_max = state.round.model.size + UPDATE_OVERHEAD_BYTES
    if wanted.blob.size > size_max:
        detail = f"update of {wanted.blob.size} bytes, at most {size_max}"
        return Refusal(code=RefusalCode.TOO_LARGE, detail=detail)
    return None


def _refuse_pieces(wanted: PiecesRequest) -> Refusal | None:
    """Bound how many pieces an update has and how large each is."""
    size = wanted.blob.size
    least, most = piece_bytes_min(size), piece_bytes_max(size)
    for piece in wanted.pieces:
        end = piece.start + piece.size
        if end > size or piece.size > most or (piece.size < least and end < size) or not piece.size:
            detail = f"a piece of {_told(piece)} of {size} bytes; they have {least} to {most}"
            return Refusal(code=RefusalCode.INVALID, detail=detail)
    return None


def _told(piece: Piece) -> str:
    return f"{piece.size} bytes from {piece.start} on"
