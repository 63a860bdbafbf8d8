"""Dead letters: list them, say which of them hold up a session, have them delivered again, drop them.

The api delivers nothing itself: it hands an order to the controllers and waits, for a bounded time, until
the letter is gone. What was done is kept in NOTES before the letter goes.
"""

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass

from fedbus_runtime.ports import Clock, StoredMessage, Streams
from fedbus_schemas import dead_letters, subjects
from fedbus_schemas.codec import read
from fedbus_schemas.dead_letters import LetterFate, LetterNote, Redo
from fedbus_schemas.ids import ProjectId, SessionId
from fedbus_schemas.refusals import MEANING, RefusalCode
from fedbus_schemas.streams import DEAD, NOTES
from fedbus_schemas.views import DeadLetterView, LetterOutcomeView, StuckView

from fedbus_api.documents import SessionDocument
from fedbus_api.problems import Problem

LOOKED_AT_MAX = 10_000
"""How many sequences of the stream a list looks back over."""
LOOK_INTERVAL_S = 0.05
_MEANINGS: dict[str, str] = {
    **{code.value: text for code, text in MEANING.items()},
    **dead_letters.MEANINGS,
}


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Reads DEAD, and gives orders about it."""

    streams: Streams
    clock: Clock
    wait_s: float

    async def letters(self, project: ProjectId) -> list[DeadLetterView]:
        """Give the newest letters, `LOOKED_AT_MAX` sequences far back."""
        everything = subjects.all_dead(project)
        newest = await self.streams.last(DEAD, everything)
        if newest is None:
            return []
        after = max(0, newest.sequence - LOOKED_AT_MAX)
        return [view_of(one) for one in await self.streams.read(DEAD, everything, after=after)]

    async def count(self, project: ProjectId) -> int:
        """Count a project's letters."""
        return sum((await self.streams.subjects(DEAD, subjects.all_dead(project))).values())

    async def one(self, project: ProjectId, sequence: int) -> DeadLetterView:
        """Show a letter with its content. Raises `Problem`."""
        letter = await self._find(project, sequence)
        if letter is None:
            raise Problem(RefusalCode.NOT_FOUND, f"dead letter {sequence} in project {project}")
        data = base64.b64encode(letter.data).decode()
        return view_of(letter).model_copy(update={"data": data})

    async def stuck(self, document: SessionDocument) -> StuckView | None:
        """Say which letter holds up a session: something that it waits for, younger than its last entry."""
        if document.phase.value in _ENDS:
            return None
        keys = list(_waited_for(document.project, document.session))
        letters = await self.streams.latest(DEAD, keys)
        younger = [one for one in letters if one.time >= document.updated]
        if not younger:
            return None
        view = view_of(younger[-1])
        return StuckView(
            dead_letter=view.sequence,
            stream=view.stream,
            subject=view.subject,
            code=view.code,
            detail=view.detail,
            since=view.time,
        )

    async def retry(self, project: ProjectId, sequence: int, by: str) -> LetterOutcomeView:
        """Have a letter delivered again; once, however often this is asked. Raises `Problem`."""
        letter = await self._find(project, sequence)
        if letter is None:
            return await self._outcome(project, sequence, LetterFate.RETRIED)
        session = subjects.token(letter.subject, 5)
        order = Redo(letter=sequence, by=by)
        await self.streams.append(subjects.redo(project, session), order.to_bytes())
        end = self.clock.monotonic() + self.wait_s
        while await self._find(project, sequence) is not None:
            if self.clock.monotonic() > end:
                detail = (
                    f"dead letter {sequence}: no controller delivered it within {self.wait_s:g} s; "
                    "the order is stored and will be carried out"
                )
                raise Problem(RefusalCode.RETRY_LATER, detail)
            await asyncio.sleep(LOOK_INTERVAL_S)
        return await self._outcome(project, sequence, LetterFate.RETRIED)

    async def drop(self, project: ProjectId, sequence: int, by: str) -> LetterOutcomeView:
        """Drop a letter for good. Raises `Problem`."""
        letter = await self._find(project, sequence)
        if letter is not None:
            note = _note(letter, LetterFate.DROPPED, by)
            subject = subjects.dead_note(project, sequence, note.fate)
            await self.streams.append(subject, note.to_bytes(), message_id=subject)
            await self.streams.delete(DEAD, sequence)
        return await self._outcome(project, sequence, LetterFate.DROPPED)

    async def _find(self, project: ProjectId, sequence: int) -> StoredMessage | None:
        everything = subjects.all_dead(project)
        found = await self.streams.read(DEAD, everything, after=sequence - 1, limit=1)
        return found[0] if found and found[0].sequence == sequence else None

    async def _outcome(
        self, project: ProjectId, sequence: int, wanted: LetterFate
    ) -> LetterOutcomeView:
        """Tell what became of a letter that is gone. Raises `Problem` when that is something else."""
        kept = await self.streams.last(NOTES, subjects.dead_note(project, sequence))
        if kept is None:
            raise Problem(RefusalCode.NOT_FOUND, f"dead letter {sequence} in project {project}")
        note = read(LetterNote, kept.data)
        if note.fate is not wanted:
            raise Problem(RefusalCode.NOT_POSSIBLE_NOW, f"dead letter {sequence} was {note.fate}")
        return LetterOutcomeView(sequence=sequence, fate=note.fate, time=kept.time, by=note.by)


_ENDS = frozenset({"completed", "stopped", "failed"})


def _waited_for(project: ProjectId, session: SessionId) -> Iterator[str]:
    """Name the letters without which a session stands still: its work, results, deadline, effects."""
    yield subjects.dead("WORK", subjects.work(project, session, "finish"))
    yield subjects.dead("INBOX", subjects.result(project, session))
    yield subjects.dead("INBOX", subjects.deadline(project, session))
    yield subjects.dead("EVENTS", subjects.event(project, session))


def view_of(letter: StoredMessage) -> DeadLetterView:
    """Show a letter without its content."""
    stream, subject = subjects.buried(letter.subject)
    tokens = subject.split(".")
    code = letter.headers.get(dead_letters.CODE, "")
    return DeadLetterView(
        sequence=letter.sequence,
        time=letter.time,
        stream=stream,
        subject=subject,
        session=tokens[3] if len(tokens) > 3 else None,
        code=code,
        detail=letter.headers.get(dead_letters.DETAIL, ""),
        meaning=_MEANINGS.get(code, ""),
        deliveries=_number(letter, dead_letters.DELIVERIES),
        original_sequence=_number(letter, dead_letters.SEQUENCE),
        size=len(letter.data),
    )


def _number(letter: StoredMessage, name: str) -> int:
    text = letter.headers.get(name, "0")
    return int(text) if text.isdecimal() else 0


def _note(letter: StoredMessage, fate: LetterFate, by: str) -> LetterNote:
    view = view_of(letter)
    return LetterNote(
        letter=view.sequence,
        fate=fate,
        by=by,
        stream=view.stream,
        subject=view.subject,
        code=view.code,
        detail=view.detail,
        buried=view.time,
    )
