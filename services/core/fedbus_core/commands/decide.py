"""state + input -> events. The whole of a command's behaviour.

Inputs come in any order and more than once: one that does not fit decides nothing, and says why. A
command ends once; what ends it fixes which answers count.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from fedbus_schemas.command_events import (
    AnyCommandEvent,
    CommandCreated,
    CommandDeadlineMoved,
    CommandEnded,
    EndReason,
)
from fedbus_schemas.commands import (
    TARGETS_MAX,
    AnswerOutcome,
    AnswersCame,
    CommandInput,
    CommandStatus,
    CommandTimeout,
    RunCommand,
    StepCommand,
    StopCommand,
    TakeUpCommand,
)
from fedbus_schemas.ids import ClientId
from fedbus_schemas.refusals import Refusal, RefusalCode

from fedbus_core.commands.state import Command

LATE_TOLERANCE = timedelta(seconds=5)
"""A deadline that fires later than this was held up by the bus, not by the clients."""
GRACE = timedelta(seconds=10)
"""What the clients get when it was, once a command."""
OPEN_MAX = 64
"""Commands of operators that may be open in a project. Each controller counts those it knows of."""
OPEN_OF_CLIENT_MAX = 16
"""Tasks of its own that a client may have open."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A stored answer: whose, how the part ended, and its place in RESULTS."""

    client: ClientId
    outcome: AnswerOutcome
    sequence: int


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """What the shell found out before the decision.

    `now` is when the server stored the input, `targets` whom the query means, `open` how many commands
    of this origin are open, `answers` those stored.
    """

    project: str
    command: str
    cause: str
    now: datetime
    targets: tuple[ClientId, ...] = ()
    open: int = 0
    answers: tuple[Answered, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandDecision:
    """What is to be appended. No events: nothing changes, and `refusal` says why."""

    events: tuple[AnyCommandEvent, ...] = ()
    refusal: Refusal | None = None


def decide(state: Command | None, given: CommandInput, facts: CommandFacts) -> CommandDecision:
    """Decide on one input. Pure: the same arguments give the same events."""
    if state is None:
        return _begin(given, facts)
    if facts.cause in state.causes:
        return _nothing(RefusalCode.ALREADY_EXISTS, "this input was decided before")
    if isinstance(given, RunCommand | TakeUpCommand):
        return _nothing(RefusalCode.ALREADY_EXISTS, f"command {state.command} exists")
    if state.ended is not None:
        return _nothing(RefusalCode.COMMAND_ENDED, f"the command is {state.ended.status}")
    match given:
        case StepCommand():
            return _end(state, facts, EndReason.STEPPED)
        case StopCommand():
            return _end(state, facts, EndReason.STOPPED, given.reason)
        case CommandTimeout():
            return _timeout(state, given, facts)
        case AnswersCame():
            missing = set(state.created.targets) - {one.client for one in facts.answers}
            if missing:
                return _nothing(
                    RefusalCode.NOT_POSSIBLE_NOW, f"{len(missing)} clients have not answered"
                )
            return _end(state, facts, EndReason.ANSWERED)
        case _:
            assert_never(given)


def _begin(given: CommandInput, facts: CommandFacts) -> CommandDecision:
    if not isinstance(given, RunCommand | TakeUpCommand):
        return _nothing(RefusalCode.COMMAND_UNKNOWN, f"command {facts.command}")
    operators = isinstance(given, RunCommand)
    targets = tuple(sorted(set(facts.targets)))[:TARGETS_MAX]
    created = CommandCreated(
        project=facts.project,
        command=facts.command,
        task=given.task,
        parameters=given.parameters,
        model=given.model if isinstance(given, RunCommand) else None,
        targets=targets,
        deadline=facts.now + timedelta(seconds=given.timeout_s),
        correlation=given.correlation or facts.command,
        parent=given.parent,
        origin=None if isinstance(given, RunCommand) else given.client,
        trace_id=trace_id(facts.project, facts.command),
    )
    most = OPEN_MAX if operators else OPEN_OF_CLIENT_MAX
    if facts.open >= most:
        ended = _failed(EndReason.LIMIT, f"{facts.open} commands are open, at most {most} may be")
        return CommandDecision((created, ended))
    if not targets:
        return CommandDecision((created, _failed(EndReason.NO_CLIENTS, "no client is meant")))
    return CommandDecision((created,))


def _timeout(state: Command, given: CommandTimeout, facts: CommandFacts) -> CommandDecision:
    if given.due != state.deadline:
        return _nothing(RefusalCode.NOT_POSSIBLE_NOW, "the deadline was moved")
    if not state.moved and facts.now - state.deadline > LATE_TOLERANCE:
        return CommandDecision((CommandDeadlineMoved(deadline=facts.now + GRACE),))
    return _end(state, facts, EndReason.DEADLINE)


def _end(
    state: Command, facts: CommandFacts, reason: EndReason, detail: str = ""
) -> CommandDecision:
    answers = [one for one in facts.answers if state.is_for(one.client)]
    counts = {outcome: _count(answers, outcome) for outcome in AnswerOutcome}
    everyone = len(answers) == len(state.created.targets)
    if reason is EndReason.STOPPED:
        status = CommandStatus.INTERRUPTED
    elif reason is EndReason.DEADLINE and not everyone:
        status = CommandStatus.TIMED_OUT
    elif counts[AnswerOutcome.COMPLETED]:
        status = CommandStatus.COMPLETED
    else:
        status = CommandStatus.FAILED
    ended = CommandEnded(
        status=status,
        reason=reason,
        detail=detail,
        cutoff=max((one.sequence for one in answers), default=0),
        completed=counts[AnswerOutcome.COMPLETED],
        failed=counts[AnswerOutcome.FAILED],
        refused=counts[AnswerOutcome.REFUSED],
    )
    return CommandDecision((ended,))


def trace_id(project: str, command: str) -> str:
    """Give the id of the one trace that shows a command: derived, so that whoever restarts goes on in it."""
    return hashlib.sha256(f"trace/command/{project}/{command}".encode()).hexdigest()[:32]


def _failed(reason: EndReason, detail: str) -> CommandEnded:
    return CommandEnded(status=CommandStatus.FAILED, reason=reason, detail=detail)


def _count(answers: Iterable[Answered], outcome: AnswerOutcome) -> int:
    return sum(one.outcome is outcome for one in answers)


def _nothing(code: RefusalCode, detail: str) -> CommandDecision:
    return CommandDecision((), Refusal(code=code, detail=detail))
