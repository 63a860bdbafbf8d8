"""The client's state machine: what it promises, in any order of what may happen."""

from dataclasses import dataclass, field

import pytest
from fedbus._participant import (
    VALIDATIONS_MAX,
    Action,
    Cancel,
    Drop,
    Note,
    Participant,
    Send,
    Start,
    Tell,
    TrainJob,
    ValidateJob,
)
from fedbus._updates import Update, UpdateKey
from fedbus_schemas.asks import SessionReceipt
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.tasks import Fate, Mail, ModelToFetch, Receipt, TrainTask, ValidateTask
from fedbus_schemas.updates import ValidationReport
from hypothesis import given
from hypothesis import strategies as st

MODEL = ModelToFetch(digest="0" * 64, size=1)


def train(number: int, attempt: int = 1) -> TrainTask:
    return TrainTask(
        round=number,
        attempt=attempt,
        model=MODEL,
        settings={},
        seed=0,
        deadline="2030-01-01T00:00:00Z",
        weight_max=10,
        inline_bytes_max=0,
        trace_id="",
    )


def validate(number: int) -> ValidateTask:
    return ValidateTask(round=number, model=MODEL, settings={}, trace_id="")


def mail(number: int, *tasks: object, session: str = "s-1", receipts: object = ()) -> Mail:
    return Mail.model_validate(
        {
            "project": "demo",
            "session": session,
            "number": number,
            "device": "U" + "A" * 55,
            "client": "c" + "a" * 16,
            "tasks": tasks,
            "receipts": receipts,
        }
    )


def update(key: UpdateKey, content: bytes = b"update") -> Update:
    blob = BlobRef(digest="1" * 64, size=1)
    return Update(key=key, blob=blob, submission=content, rides_along=True)


def participant(kept_max: int = 8) -> Participant:
    return Participant(kept_max=kept_max, validates=True)


def started(actions: list[Action]) -> list[object]:
    return [action.job for action in actions if isinstance(action, Start)]


def quiet(actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, Note)]


KEY = UpdateKey("s-1", 1, 1)
JOB = TrainJob("s-1", train(1))


def test_a_train_task_runs_and_its_update_is_sent() -> None:
    one = participant()
    assert one.on_mail(mail(1, train(1))) == [Start(JOB)]
    assert one.on_trained(JOB, update(KEY)) == [Send(update(KEY))]
    assert [pending.round for pending in one.pending()] == [1]
    assert quiet(one.on_stored(KEY)) == []
    assert len(one.pending()) == 1
    counted = Receipt(round=1, attempt=1, fate=Fate.COUNTED)
    assert quiet(one.on_mail(mail(2, receipts=[counted]))) == [Drop(KEY)]
    assert one.pending() == ()


def test_mail_heard_twice_or_older_than_the_last_changes_nothing() -> None:
    one = participant()
    one.on_mail(mail(5, train(1)))
    assert one.on_mail(mail(5, train(1))) == []
    [note] = one.on_mail(mail(4))
    assert isinstance(note, Note)
    assert "old mail" in note.text


def test_a_newer_mail_without_the_task_withdraws_it() -> None:
    one = participant()
    one.on_mail(mail(1, train(1)))
    assert quiet(one.on_mail(mail(2))) == [Cancel(JOB)]
    assert quiet(one.on_mail(mail(3))) == []
    assert quiet(one.on_trained(JOB, update(KEY))) == [Drop(KEY)]
    assert one.pending() == ()


def test_another_session_withdraws_nothing() -> None:
    one = participant()
    one.on_mail(mail(1, train(1)))
    assert quiet(one.on_mail(mail(9, session="s-2"))) == []


def test_a_waiting_task_that_is_withdrawn_never_starts() -> None:
    one = participant()
    one.on_mail(mail(1, train(1)))
    one.on_mail(mail(1, train(1), session="s-2"))
    one.on_mail(mail(2, session="s-2"))
    assert started(one.on_trained(JOB, None)) == []


def test_train_comes_before_validate_in_one_mail_and_the_rest_waits_in_line() -> None:
    one = participant()
    first = ValidateJob("s-1", validate(1))
    assert started(one.on_mail(mail(1, validate(1), train(2)))) == [TrainJob("s-1", train(2))]
    one.on_mail(mail(2, validate(1), validate(2), train(3)))
    assert started(one.on_trained(TrainJob("s-1", train(2)), None)) == [first]
    report = ValidationReport(session="s-1", round=1, model="0" * 64, weight=1, metrics={})
    actions = one.on_validated(first, report)
    assert actions == [Tell(report), Start(TrainJob("s-1", train(3)))]


def test_a_validation_once_accepted_runs_though_newer_mail_lacks_it() -> None:
    one = participant()
    one.on_mail(mail(1, validate(1), train(2)))
    one.on_mail(mail(2))
    assert started(one.on_trained(TrainJob("s-1", train(2)), None)) == [
        ValidateJob("s-1", validate(1))
    ]


def test_too_many_validations_lose_the_oldest() -> None:
    one = participant()
    one.on_mail(mail(1, train(1)))
    notes = [
        note
        for number in range(1, VALIDATIONS_MAX + 2)
        for note in one.on_mail(mail(number + 1, train(1), validate(number)))
        if isinstance(note, Note)
    ]
    assert len(notes) == 1
    assert started(one.on_trained(JOB, None)) == [ValidateJob("s-1", validate(2))]


def test_without_a_validate_function_validations_are_not_taken() -> None:
    assert Participant(kept_max=1, validates=False).on_mail(mail(1, validate(1))) == []


def test_what_is_kept_is_sent_again_after_a_sync_but_not_twice_at_once() -> None:
    one = participant()
    one.on_mail(mail(1, train(1)))
    one.on_trained(JOB, update(KEY))
    assert one.on_synced([], []) == []  # it is being sent now
    one.on_unsent(KEY)
    assert one.on_synced([], []) == [Send(update(KEY))]
    one.on_stored(KEY)
    assert one.on_synced([mail(1, train(1))], []) == [Send(update(KEY), stored=True)]
    late = SessionReceipt(session="s-1", round=1, attempt=1, fate=Fate.LATE)
    assert quiet(one.on_synced([], [late])) == [Drop(KEY)]


def test_a_restored_update_is_sent_and_its_round_is_not_trained_again() -> None:
    one = participant()
    one.on_restored([update(KEY)])
    assert one.on_synced([mail(1, train(1))], []) == [Send(update(KEY))]


def test_a_refusal_for_good_drops_the_update_and_says_why() -> None:
    one = participant()
    one.on_mail(mail(1, train(1)))
    one.on_trained(JOB, update(KEY))
    note, drop = one.on_refused(KEY, Refusal(code=RefusalCode.ROUND_CLOSED))
    assert isinstance(note, Note)
    assert "round_closed" in note.text
    assert "take the next task" in note.text
    assert drop == Drop(KEY)


def test_a_closed_round_is_no_last_word_on_a_stored_update() -> None:
    one = participant()
    one.on_restored([update(KEY)])
    one.on_synced([], [])
    one.on_stored(KEY)
    one.on_synced([], [])
    assert one.on_refused(KEY, Refusal(code=RefusalCode.ROUND_CLOSED)) == []
    assert one.on_synced([], []) == [Send(update(KEY), stored=True)]
    assert one.on_stored(KEY) == []
    counted = SessionReceipt(session="s-1", round=1, attempt=1, fate=Fate.COUNTED)
    assert quiet(one.on_synced([], [counted])) == [Drop(KEY)]


def test_training_waits_while_too_many_updates_have_no_receipt() -> None:
    one = participant(kept_max=1)
    one.on_mail(mail(1, train(1)))
    one.on_trained(JOB, update(KEY))
    assert started(one.on_mail(mail(2, train(2)))) == []
    counted = Receipt(round=1, attempt=1, fate=Fate.COUNTED)
    actions = one.on_mail(mail(3, train(2), receipts=[counted]))
    assert quiet(actions) == [Drop(KEY), Start(TrainJob("s-1", train(2)))]


@pytest.mark.parametrize("fate", list(Fate))
def test_every_fate_is_told_in_a_line(fate: Fate) -> None:
    one = participant()
    one.on_restored([update(KEY)])
    refusal = Refusal(code=RefusalCode.NOT_FINITE, detail="w") if fate == Fate.REFUSED else None
    receipt = Receipt(round=1, attempt=1, fate=fate, refusal=refusal)
    note, drop = one.on_mail(mail(1, receipts=[receipt]))
    assert isinstance(note, Note)
    assert "s-1 round 1.1" in note.text
    assert drop == Drop(KEY)


@dataclass
class Watched:
    """Carries out actions, and checks what must hold after any of them."""

    machine: Participant
    running: list[object] = field(default_factory=list)
    started: set[UpdateKey] = field(default_factory=set)
    sent: dict[UpdateKey, Update] = field(default_factory=dict)
    kept: set[UpdateKey] = field(default_factory=set)
    stored: set[UpdateKey] = field(default_factory=set)
    may_drop: set[UpdateKey] = field(default_factory=set)
    made: int = 0

    def did(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(job):
                    assert not self.running, "two functions at once"
                    self.running.append(job)
                    if isinstance(job, TrainJob):
                        assert job.key not in self.started, "trained twice"
                        self.started.add(job.key)
                case Send(one):
                    assert self.sent.setdefault(one.key, one) == one, "two different updates"
                    assert one.key in self.kept
                case Drop(key):
                    assert key in self.may_drop, "dropped before its receipt"
                    self.kept.discard(key)
                case _:
                    pass
        assert self.kept == {
            UpdateKey(one.session, one.round, one.attempt) for one in self.machine.pending()
        }

    def end(self, *, well: bool) -> None:
        if not self.running:
            return
        job = self.running.pop()
        if isinstance(job, ValidateJob):
            self.did(self.machine.on_validated(job, None))
            return
        assert isinstance(job, TrainJob)
        if not well:
            self.did(self.machine.on_trained(job, None))
            return
        self.made += 1
        one = update(job.key, str(self.made).encode())
        actions = self.machine.on_trained(job, one)
        if Drop(job.key) in actions:  # withdrawn: never sent
            assert job.key not in self.sent
            self.may_drop.add(job.key)
        else:
            self.kept.add(job.key)
        self.did(actions)


SESSIONS = st.sampled_from(["s-1", "s-2"])
ROUNDS = st.integers(1, 4)
ATTEMPTS = st.integers(1, 2)
KEYS = st.builds(UpdateKey, SESSIONS, ROUNDS, ATTEMPTS)
RECEIPTS = st.lists(st.tuples(ROUNDS, ATTEMPTS, st.sampled_from(Fate)), max_size=2)
STEPS = st.one_of(
    st.tuples(
        st.just("mail"),
        SESSIONS,
        st.integers(1, 12),
        st.lists(st.tuples(ROUNDS, ATTEMPTS), max_size=2),
        st.lists(ROUNDS, max_size=2),
        RECEIPTS,
    ),
    st.tuples(st.just("end"), st.booleans()),
    st.tuples(st.just("stored"), KEYS),
    st.tuples(st.just("unsent"), KEYS),
    st.tuples(
        st.just("refused"),
        KEYS,
        st.sampled_from([RefusalCode.LATE, RefusalCode.ROUND_CLOSED]),
    ),
    st.tuples(st.just("sync"), SESSIONS, RECEIPTS),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 3))
def test_no_order_of_anything_breaks_a_promise(
    steps: list[tuple[object, ...]], kept_max: int
) -> None:
    watched = Watched(participant(kept_max))
    for step in steps:
        apply(watched, step)


def apply(watched: Watched, step: tuple[object, ...]) -> None:
    machine = watched.machine
    match step:
        case ("mail", str(session), int(number), list(trains), list(validations), list(listed)):
            receipts = [Receipt(round=one[0], attempt=one[1], fate=one[2]) for one in listed]
            before = machine._sessions[session].number if session in machine._sessions else 0
            if number > before:
                watched.may_drop |= {UpdateKey(session, r.round, r.attempt) for r in receipts}
            tasks = [train(*one) for one in trains] + [validate(one) for one in validations]
            watched.did(machine.on_mail(mail(number, *tasks, session=session, receipts=receipts)))
        case ("sync", str(session), list(listed)):
            answers = [
                SessionReceipt(session=session, round=one[0], attempt=one[1], fate=one[2])
                for one in listed
            ]
            watched.may_drop |= {UpdateKey(session, r.round, r.attempt) for r in answers}
            watched.did(machine.on_synced([], answers))
        case ("end", bool(well)):
            watched.end(well=well)
        case ("stored", UpdateKey() as key):
            watched.stored |= {key} & watched.kept
            watched.did(machine.on_stored(key))
        case ("unsent", UpdateKey() as key):
            watched.did(machine.on_unsent(key))
        case ("refused", UpdateKey() as key, RefusalCode() as code):
            if code is RefusalCode.LATE or key not in watched.stored:
                watched.may_drop |= {key} & watched.kept
            watched.did(machine.on_refused(key, Refusal(code=code)))
        case _:
            raise AssertionError(step)
