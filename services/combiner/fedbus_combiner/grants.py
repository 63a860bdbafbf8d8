"""Grants: presigned requests for exactly one blob, given only to those whose task needs it."""

from fedbus_core.rounds.admission import UPDATE_OVERHEAD_BYTES, admit_round
from fedbus_core.rounds.cohort import member
from fedbus_core.rounds.mail import models
from fedbus_core.rounds.state import Session
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import Blobs, Clock, Grants
from fedbus_schemas import keys
from fedbus_schemas.asks import Answer, Grant, GrantRequest
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ProjectId
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

    async def grant(self, project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
        """Answer a grant request. Raises `Away` when a server is."""
        try:
            wanted = read(GrantRequest, data)
        except Unreadable as error:
            return Answer(refusal=Refusal(code=RefusalCode.UNREADABLE, detail=str(error)))
        state = await self._log.newest(project, wanted.session)
        if wanted.purpose == "download":
            return self._download(project, state, sender, wanted)
        refusal = _refuse_upload(state, sender, wanted)
        if refusal is not None:
            return Answer(refusal=refusal)
        key = keys.update(project, sender.client, wanted.blob.digest)
        exists = await self._blobs.size(key) == wanted.blob.size
        signed = self._grants.upload(
            key, wanted.blob.digest, wanted.blob.size, self._clock.now(), LIFETIME_S
        )
        return Answer(
            grant=Grant(
                method="PUT",
                url=signed.url,
                headers=dict(signed.headers),
                expires=signed.expires,
                exists=exists,
            )
        )

    def _download(
        self,
        project: ProjectId,
        state: Session | None,
        sender: ClientRecord,
        wanted: GrantRequest,
    ) -> Answer:
        digest = wanted.blob.digest
        if state is None or digest not in {one.digest for one in models(state)}:
            detail = f"model {digest} is in none of your open tasks"
            return Answer(refusal=Refusal(code=RefusalCode.BLOB_NOT_GRANTED, detail=detail))
        groups = (state.round, state.outcome)
        if not any(group and member(group.cohort, sender.client) for group in groups):
            detail = "you are in no round of this session"
            return Answer(refusal=Refusal(code=RefusalCode.NOT_IN_COHORT, detail=detail))
        signed = self._grants.download(keys.model(project, digest), self._clock.now(), LIFETIME_S)
        return Answer(
            grant=Grant(
                method="GET",
                url=signed.url,
                headers=dict(signed.headers),
                expires=signed.expires,
            )
        )


def _refuse_upload(
    state: Session | None, sender: ClientRecord, wanted: GrantRequest
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
