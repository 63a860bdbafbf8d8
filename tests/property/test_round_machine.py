"""The session machine under any order of inputs: duplicates, losses, late ones, lost races, crashes.

The model of the world is a list of stored bytes (the log), a set of stored updates with sequences, and
messages under way that may be delivered in any order, twice, or never. Deciding, appending and acting are
separate steps with a crash possible between each. Every event is held against `audit.legality`, which says
independently of `decide` what may happen in a state.
"""

import hashlib
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeAlias

from fedbus_core.audit.legality import problems
from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.effects import (
    AskFinish,
    KeepDeadline,
    effects,
    everything,
    live_round,
)
from fedbus_core.rounds.evolve import begin, evolve
from fedbus_core.rounds.log import fold, read_entry, seal
from fedbus_core.rounds.mail import addressees, receipts, tasks
from fedbus_core.rounds.state import Round, RoundPhase, Session, SessionPhase
from fedbus_schemas.events import (
    AnyEvent,
    ClosingReason,
    Participant,
    RefusedUpdate,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundReopened,
    SessionFailed,
    SessionStarted,
    SessionWaiting,
)
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
    ArchiveSession,
    BelowMinimum,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StartSession,
    StopSession,
)
from fedbus_schemas.tasks import Fate, TrainTask
from fedbus_schemas.work import FinishItem, FinishResult
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

PROJECT, SESSION = "default", "s-machine"
START = datetime(2026, 1, 1, tzinfo=UTC)
CLIENTS = tuple(
    Participant(client="c" + letter * 16, key=letter.upper() * 43) for letter in "abcdefg"
)
EVERYONE = 2 ** len(CLIENTS) - 1
WHO = st.sampled_from([0, 0b1111111, 0b0000111, 0b1110000, 0b1010101, 0b0011000, 0b0011111, 0b0001])
"""Which clients send an update, a bit for each."""
BAD = st.sampled_from([0, 0, 0b0000001, 0b0010010, 0b0001111, 0b1100000]) | st.integers(0, EVERYONE)
"""Whose updates are bad, which only the finish finds."""
ORDERS: list[Input] = [PauseSession(), ResumeSession(), ResumeSession(), ExtendSession(rounds=2)]
ANOTHER: list[type[Input]] = [FinishResult, FinishResult, DeadlineFired, TargetReached]
Trouble: TypeAlias = tuple[str, int]
TROUBLES = st.tuples(
    st.sampled_from(
        [
            *("none", "none", "time", "time", "again", "order", "forgotten", "come or go", "died"),
            *("another",) * 10,
        ]
    ),
    st.integers(0, 15),
)
WORLDS: dict[str, st.SearchStrategy[Any]] = {
    "rounds": st.integers(1, 5),
    "minimum": st.integers(1, 3),
    "target": st.sampled_from([None, 3, 3, 4, 5]),
    "invited": st.none() | st.integers(5, 6),
    "below_minimum": st.sampled_from(BelowMinimum),
    "attempts_max": st.integers(1, 2),
    "online": st.sets(st.integers(0, 6), min_size=2) | st.just(set(range(7))),
}
SEVEN = {
    "rounds": 1,
    "minimum": 1,
    "target": 3,
    "invited": None,
    "below_minimum": BelowMinimum.WAIT,
    "attempts_max": 2,
    "online": set(range(7)),
}
INITIAL = ModelRef(digest="0" * 64, size=8, layout="1" * 64, exponents=(0,))


def model_of(item: FinishItem, counted: tuple[str, ...]) -> ModelRef:
    """A model that is a pure function of the base and the included set, as in I4."""
    name = f"{item.opened.model.digest}/{counted}".encode()
    return ModelRef(
        digest=hashlib.sha256(name).hexdigest(), size=8, layout="1" * 64, exponents=(0,)
    )


class RoundMachine(RuleBasedStateMachine):
    """One session with up to seven clients and two controllers."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[bytes] = []
        self.sequence = 0  # of UPDATES
        self.stored: dict[tuple[int, int, str], int] = {}
        self.bad: set[tuple[int, int, str]] = set()
        self.now = START
        self.online: set[int] = set()
        self.inputs: list[tuple[str, Input]] = []
        self.caches: list[Session | None] = [None, None]
        self.serial = 0
        self.performed = 0
        self.deadline: DeadlineFired | None = None
        self.past: list[tuple[str, Input]] = []
        self.checked: Session | None = None
        self.newest: Session | None = None

    @initialize(world=st.fixed_dictionaries(WORLDS))
    def start(self, world: dict[str, Any]) -> None:
        """Ask for a session."""
        asked = {name: value for name, value in world.items() if name != "online"}
        wanted = SessionSettings(**asked, round_timeout_s=60, seed=7)
        self.online = set(world["online"])
        self.put(StartSession(session=SESSION, settings=wanted, model=INITIAL))
        self.decide_one(pick=0, controller=0, again=False)

    # --- the world ---------------------------------------------------------------------------------

    def put(self, given: Input) -> None:
        self.serial += 1
        self.inputs.append((f"i{self.serial}", given))

    def state(self) -> Session | None:
        """Give the newest state, to be looked at only."""
        while (place := self.newest.number if self.newest else 0) < len(self.log):
            self.newest = fold(self.newest, self.log[place], place + 1)
        return self.newest

    def arrived(self, state: Session | None) -> tuple[int, int]:
        """Count the updates stored for the open attempt, and give the last one's sequence."""
        if state is None or state.round is None:
            return 0, 0
        attempt = (state.round.number, state.round.attempt)
        found = [seq for key, seq in self.stored.items() if key[:2] == attempt]
        return len(found), max(found, default=0)

    # --- what may happen ---------------------------------------------------------------------------

    @rule(who=st.integers(0, 6))
    def come_or_go(self, who: int) -> None:
        """A client comes online (and is noticed) or goes."""
        self.online ^= {who}
        if who in self.online:
            self.put(ClientsChanged())

    @rule(seconds=st.sampled_from([1, 30, 61, 100, 700]))
    def time_passes(self, seconds: int) -> None:
        """Time goes on; the scheduled deadline fires when it is due."""
        self.now += timedelta(seconds=seconds)
        if self.deadline is not None and self.now >= self.deadline.due:
            self.put(self.deadline)
            self.deadline = None

    @rule(who=WHO, bad=BAD)
    def clients_answer(self, who: int, bad: int) -> None:
        """Some clients send their updates."""
        for place in range(len(CLIENTS)):
            if who >> place & 1:
                self.client_answers(place, bad=bool(bad >> place & 1))

    def client_answers(self, who: int, *, bad: bool) -> None:
        """A client sends its update for the attempt it was asked for; a second one is refused."""
        state = self.state()
        if state is None or state.round is None:
            return
        client = CLIENTS[who].client
        asked = [t for t in tasks(state, client, lambda _: None) if isinstance(t, TrainTask)]
        if not asked:
            return
        key = (asked[0].round, asked[0].attempt, client)
        if key in self.stored:
            return
        self.sequence += 1
        self.stored[key] = self.sequence
        if bad:
            self.bad.add(key)
        live = live_round(state)
        mine = [one for one in self.stored if one[:2] == key[:2]]
        if len(mine) >= live.target and live.phase == RoundPhase.COLLECTING:
            self.put(TargetReached(round=key[0], attempt=key[1]))

    def trouble(self, what: str, how: int) -> None:
        """Something happens that is no part of an ordinary round."""
        match what:
            case "time":
                self.time_passes([30, 61, 100, 700][how % 4])
            case "again" if self.past:
                self.comes_again(how, renamed=how % 2 == 0)
            case "another":
                self.another(ANOTHER[how % len(ANOTHER)], how // len(ANOTHER))
            case "order":
                self.put(ORDERS[how % len(ORDERS)])
                if how % 3 == 0:
                    self.inputs.append(self.inputs[-1])
            case "forgotten":
                self.repeat_everything()
            case "come or go":
                self.come_or_go(how % len(CLIENTS))
            case "died" if self.inputs:
                self.decide_one(pick=how, controller=1, again=True)

    @precondition(lambda self: self.past)
    @rule(pick=st.integers(0, 1000), renamed=st.booleans())
    def comes_again(self, pick: int, *, renamed: bool) -> None:
        """An input that was decided comes again: a resend, or a second combiner, a second schedule."""
        cause, given = self.past[pick % len(self.past)]
        if renamed and isinstance(given, FinishResult | DeadlineFired | TargetReached):
            self.put(given)
        else:
            self.inputs.append((cause, given))

    def another(self, kind: type[Input], how: int) -> None:
        """A second combiner's result, or a second schedule's deadline: the same, under a name of its own."""
        past = [given for _, given in self.past if isinstance(given, kind)]
        if past:
            self.put(past[-1 - how // 2 % len(past)])
            if how % 2 == 0:  # it overtakes the others
                self.inputs.insert(0, self.inputs.pop())

    @rule(
        given=st.sampled_from(
            [
                PauseSession(),
                ResumeSession(),
                ExtendSession(rounds=1),
                StopSession(),
                ArchiveSession(),
            ]
        ),
        dice=st.integers(0, 9),
    )
    def operator(self, given: Input, dice: int) -> None:
        """An operator gives a command; stopping and pausing are rarer."""
        if dice > {"stop": 0, "archive": 1, "pause": 3}.get(given.kind, 9):
            return
        self.put(given)

    @precondition(lambda self: self.inputs)
    @rule(pick=st.integers(0, 1000), controller=st.integers(0, 1), again=st.booleans())
    def decide_one(self, pick: int, controller: int, again: bool) -> None:
        """A controller handles an input, on a cache that may be stale: compare-and-set guards the log.

        With `again` it dies before its ack, so the input will come once more.
        """
        if not self.inputs:
            return
        place = pick % len(self.inputs)
        cause, given = self.inputs[place]
        if not again:
            del self.inputs[place]
        self.past = [*self.past[-20:], (cause, given)]
        for _ in range(2):
            state = self.caches[controller]
            online = tuple(CLIENTS[who] for who in sorted(self.online))
            stored, cutoff = self.arrived(state)
            facts = Facts(PROJECT, SESSION, cause, self.now, online, cutoff, stored)
            decision = decide(state, given, facts)
            assert decision.events or decision.refusal
            if not decision.events and state is not None and state.sequence == len(self.log):
                return
            expected = state.sequence if state else 0
            if expected != len(self.log) or not decision.events:
                self.caches[controller] = deepcopy(
                    self.state()
                )  # lost the race: read again, decide again
                continue
            self.log.append(seal(state, PROJECT, SESSION, decision.events, cause, self.now))
            self.caches[controller] = fold(state, self.log[-1], len(self.log))
            return

    def decide_all(self) -> None:
        """The inputs that are there are handled in order."""
        for _ in range(len(self.inputs)):
            self.decide_one(pick=0, controller=0, again=False)

    @precondition(lambda self: self.performed < len(self.log))
    @rule(dies=st.booleans())
    def perform_next(self, dies: bool) -> None:
        """The performer takes the next entry; if it dies before its ack, the entry comes again."""
        data = self.log[self.performed]
        state = self.state()
        assert state is not None
        entry, events = read_entry(data)
        for effect in effects(state, entry.number, hashlib.sha256(data).hexdigest(), events):
            if isinstance(effect, AskFinish):
                self.finish(effect.item)
            elif isinstance(effect, KeepDeadline):
                self.deadline = effect.message
        if not dies:
            self.performed += 1

    def perform_all(self) -> None:
        """The entries that are there are performed in order."""
        while self.performed < len(self.log):
            self.perform_next(dies=False)

    @rule()
    def repeat_everything(self) -> None:
        """A server forgot: all effects of the newest state are performed again."""
        state = self.state()
        if state is None:
            return
        for effect in everything(state):
            if isinstance(effect, AskFinish):
                self.finish(effect.item)
            elif isinstance(effect, KeepDeadline):
                self.deadline = effect.message

    def finish(self, item: FinishItem) -> None:
        attempt = (item.opened.round, item.opened.attempt)
        candidates = sorted(
            key
            for key, seq in self.stored.items()
            if key[:2] == attempt and seq <= item.closing.cutoff
        )
        counted = tuple(key[2] for key in candidates if key not in self.bad)
        refused = tuple(
            RefusedUpdate(client=key[2], code=RefusalCode.NOT_FINITE)
            for key in candidates
            if key in self.bad
        )
        self.put(
            FinishResult(
                round=attempt[0],
                attempt=attempt[1],
                step=item.closing.step,
                model=model_of(item, counted) if counted else None,
                included=BlobRef(digest="2" * 64, size=1) if counted else None,
                counted=counted,
                weight=len(counted),
                refused=refused,
                rule="fedavg/1",
            )
        )

    # --- what must always hold ---------------------------------------------------------------------

    @invariant()
    def the_log_folds_and_is_a_chain(self) -> None:
        """Folding anew gives the state again, whose own invariants hold (`Session.check`)."""
        state = None
        for place, data in enumerate(self.log, start=1):
            state = fold(state, data, place)
        assert state == self.state()

    @invariant()
    def only_what_may_happen_happens(self) -> None:
        """Each new event is legal in its state and comes at its time; no input is decided twice."""
        state = self.checked
        causes = set() if state is None else set(state.causes)
        for data in self.log[state.number if state else 0 :]:
            entry, events = read_entry(data)
            assert entry.cause not in causes
            causes.add(entry.cause)
            before = state
            for event in events:
                if state is None:
                    assert isinstance(event, SessionStarted)
                    state = begin(event)
                    continue
                assert list(problems(state, event)) == []
                self.check_time(state, event, entry.events[0].time)
                state = deepcopy(state)
                evolve(state, event)
            state = fold(deepcopy(before), data, entry.number)
            self.check_attempts(state, events)
        self.checked = state

    def candidates(self, opened: Round) -> int:
        """Count what a finish has to judge: all that was stored up to the last cut-off."""
        attempt = (opened.number, opened.attempt)
        return sum(key[:2] == attempt and at <= opened.cutoff for key, at in self.stored.items())

    def check_attempts(self, state: Session, events: tuple[AnyEvent, ...]) -> None:
        """When the attempts of a round are used up, none follows at once."""
        for failed, following in pairwise(events):
            if isinstance(failed, RoundFailed) and isinstance(following, RoundOpened):
                assert failed.attempt % state.settings.attempts_max != 0

    def check_time(self, state: Session, event: AnyEvent, now: datetime) -> None:
        """What a deadline decides is decided at the deadline, not before."""
        opened = state.round
        if isinstance(event, SessionWaiting) or (
            isinstance(event, RoundOpened) and state.phase is SessionPhase.WAITING and state.rest
        ):
            assert state.look_again is None or now >= state.look_again
        elif isinstance(event, SessionFailed) and state.phase is SessionPhase.WAITING:
            assert state.look_again is not None
            assert now >= state.look_again
        elif isinstance(event, RoundClosing) and event.reason is ClosingReason.DEADLINE:
            assert opened is not None
            assert now >= opened.deadline
        elif isinstance(event, RoundReopened):
            assert opened is not None
            assert opened.closing is not None
            assert opened.closing.reason is ClosingReason.TARGET
            assert now < opened.deadline
            assert event.valid + len(event.refused) < len(opened.cohort)
            assert event.valid + len(event.refused) == self.candidates(opened)
        elif isinstance(event, RoundFailed | RoundCompleted):
            assert opened is not None
            answered = (
                event.refused
                if isinstance(event, RoundFailed)
                else (*event.refused, *event.counted)
            )
            valid = event.valid if isinstance(event, RoundFailed) else 0
            reached = isinstance(event, RoundCompleted) and len(event.counted) >= opened.target
            everyone = len(answered) + valid >= len(opened.cohort)
            assert reached or everyone or now >= opened.deadline
            if isinstance(event, RoundFailed) and opened.phase is RoundPhase.CLOSING:
                assert event.valid + len(event.refused) == self.candidates(opened)

    @invariant()
    def rounds_are_completed_once_and_in_order(self) -> None:
        """I2 and I4: one model a round, each from the one before."""
        expected, model = 1, INITIAL.digest
        opened: RoundOpened | None = None
        closing: RoundClosing | None = None
        for data in self.log:
            for event in read_entry(data)[1]:
                if isinstance(event, RoundOpened):
                    assert event.round == expected
                    assert event.model.digest == model
                    opened, closing = event, None
                elif isinstance(event, RoundClosing):
                    closing = event
                elif isinstance(event, RoundCompleted):
                    assert opened is not None
                    assert closing is not None
                    assert (event.round, event.attempt) == (opened.round, opened.attempt)
                    assert event.step == closing.step
                    self.check_included(event, opened, closing)
                    expected, model = expected + 1, event.model.digest
                    opened = closing = None
                elif isinstance(event, RoundFailed):
                    assert event.valid < event.minimum
                    opened = closing = None

    def check_included(
        self, event: RoundCompleted, opened: RoundOpened, closing: RoundClosing
    ) -> None:
        """I3: included = stored up to the cut-off and not refused, each once, all invited."""
        assert len(set(event.counted)) == len(event.counted)
        assert len(event.counted) >= opened.minimum
        refused = {one.client for one in event.refused}
        assert not refused & set(event.counted)
        for client in event.counted:
            key = (event.round, event.attempt, client)
            assert self.stored[key] <= closing.cutoff
            assert key not in self.bad
            assert client in {member.client for member in opened.cohort}
        for key, seq in self.stored.items():
            if key[:2] == (event.round, event.attempt) and seq <= closing.cutoff:
                assert key[2] in refused or key[2] in event.counted

    @invariant()
    def everyone_has_an_answer(self) -> None:
        """A stored update of the attempt that ended last has a receipt that tells the truth."""
        state = self.state()
        if state is None or state.outcome is None:
            return
        outcome = state.outcome
        assert {m.client for m in outcome.cohort} <= set(addressees(state))
        for client in (member.client for member in outcome.cohort):
            (receipt,) = receipts(state, client)
            assert (receipt.fate is Fate.COUNTED) == (client in outcome.counted)

    @invariant()
    def something_moves_every_open_session(self) -> None:
        """No state without a way on: a deadline, a finish, or a person (paused) is waited for."""
        state = self.state()
        if state is None or state.ended:
            return
        wanted = everything(state)
        waits = any(isinstance(e, KeepDeadline) and e.at is not None for e in wanted)
        finishes = any(isinstance(e, AskFinish) for e in wanted)
        if state.round is not None and state.round.phase is RoundPhase.CLOSING:
            assert finishes
        assert waits or finishes or state.phase is SessionPhase.PAUSED

    def all_holds(self) -> None:
        """Check every invariant, where hypothesis does not."""
        self.the_log_folds_and_is_a_chain()
        self.only_what_may_happen_happens()
        self.rounds_are_completed_once_and_in_order()
        self.everyone_has_an_answer()
        self.something_moves_every_open_session()

    def teardown(self) -> None:
        """With enough clients, good updates and time, whatever happened before comes to an end."""
        if not self.log:
            return
        self.online = set(range(7))
        self.put(ClientsChanged())
        for _ in range(400):
            state = self.state()
            assert state is not None
            if state.ended:
                return
            if state.phase is SessionPhase.PAUSED:
                self.put(ResumeSession())
            self.clients_answer(EVERYONE, 0)
            while self.inputs:
                self.decide_one(pick=0, controller=0, again=False)
            self.perform_all()
            state = self.state()
            assert state is not None
            self.time_passes(61 if state.round else 700)
        raise AssertionError(f"the session does not end: {self.state()}")


@given(
    world=st.fixed_dictionaries(WORLDS),
    steps=st.lists(st.tuples(WHO, BAD, WHO, TROUBLES, TROUBLES), min_size=3, max_size=10),
)
@example(  # the first closing's result comes again while the second is under way
    world=SEVEN,
    steps=[
        (0b0000111, 0b0000001, 0, ("none", 0), ("none", 0)),
        (0b0011111, 0, 0, ("none", 0), ("another", 0)),
    ],
)
@example(  # the notice comes again while the round is closing, after one more update
    world=SEVEN,
    steps=[(0b0000111, 0, 0b0001000, ("none", 0), ("another", 3))],
)
@settings(max_examples=150, deadline=None)
def test_rounds_go_on_in_order_with_troubles(
    world: dict[str, Any], steps: list[tuple[int, int, int, Trouble, Trouble]]
) -> None:
    """Most of a life is ordinary: answers, a closing, a finish, in order, with now and then a trouble."""
    machine = RoundMachine()
    machine.start(world)
    for who, bad, while_closing, before, after in steps:
        machine.perform_all()
        machine.clients_answer(who, bad)
        machine.trouble(*before)
        machine.decide_all()
        machine.clients_answer(while_closing, bad)
        machine.perform_all()
        machine.trouble(*after)
        machine.decide_all()
        machine.all_holds()
    machine.teardown()
    machine.all_holds()


RoundMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestRoundMachine = RoundMachine.TestCase
