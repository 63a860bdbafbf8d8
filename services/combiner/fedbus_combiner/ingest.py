"""Takes an update in: who sent it, is it theirs, does the round take it; then it is stored, once, for good.

The answer `stored` promises: kept, counted at most once. Whether it is counted, the receipt says later.
"""

import base64
import binascii
from dataclasses import dataclass

from fedbus_core.rounds.admission import admit
from fedbus_core.rounds.state import Session
from fedbus_runtime import metrics, tracing
from fedbus_runtime.errors import AlreadyStored
from fedbus_runtime.folded_log import FoldedLog
from fedbus_runtime.ports import RoundKey, Streams
from fedbus_runtime.signing_keys import verify
from fedbus_schemas import signing, subjects
from fedbus_schemas.asks import Answer, Stored
from fedbus_schemas.codec import digest, read
from fedbus_schemas.ids import ProjectId
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.streams import UPDATES
from fedbus_schemas.updates import Manifest, StoredUpdate, Submission

from fedbus_combiner.live_rounds import LiveRounds


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission, and what its manifest says."""

    submission: Submission
    manifest: Manifest


def read_submission(data: bytes) -> Submitted:
    """Read a submission with its manifest. Raises `Unreadable`."""
    submission = read(Submission, data)
    return Submitted(submission, read(Manifest, submission.manifest))


class Ingest:
    """The one writer of UPDATES."""

    def __init__(self, streams: Streams, rounds: LiveRounds, log: FoldedLog[Session]) -> None:
        self._streams = streams
        self._rounds = rounds
        self._log = log

    async def submit(self, project: ProjectId, sender: ClientRecord, given: Submitted) -> Answer:
        """Store a submission of an attested sender, or say why not. Raises `Away` when a server is."""
        submission, manifest = given.submission, given.manifest
        key = RoundKey(project, manifest.session, manifest.round, manifest.attempt)
        tracing.about("ingest", key, sender.client)
        answer = await self._judge(project, sender, submission, manifest)
        if answer.refusal is not None:
            metrics.UPDATES.add(code=answer.refusal.code.value)
        return answer

    async def _judge(
        self, project: ProjectId, sender: ClientRecord, submission: Submission, manifest: Manifest
    ) -> Answer:
        refusal = _check_sender(project, sender, submission, manifest)
        refusal = refusal or await self._check_round(manifest, submission)
        if refusal is not None and refusal.code is not RefusalCode.ROUND_CLOSED:
            return Answer(refusal=refusal)
        subject = subjects.update(
            project, manifest.session, manifest.round, manifest.client, manifest.attempt
        )
        if refusal is not None:
            # A resend after the round's end is answered with its first receipt, if it has one.
            return await self._stored_before(subject, manifest) or Answer(refusal=refusal)
        return await self._store(subject, submission, manifest)

    async def _check_round(self, manifest: Manifest, submission: Submission) -> Refusal | None:
        def judge(state: Session | None) -> Refusal | None:
            rides_along = submission.inline is not None
            return admit(state, manifest, submission.key, rides_along=rides_along)

        live = await self._rounds.get(manifest.project, manifest.session)
        if live is None:
            return Refusal(code=RefusalCode.SESSION_UNKNOWN, detail=f"session {manifest.session}")
        refusal = judge(self._log.cached(manifest.project, manifest.session))
        open_here = (live.round, live.attempt) == (manifest.round, manifest.attempt)
        if refusal is None and open_here and live.target:
            return None
        # What is cached or in Redis may be old: nobody is refused before the log itself was read.
        state = await self._log.newest(manifest.project, manifest.session)
        if state is not None and state.number > live.number:
            await self._rounds.rebuild(manifest.project, manifest.session)
        return judge(state)

    async def _store(self, subject: str, submission: Submission, manifest: Manifest) -> Answer:
        refusal = _check_inline(submission, manifest)
        if refusal is not None:
            return Answer(refusal=refusal)
        stored = StoredUpdate.model_construct(**dict(submission))
        try:
            sequence = await self._streams.append(subject, stored.to_bytes())
        except AlreadyStored:
            first = await self._stored_before(subject, manifest)
            if first is None:
                raise
            return first
        metrics.UPDATES.add(code="stored")
        metrics.UPDATE_BYTES.add(manifest.update.size)
        return _stored(manifest, sequence)

    async def _stored_before(self, subject: str, manifest: Manifest) -> Answer | None:
        first = await self._streams.last(UPDATES, subject)
        if first is None:
            return None
        kept = read(StoredUpdate, first.data).content()
        if kept.update.digest != manifest.update.digest or kept.weight != manifest.weight:
            detail = f"round {manifest.round}: {kept.update.digest} was stored first"
            return Answer.refused(RefusalCode.EQUIVOCATION, detail)
        return _stored(manifest, first.sequence)


def _check_sender(
    project: ProjectId, sender: ClientRecord, submission: Submission, manifest: Manifest
) -> Refusal | None:
    if manifest.project != project or manifest.client != sender.client:
        detail = f"sent by {sender.client}, the manifest names {manifest.client}"
        return Refusal(code=RefusalCode.NOT_YOURS, detail=detail)
    if submission.key != sender.key:
        return Refusal(code=RefusalCode.KEY_CHANGED, detail="not the key of the first hello")
    if not verify(submission.key, signing.MANIFEST, submission.manifest, submission.signature):
        return Refusal(code=RefusalCode.BAD_SIGNATURE, detail="of the manifest")
    return None


def _check_inline(submission: Submission, manifest: Manifest) -> Refusal | None:
    if submission.inline is None:
        return None
    try:
        content = base64.b64decode(submission.inline, validate=True)
    except binascii.Error:
        return Refusal(code=RefusalCode.UNREADABLE, detail="inline: not base64")
    if len(content) != manifest.update.size:
        detail = f"{len(content)} bytes inline, {manifest.update.size} in the manifest"
        return Refusal(code=RefusalCode.SIZE_MISMATCH, detail=detail)
    if digest(content) != manifest.update.digest:
        return Refusal(code=RefusalCode.HASH_MISMATCH, detail="of the inline update")
    return None


def _stored(manifest: Manifest, sequence: int) -> Answer:
    return Answer(
        stored=Stored(
            session=manifest.session,
            round=manifest.round,
            attempt=manifest.attempt,
            sequence=sequence,
            update=manifest.update.digest,
        )
    )
