"""Back-pressure: so many transfers and bytes of a project may be under way, over all combiners together.

A grant takes a place, and gives it back when the update is submitted or the client says that it is done.
Who finds no place is told to come again, later the more are waiting. A place is a lease in Redis, so
what a dead client held is free again by itself; a transfer that takes longer than its lease goes on and
no longer counts.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from fedbus_runtime import tracing
from fedbus_runtime.errors import RecordsAway
from fedbus_runtime.ports import Clock, RoundKey, TransferLimits, Transfers
from fedbus_schemas.asks import Answer, GrantRequest, Noted, PiecesRequest, TransferDone
from fedbus_schemas.ids import ClientId, ProjectId, Sha256
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.registry import ClientRecord

from fedbus_combiner.ingest import Submitted

TURN_S = 0.25
"""About how long a transfer takes; whoever waits asks again when those before it may be through."""
RETRY_AFTER_MAX_S = 5.0

_log = structlog.get_logger(__name__)

R = TypeVar("R", GrantRequest, PiecesRequest)

Judge = Callable[[ProjectId, ClientRecord, GrantRequest | PiecesRequest], Awaitable[Refusal | None]]
Submit = Callable[[ProjectId, ClientRecord, Submitted], Awaitable[Answer]]


class Places:
    """Lets grants pass as long as there are places."""

    def __init__(self, transfers: Transfers, limits: TransferLimits, clock: Clock) -> None:
        self._transfers = transfers
        self._limits = limits
        self._clock = clock

    def for_grants(
        self, grant: Callable[[ProjectId, ClientRecord, R], Awaitable[Answer]], refuses: Judge
    ) -> Callable[[ProjectId, ClientRecord, R], Awaitable[Answer]]:
        """Give a handler of grant requests that needs a place for each transfer.

        `grant` is asked only what `refuses` has nothing against. What `refuses` refuses takes no place,
        not for a moment: a claimed size must not hold up the others.
        """

        async def gated(project: ProjectId, sender: ClientRecord, wanted: R) -> Answer:
            key = RoundKey(project, wanted.session, wanted.round, wanted.attempt)
            tracing.about("grant", key, sender.client)
            refusal = await refuses(project, sender, wanted)
            if refusal is not None:
                return Answer(refusal=refusal)
            if isinstance(wanted, PiecesRequest) and not wanted.pieces:
                return await grant(project, sender, wanted)  # only asks how far it is
            name = _name(sender.client, wanted.blob.digest)
            waiting = await self._transfers.take(
                project, name, wanted.blob.size, self._limits, self._clock.now()
            )
            if waiting:
                return Answer(refusal=self._full(waiting))
            answer = await grant(project, sender, wanted)
            if not _begins(answer):
                await self._release(project, name)
            return answer

        return gated

    def for_submissions(self, submit: Submit) -> Submit:
        """Give a handler of submissions that ends the update's transfer first."""

        async def ending(project: ProjectId, sender: ClientRecord, given: Submitted) -> Answer:
            if given.submission.inline is None:
                digest = given.manifest.update.digest
                await self._release(project, _name(sender.client, digest))
            return await submit(project, sender, given)

        return ending

    def for_endings(
        self, forget: Callable[[ProjectId, ClientRecord, Sha256], Awaitable[None]]
    ) -> Callable[[ProjectId, ClientRecord, TransferDone], Awaitable[Answer]]:
        """Give a handler that takes the word that a transfer is over; `forget` drops what was given up."""

        async def done(project: ProjectId, sender: ClientRecord, over: TransferDone) -> Answer:
            await self._transfers.release(project, _name(sender.client, over.blob))
            if over.given_up:
                await forget(project, sender, over.blob)
            return Answer(noted=Noted())

        return done

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


def _name(client: ClientId, digest: str) -> str:
    return f"{client}.{digest}"
