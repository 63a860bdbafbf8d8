"""Makes a bundle from the api's material in one pass: nothing but names and numbers is kept in memory."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from fedbus_core.audit.bundle import (
    INDEX,
    UNREADABLE,
    AbsentBlob,
    Index,
    Item,
    blob_name,
    head_name,
    log_name,
    update_name,
    write,
)
from fedbus_schemas import keys
from fedbus_schemas.codec import Unreadable, read
from fedbus_schemas.envelope import CloudEvent, Entry, Head, SignedHead
from fedbus_schemas.events import RoundCompleted, RoundOpened, SessionStarted
from fedbus_schemas.ids import PublicKey
from fedbus_schemas.models import BlobRef
from fedbus_schemas.sessions import ServerFunctions
from fedbus_schemas.sets import IncludedSet
from fedbus_schemas.updates import Manifest, StoredUpdate
from pydantic import ValidationError

from fedbus_auditor.api import Absence, FoundBlob, Stored
from fedbus_auditor.errors import ApiFailed


class Source(Protocol):
    """Where the material comes from; `api.Api` is one."""

    def trust(self) -> tuple[PublicKey, ...]: ...  # noqa: D102
    def log(self) -> Iterator[Stored]: ...  # noqa: D102
    def heads(self) -> Iterator[Stored]: ...  # noqa: D102
    def updates(self, round_number: int, attempt: int) -> Iterator[Stored]: ...  # noqa: D102
    def blob(self, key: str) -> AbstractContextManager[FoundBlob | Absence]: ...  # noqa: D102


def bundle(source: Source, project: str, session: str, *, models: bool = True) -> Iterator[bytes]:
    """Give the bytes of a session's bundle. Without `models` the derived ones are left out.

    Nothing is judged here: what looks wrong is exported as it is, for `verify` to say so.
    """
    try:
        yield from write(_Export(source, project, session, models=models).items())
    except ValueError as error:  # out of order, or a blob of another length than announced
        raise ApiFailed(f"what the api sent makes no bundle: {error}") from error


@dataclass
class _Export:
    source: Source
    project: str
    session: str
    models: bool
    entries: int = 0
    first_model: str = ""
    attempts: set[tuple[int, int]] = field(default_factory=set)
    inline: set[tuple[int, int, str]] = field(default_factory=set)
    wanted_models: dict[str, BlobRef] = field(default_factory=dict)
    wanted_sets: dict[str, BlobRef] = field(default_factory=dict)
    wanted_states: dict[str, BlobRef] = field(default_factory=dict)
    wanted_updates: dict[str, BlobRef] = field(default_factory=dict)
    code: dict[str, BlobRef] = field(default_factory=dict)
    absent: list[AbsentBlob] = field(default_factory=list)

    def items(self) -> Iterator[Item]:
        for line in self.source.log():
            self.entries += 1
            self._note_entry(line.data)
            yield _item(log_name(self.entries), line.data)
        if not self.entries:
            raise ApiFailed(f"session {self.project}/{self.session} has no log")
        yield from self._heads()
        for attempt in sorted(self.attempts):
            yield from self._updates(*attempt)
        yield from self._blobs()
        index = Index(
            project=self.project,
            session=self.session,
            entries=self.entries,
            absent=tuple(sorted(self.absent, key=lambda one: one.key)),
            trust=self.source.trust(),
        )
        yield _item(INDEX, index.to_bytes())

    def _note_entry(self, data: bytes) -> None:
        try:
            entry = read(Entry, data)
        except Unreadable:
            return
        for event in entry.events:
            with contextlib.suppress(ValidationError):
                self._note_event(event)

    def _note_event(self, event: CloudEvent) -> None:
        if event.type == SessionStarted.TYPE:
            started = SessionStarted.model_validate(event.data)
            self.first_model = keys.model(self.project, started.model.digest)
            self.wanted_models[self.first_model] = started.model
            self._note_functions(started.settings.functions)
        elif event.type == RoundOpened.TYPE:
            opened = RoundOpened.model_validate(event.data)
            self.attempts.add((opened.round, opened.attempt))
        elif event.type == RoundCompleted.TYPE:
            completed = RoundCompleted.model_validate(event.data)
            self.wanted_models[keys.model(self.project, completed.model.digest)] = completed.model
            set_key = keys.included_set(self.project, completed.included.digest)
            self.wanted_sets[set_key] = completed.included
            if completed.state is not None:
                state_key = keys.rule_state(self.project, completed.state.digest)
                self.wanted_states[state_key] = completed.state

    def _note_functions(self, functions: ServerFunctions | None) -> None:
        if functions is None:
            return
        self.code[keys.server_functions(self.project, functions.code.digest)] = functions.code
        if functions.makes_models:  # what a stranger's code made cannot be derived: it is an input
            self.models = True

    def _heads(self) -> Iterator[Item]:
        """Give the heads by number; one that was signed after the log was read is left for next time."""
        heads: dict[int, bytes] = {}
        for line in self.source.heads():
            try:
                number = read(Head, read(SignedHead, line.data).head).number
            except Unreadable as error:
                raise ApiFailed(f"a signed head cannot be read: {error}") from error
            heads.setdefault(number, line.data)
        for number in sorted(heads):
            if number <= self.entries:
                yield _item(head_name(number), heads[number])

    def _updates(self, number: int, attempt: int) -> Iterator[Item]:
        for line in sorted(self.source.updates(number, attempt), key=lambda line: line.sequence):
            client = UNREADABLE
            with contextlib.suppress(Unreadable):
                stored = read(StoredUpdate, line.data)
                client = read(Manifest, stored.manifest).client
                if stored.inline is not None:
                    self.inline.add((number, attempt, client))
            yield _item(update_name(number, attempt, line.sequence, client), line.data)

    def _blobs(self) -> Iterator[Item]:
        for key, ref in sorted(self.code.items()):
            yield from self._blob(key, ref)
        for key, ref in sorted(self.wanted_models.items()):
            yield from self._derived(key, ref, left_out=key != self.first_model)
        for key, ref in sorted(self.wanted_sets.items()):
            yield from self._set(key, ref)
        for key, ref in sorted(self.wanted_states.items()):
            yield from self._derived(key, ref, left_out=True)
        for key, ref in sorted(self.wanted_updates.items()):
            yield from self._blob(key, ref)

    def _derived(self, key: str, ref: BlobRef, *, left_out: bool) -> Iterator[Item]:
        """Give a blob that replay can make again, unless such are to be left out."""
        if self.models or not left_out:
            yield from self._blob(key, ref)
        else:
            self.absent.append(AbsentBlob(key=key, size=ref.size, why="left_out"))

    def _set(self, key: str, ref: BlobRef) -> Iterator[Item]:
        for item in self._blob(key, ref):
            data = b"".join(item.pieces)
            yield _item(item.name, data)
            with contextlib.suppress(Unreadable):
                self._note_set(read(IncludedSet, data))

    def _note_set(self, included: IncludedSet) -> None:
        for update in included.updates:
            if (included.round, included.attempt, update.client) not in self.inline:
                key = keys.update(self.project, update.client, update.update.digest)
                self.wanted_updates[key] = update.update

    def _blob(self, key: str, ref: BlobRef) -> Iterator[Item]:
        with self.source.blob(key) as found:
            if isinstance(found, FoundBlob):
                size = ref.size if found.size is None else found.size
                yield Item(blob_name(key), size, found.pieces)
            else:
                self.absent.append(AbsentBlob(key=key, size=ref.size, why=found))


def _item(name: str, data: bytes) -> Item:
    return Item(name, len(data), [data])
