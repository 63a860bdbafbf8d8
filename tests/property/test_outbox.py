"""The outbox against a plain Python model: whatever is done in whatever order, both hold the same."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from fedbus._outbox import RECORD_OVERHEAD_BYTES, Batch, Outbox
from fedbus.priorities import CLASSES, DEFAULT, PriorityClass
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

RECORDS_MAX = 12
BYTES_MAX = 4_000
CAMERA = PriorityClass(name="camera", priority=50, order="lifo", drop_after_s=60)


@dataclass
class Kept:
    """A record of the model."""

    number: int
    name: str
    logged: float
    since: float
    size: int
    batch: int | None = None


class Model:
    """What the outbox promises, in the plainest words."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.records: list[Kept] = []
        self.numbers = self.batches = self.dropped = 0
        self.classes = {one.name: one for one in CLASSES}

    def class_of(self, record: Kept) -> PriorityClass:
        return self.classes.get(record.name, self.classes[DEFAULT])

    def waiting(self) -> list[Kept]:
        return [one for one in self.records if one.batch is None]

    def out(self) -> list[Kept]:
        return [one for one in self.records if one.batch is not None]

    def put(self, name: str, size: int) -> None:
        self.numbers += 1
        self.records.append(Kept(self.numbers, name, self.now, self.now, size))
        if self.over():
            self.decay()
        while self.over() and self.waiting():
            lowest = min(
                self.waiting(), key=lambda one: (self.class_of(one).priority, one.name, one.number)
            )
            self.records.remove(lowest)
            self.dropped += 1

    def over(self) -> bool:
        return len(self.records) > RECORDS_MAX or sum(one.size for one in self.records) > BYTES_MAX

    def decay(self) -> None:
        for each in sorted(self.classes.values(), key=lambda one: (-one.priority, one.name)):
            after_s = each.demote_after_s or each.drop_after_s
            if after_s is None:
                continue
            for one in self.waiting():
                if one.name == each.name and one.since <= self.now - after_s:
                    if each.drop_after_s is not None:
                        self.records.remove(one)
                        self.dropped += 1
                    else:
                        one.name, one.since = each.demote_to, self.now

    def take(self, most: int) -> list[int]:
        if self.out():
            return [one.number for one in sorted(self.out(), key=lambda one: one.batch or 0)]
        self.decay()

        def place(one: Kept) -> tuple[int, str, int]:
            each = self.class_of(one)
            newest_first = -1 if each.order == "lifo" else 1
            return (-each.priority, each.name, newest_first * one.number)

        chosen = sorted(self.waiting(), key=place)[:most]
        for index, one in enumerate(chosen, 1):
            one.batch = index
        self.batches += bool(chosen)
        return [one.number for one in chosen]


class OutboxMachine(RuleBasedStateMachine):
    """Does the same to both."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.folder: Path | None = None
        self.batch: Batch | None = None

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk: bool) -> None:
        self.folder = Path(tempfile.mkdtemp()) if on_disk else None
        self.outbox = self.opened()
        self.stream = self.outbox.stream

    def opened(self) -> Outbox:
        return Outbox(
            None if self.folder is None else self.folder / "outbox.db",
            RECORDS_MAX,
            BYTES_MAX,
            clock=lambda: self.model.now,
        )

    def teardown(self) -> None:
        self.outbox.close()
        if self.folder is not None:
            shutil.rmtree(self.folder)

    @rule(data=st.data(), length=st.integers(1, 900))
    def put(self, data: st.DataObject, length: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.classes)))
        content = b'"x":"%b"}' % (b"x" * length)
        assert self.outbox.put(name, content)
        self.model.put(name, len(content) + RECORD_OVERHEAD_BYTES)

    @rule(seconds=st.sampled_from([1, 50, 200, 400]))
    def wait(self, seconds: float) -> None:
        self.model.now += seconds

    @rule(most=st.integers(1, 8))
    def take(self, most: int) -> None:
        self.batch = self.outbox.take(most)
        wanted = self.model.take(most)
        assert (self.batch is None) is (not wanted)
        if self.batch is None:
            return
        sent = json.loads(self.batch.content)
        assert [one["number"] for one in sent["records"]] == wanted
        assert self.batch.count == len(wanted)
        assert sent["batch"] == self.batch.number == self.model.batches
        assert sent["stream"] == self.stream

    @precondition(lambda self: self.batch is not None)
    @rule(how=st.sampled_from(["acknowledge", "drop", "dissolve"]))
    def answer(self, how: str) -> None:
        assert self.batch is not None
        getattr(self.outbox, how)(self.batch)
        for one in self.model.out():
            if how == "dissolve":
                one.batch = None
            else:
                self.model.records.remove(one)
                self.model.dropped += how == "drop"
        self.batch = None

    @rule()
    def change_classes(self) -> None:
        if CAMERA.name in self.model.classes:
            del self.model.classes[CAMERA.name]
            self.outbox.change_classes(lambda classes: classes.remove(CAMERA.name))
        else:
            self.model.classes[CAMERA.name] = CAMERA
            self.outbox.change_classes(lambda classes: classes.add(CAMERA))

    @precondition(lambda self: self.folder is not None)
    @rule(synced=st.booleans())
    def start_anew(self, synced: bool) -> None:
        if synced:
            self.outbox.sync()
        self.outbox.close()
        self.outbox = self.opened()
        assert self.outbox.stream == self.stream
        if CAMERA.name in self.model.classes:
            self.outbox.change_classes(lambda classes: classes.add(CAMERA))

    @invariant()
    def both_hold_the_same(self) -> None:
        if not hasattr(self, "outbox"):
            return
        waiting = self.outbox.waiting()
        records = self.model.records
        assert waiting.total == len(records)
        assert waiting.bytes == sum(one.size for one in records)
        assert waiting.dropped == self.model.dropped
        oldest = min(records, key=lambda one: one.number, default=None)
        assert waiting.oldest_age_s == (0.0 if oldest is None else self.model.now - oldest.logged)


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestOutbox = pytest.mark.timeout(240)(TestOutbox)
