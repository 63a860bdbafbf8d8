"""The session machine under any order of inputs: duplicates, losses, late ones, lost races, crashes.

The model of the world is a list of stored bytes (the log), a set of stored updates with sequences, and
messages under way that may be delivered in any order, twice, or never. Deciding, appending and acting are
separate steps with a crash possible between each.
"""

import hashlib
from datetime import UTC, datetime, timedelta

from fedbus_core.rounds.decide import Facts, decide
from fedbus_core.rounds.effects import AskFinish, KeepDeadline, effects, everything
from fedbus_core.rounds.log import fold, read_entry, seal
from fedbus_core.rounds.mail import addressees, receipts, tasks
from fedbus_core.rounds.state import RoundPhase, Session, SessionPhase
from fedbus_schemas.events import (
    Participant,
    RefusedUpdate,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
)
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input, TargetReached
from fedbus_schemas.models import BlobRef, ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import (
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
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

PROJECT, SESSION = "default", "s-machine"
START = datetime(2026, 1, 1, tzinfo=UTC)
CLIENTS = tuple(
    Participant(client="c" + letter * 16, key=letter.upper() * 43) for letter in "abcdefg"
)
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

    @initialize(
        rounds=st.integers(1, 3),
        minimum=st.integers(1, 3),
        close_at=st.none() | st.integers(3, 5),
        invited=st.none() | st.integers(5, 6),
        below=st.sampled_from(BelowMinimum),
        attempts=st.integers(1, 2),
        online=st.sets(st.integers(0, 6)),
    )
    def start(self, rounds, minimum, close_at, invited, below, attempts, online) -> None:
        """Ask for a session."""
        wanted = SessionSettings(
            rounds=rounds,
            minimum=minimum,
            target=close_at,
            invited=invited,
            below_minimum=below,
            attempts_max=attempts,
            round_timeout_s=60,
            seed=7,
        )
        self.online = set(online)
        self.put(StartSession(session=SESSION, settings=wanted, model=INITIAL))
        self.decide_one(0, 0, False)

    # --- the world ---------------------------------------------------------------------------------

    def put(self, given: Input) -> None:
        self.serial += 1
        self.inputs.append((f"i{self.serial}", given))

    def state(self) -> Session | None:
        state = None
        for place, data in enumerate(self.log, start=1):
            state = fold(state, data, place)
        return state

    def cutoff(self, state: Session | None) -> int:
        if state is None or state.round is None:
            return 0
        attempt = (state.round.number, state.round.attempt)
        found = [seq for key, seq in self.stored.items() if key[:2] == attempt]
        return max(found, default=0)

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

    @rule(who=st.integers(0, 6), bad=st.booleans())
    def client_answers(self, who: int, bad: bool) -> None:
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
        mine = [one for one in self.stored if one[:2] == key[:2]]
        if len(mine) >= state.round.target:
            self.put(TargetReached(round=key[0], attempt=key[1]))

    @rule(
        given=st.sampled_from(
            [PauseSession(), ResumeSession(), ExtendSession(rounds=1), StopSession()]
        ),
        dice=st.integers(0, 9),
    )
    def operator(self, given: Input, dice: int) -> None:
        """An operator gives a command; stopping is rarer."""
        if isinstance(given, StopSession) and dice:
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
        for _ in range(2):
            state = self.caches[controller]
            online = tuple(CLIENTS[who] for who in sorted(self.online))
            facts = Facts(PROJECT, SESSION, cause, self.now, online, self.cutoff(state))
            decision = decide(state, given, facts)
            assert decision.events or decision.refusal
            if not decision.events and state is not None and state.sequence == len(self.log):
                return
            expected = state.sequence if state else 0
            if expected != len(self.log) or not decision.events:
                self.caches[controller] = self.state()  # lost the race: read again, decide again
                continue
            self.log.append(seal(state, PROJECT, SESSION, decision.events, cause, self.now))
            self.caches[controller] = fold(state, self.log[-1], len(self.log))
            return

    @precondition(lambda self: self.performed < len(self.log))
    @rule(dies=st.booleans(), valid_only=st.booleans())
    def perform_next(self, dies: bool, valid_only: bool) -> None:
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
        """Folding twice gives the same state, whose own invariants hold (`Session.check`)."""
        first, second = self.state(), self.state()
        assert first == second

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
            for who in range(7):
                self.client_answers(who, False)
            while self.inputs:
                self.decide_one(0, 0, False)
            while self.performed < len(self.log):
                self.perform_next(False, False)
            if self.state() is not None and self.state().round is None:
                self.time_passes(700)
            else:
                self.time_passes(61)
        raise AssertionError(f"the session does not end: {self.state()}")


RoundMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRoundMachine = RoundMachine.TestCase
