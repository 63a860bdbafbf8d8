"""A command under any order of inputs: doubles, late ones, lost races, two controllers, crashes before the ack.

The world is a log of stored bytes, answers with sequences of which the bus keeps one a client, and inputs
under way that are delivered in any order, several times, to controllers that know an older log.
"""

from datetime import UTC, datetime, timedelta

from fedbus_core.commands.decide import GRACE, Answered, CommandFacts, decide
from fedbus_core.commands.log import fold, read_entry, seal
from fedbus_core.commands.mail import mail
from fedbus_core.commands.state import Command
from fedbus_schemas.command_events import (
    CommandCreated,
    CommandDeadlineMoved,
    CommandEnded,
    EndReason,
)
from fedbus_schemas.commands import (
    AnswerOutcome,
    AnswersCame,
    CommandInput,
    CommandStatus,
    CommandTimeout,
    RunCommand,
    StepCommand,
    StopCommand,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

P, K, DEVICE = "default", "k-1", "U" + "A" * 55
START = datetime(2026, 1, 1, tzinfo=UTC)
CLIENTS = tuple("c" + letter * 16 for letter in "abcd")
STRANGER = "c" + "z" * 16
TIMEOUT_S = 60


class CommandMachine(RuleBasedStateMachine):
    """One command for up to four clients, and two controllers."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[bytes] = []
        self.answers: dict[str, Answered] = {}
        self.sequence = 0
        self.now = START
        self.inputs: list[tuple[str, CommandInput, datetime]] = []
        self.caches: list[Command | None] = [None, None]
        self.deadline: datetime | None = None
        self.targets: tuple[str, ...] = ()

    @initialize(whom=st.sets(st.sampled_from(CLIENTS), min_size=1))
    def begin(self, whom: set[str]) -> None:
        """An operator gives the order, twice over: the api was killed and asked again."""
        self.targets = tuple(sorted(whom))
        order = RunCommand(command=K, task="inference", timeout_s=TIMEOUT_S)
        for name in ("run", "run", "run-again"):
            self.inputs.append((name, order, self.now))
        self.decides(0, 0, known=True)

    @rule(client=st.sampled_from([*CLIENTS, STRANGER]), outcome=st.sampled_from(AnswerOutcome))
    def answers_come(self, client: str, outcome: AnswerOutcome) -> None:
        """A client's answer is stored, unless it has one; the controllers hear of it, sooner or later."""
        if client in self.answers:
            return
        self.sequence += 1
        self.answers[client] = Answered(client, outcome, self.sequence)
        self.put(f"answers.{self.sequence}", AnswersCame())

    @rule(given=st.sampled_from([StepCommand(), StopCommand()]))
    def operator_ends(self, given: CommandInput) -> None:
        """Somebody wants it to end."""
        self.put(f"order.{len(self.inputs)}", given)

    @rule(seconds=st.sampled_from([1, 30, 61, 100, 3600]))
    def time_passes(self, seconds: int) -> None:
        """Time goes on; the schedule fires when it is due, late when the bus was down."""
        self.now += timedelta(seconds=seconds)
        if self.deadline is not None and self.now >= self.deadline:
            self.put(f"timeout.{self.deadline}", CommandTimeout(due=self.deadline))
            self.deadline = None

    def put(self, cause: str, given: CommandInput) -> None:
        self.inputs.append((cause, given, self.now))

    @rule(pick=st.integers(0, 99), controller=st.integers(0, 1), known=st.booleans())
    def decides(self, pick: int, controller: int, *, known: bool) -> None:
        """A controller decides on an input, on the newest log or on what it remembers; inputs come again."""
        cause, given, stored = self.inputs[pick % len(self.inputs)]
        state = self.folded() if known else self.caches[controller]
        number = state.number if state else 0
        answers = tuple(self.answers.values())
        facts = CommandFacts(P, K, cause, stored, self.targets, 0, answers)
        decision = decide(state, given, facts)
        assert bool(decision.events) != bool(decision.refusal)
        if decision.events:
            data = seal(state, P, K, decision.events, cause, stored)
            if number != len(self.log):
                self.caches[controller] = self.folded()  # lost the race: the bus refuses it
                return
            self.log.append(data)
        self.caches[controller] = self.folded()
        self.perform()

    def perform(self) -> None:
        state = self.folded()
        if state is not None:
            self.deadline = state.deadline if state.ended is None else None

    def folded(self) -> Command | None:
        state = None
        for place, data in enumerate(self.log, start=1):
            state = fold(state, data, place)
        return state

    @invariant()
    def the_log_tells_one_story(self) -> None:
        """It begins once, its deadline moves at most once, and nothing comes after its end."""
        events = [event for data in self.log for event in read_entry(data)[1]]
        kinds = [type(one) for one in events]
        assert kinds[:1] == [CommandCreated][: len(kinds)]
        assert kinds.count(CommandCreated) <= 1
        assert kinds.count(CommandDeadlineMoved) <= 1
        assert CommandEnded not in kinds[:-1]
        causes = [read_entry(data)[0].cause for data in self.log]
        assert len(causes) == len(set(causes)), "an input is decided once"

    @invariant()
    def an_end_counts_the_answers_up_to_its_cutoff(self) -> None:
        """Each target's answer counts once or is late; a stranger's never counts."""
        state = self.folded()
        if state is None or state.ended is None:
            return
        ended = state.ended
        counting = [
            one
            for one in self.answers.values()
            if one.client in self.targets and one.sequence <= ended.cutoff
        ]
        told = (ended.completed, ended.failed, ended.refused)
        assert told == tuple(
            sum(one.outcome is outcome for one in counting)
            for outcome in (AnswerOutcome.COMPLETED, AnswerOutcome.FAILED, AnswerOutcome.REFUSED)
        )
        if ended.reason is EndReason.ANSWERED:
            assert len(counting) == len(self.targets)
        assert (ended.status is CommandStatus.INTERRUPTED) == (ended.reason is EndReason.STOPPED)
        assert (ended.status is not CommandStatus.COMPLETED) or ended.completed > 0

    @invariant()
    def clients_have_a_task_until_it_ends(self) -> None:
        """What everybody is told follows from the log."""
        state = self.folded()
        if state is not None:
            told = mail(state, DEVICE, self.targets[0])
            assert (told.task is None) == (state.ended is not None)

    def teardown(self) -> None:
        """Once everything is delivered and time has passed, it has ended: nothing is lost."""
        if not self.inputs:
            return
        for _ in range(3):
            for place in range(len(self.inputs)):
                self.decides(place, 0, known=True)
            self.time_passes(TIMEOUT_S + int(GRACE.total_seconds()))
        state = self.folded()
        assert state is not None
        assert state.ended is not None
        self.an_end_counts_the_answers_up_to_its_cutoff()


CommandMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestCommandMachine = CommandMachine.TestCase
