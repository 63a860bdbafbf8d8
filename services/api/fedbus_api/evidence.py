"""Which blobs a session's log names, and whether a rule has deleted them."""

from collections.abc import Iterable
from contextlib import aclosing
from enum import StrEnum

from fedbus_runtime.paging import in_pages
from fedbus_runtime.ports import StoredMessage, Streams
from fedbus_schemas import subjects
from fedbus_schemas.codec import Unreadable
from fedbus_schemas.ids import ClientId, Sha256
from fedbus_schemas.streams import UPDATES
from pydantic import ValidationError

from fedbus_api.documents import Attempt, RoundDocument, SessionDocument
from fedbus_api.live import manifest
from fedbus_api.reading import Reader

UPDATES_AT_ONCE = 500


class Claim(StrEnum):
    """What a session's log says of a blob."""

    NONE = "none"
    KEPT = "kept"
    PRUNED = "pruned"


class Evidence:
    """Looks blobs up in a session's log and among its stored updates."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        self._streams = streams
        self._reader = reader

    async def claim(self, document: SessionDocument, key: str) -> Claim:
        """Say what the log says of the blob with this key under the project."""
        kind, *_, digest = key.split("/")
        functions = document.settings.functions
        if kind == "functions":
            is_named = functions is not None and functions.code.digest == digest
            return Claim.KEPT if is_named else Claim.NONE
        rounds = await self._rounds(document)
        if kind != "updates":
            named = {digest for one in rounds for digest in _named(kind, one.attempts)}
            if kind == "models":
                named.add(document.initial.digest)
            return Claim.KEPT if digest in named else Claim.NONE
        client = key.split("/")[1]
        if await self._is_stored(document, client, digest):
            return Claim.KEPT
        gone = document.archived is not None
        asked = any(
            client in attempt.cohort and (gone or attempt.pruned)
            for one in rounds
            for attempt in one.attempts
        )
        return Claim.PRUNED if asked else Claim.NONE

    async def _rounds(self, document: SessionDocument) -> list[RoundDocument]:
        last = document.latest.number if document.latest is not None else 0
        return await self._reader.rounds(document, range(1, last + 1))

    async def _is_stored(self, document: SessionDocument, client: ClientId, digest: Sha256) -> bool:
        subject = subjects.update(document.project, document.session, "*", client, "*")
        pages = in_pages(self._streams, UPDATES, subject, at_once=UPDATES_AT_ONCE)
        async with aclosing(pages) as stored:
            async for message in stored:
                if _update(message) == digest:
                    return True
        return False


def _named(kind: str, attempts: Iterable[Attempt]) -> set[Sha256]:
    """Give the blobs of a kind that attempts name."""
    found = set()
    for attempt in attempts:
        refs = {"models": attempt.model, "sets": attempt.included, "states": attempt.state}
        ref = refs[kind]
        if ref is not None:
            found.add(ref.digest)
    return found


def _update(message: StoredMessage) -> Sha256 | None:
    try:
        return manifest(message).update.digest
    except (Unreadable, ValidationError):
        return None
