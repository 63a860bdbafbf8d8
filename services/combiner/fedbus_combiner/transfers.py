"""Back-pressure: so many transfers and bytes of a project may be under way, over all combiners together.

A grant takes a place, and gives it back when the update is submitted or the client says that it is done.
Who finds no place is told to come again, later the more are waiting. A place is a lease in Redis, so
what a dead client held is free again by itself; a transfer that takes longer than its lease goes on and
no longer counts.
"""

from collections.abc import Awaitable, Callable

import structlog
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import Clock, TransferLimits, Transfers
from fedbus_schemas.asks import Answer, GrantRequest, Noted, PiecesRequest, TransferDone
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.ids import ClientId, ProjectId
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord
from fedbus_schemas.updates import Manifest, Submission

TURN_S = 0.25
"""About how long a transfer takes; whoever waits asks again when those before it may be through."""
RETRY_AFTER_MAX_S = 5.0

_RIDES_ALONG = b'"inline":"'
_log = structlog.get_logger(__name__)

Handler = Callable[[ProjectId, ClientRecord, bytes], Awaitable[Answer]]
Judge = Callable[[ProjectId, ClientRecord, GrantRequest | PiecesRequest], Awaitable[Refusal | None]]


class Places:
    """Lets grants pass as long as there are places."""

    def __init__(self, transfers: Transfers, limits: TransferLimits, clock: Clock) -> None:
        self._transfers = transfers
        self._limits = limits
        self._clock = clock

    def for_grants(self, grant: Handler, refuses: Judge) -> Handler:
        """Give a handler of grant requests that needs a place for each transfer.

        What `refuses` refuses takes none, not for a moment: a claimed size must not hold up the others.
        """

        async def gated(project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
            wanted = _wanted(data)
            if wanted is None:
                return await grant(project, sender, data)
            refusal = await refuses(project, sender, wanted)
            if refusal is not None:
                return Answer(refusal=refusal)
            name = _name(sender.client, wanted.blob.digest)
            waiting = await self._transfers.take(
                project, name, wanted.blob.size, self._limits, self._clock.now()
            )
            if waiting:
                return Answer(refusal=self._full(waiting))
            answer = await grant(project, sender, data)
            if not _begins(answer):
                await self._release(project, name)
            return answer

        return gated

    def for_submissions(self, submit: Handler) -> Handler:
        """Give a handler of submissions that ends the update's transfer first."""

        async def ending(project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
            digest = _submitted(data)
            if digest is not None:
                await self._release(project, _name(sender.client, digest))
            return await submit(project, sender, data)

        return ending

    async def done(self, project: ProjectId, sender: ClientRecord, data: bytes) -> Answer:
        """Take a client's word that a transfer is over. Raises `Away`."""
        try:
            over = read(TransferDone, data)
        except Unreadable as error:
            return Answer.refused(RefusalCode.UNREADABLE, str(error))
        await self._transfers.release(project, _name(sender.client, over.blob))
        return Answer(noted=Noted())

    async def _release(self, project: ProjectId, name: str) -> None:
        """Give a place back beside something else, which does not fail for it: the lease ends by itself."""
        try:
            await self._transfers.release(project, name)
        except RecordsAway as away:
            _log.debug("transfer.unreleased", why=str(away))

    def _full(self, waiting: int) -> Refusal:
        turns = 1 + waiting / self._limits.transfers
        detail = f"{self._limits.transfers} transfers or {self._limits.bytes} bytes are under way"
        after_s = min(RETRY_AFTER_MAX_S, turns * TURN_S)
        return Refusal(code=RefusalCode.RETRY_LATER, detail=detail, retry_after_s=after_s)


def _begins(answer: Answer) -> bool:
    if answer.pieces is not None:
        return bool(answer.pieces.grants)
    return answer.grant is not None and not answer.grant.exists


def _wanted(data: bytes) -> GrantRequest | PiecesRequest | None:
    """Read what is to be moved; None when nothing is, or it cannot be read (its handler says so)."""
    kinds: tuple[type[GrantRequest | PiecesRequest], ...] = (GrantRequest, PiecesRequest)
    for kind in kinds:
        try:
            wanted = read(kind, data)
        except Unreadable:
            continue
        asks_only = isinstance(wanted, PiecesRequest) and not wanted.pieces
        return None if asks_only else wanted
    return None


def _submitted(data: bytes) -> str | None:
    """Give the digest of an update that rode apart; None when it rides along or cannot be read."""
    if _RIDES_ALONG in data:
        return None
    try:
        submission = read(Submission, data)
        return read(Manifest, submission.manifest).update.digest
    except Unreadable:
        return None


def _name(client: ClientId, digest: str) -> str:
    return f"{client}.{digest}"
