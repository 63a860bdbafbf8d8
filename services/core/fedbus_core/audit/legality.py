"""Which events could have been decided in which state: what folding alone does not ask.

Everything that `decide` derives from the state is derived again. What it took from outside (who was
online, the time, what a combiner found) cannot be; of that, only what must agree is compared.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias, assert_never

from fedbus_schemas.events import (
    AnyEvent,
    ClosingReason,
    DeadlineMoved,
    FailureReason,
    RefusedUpdate,
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    RoundPruned,
    RoundReopened,
    SessionArchived,
    SessionCompleted,
    SessionExtended,
    SessionFailed,
    SessionPaused,
    SessionResumed,
    SessionStarted,
    SessionStopped,
    SessionWaiting,
)
from fedbus_schemas.sessions import COHORT_SIZE_MAX
from fedbus_schemas.traces import trace_id

from fedbus_core.aggregation.rules import rule_of
from fedbus_core.rounds.state import Round, RoundPhase, Session, SessionPhase

RoundEvent: TypeAlias = DeadlineMoved | RoundClosing | RoundReopened | RoundCompleted | RoundFailed
SessionEvent: TypeAlias = (
    SessionWaiting
    | SessionPaused
    | SessionResumed
    | SessionExtended
    | SessionCompleted
    | SessionStopped
    | SessionFailed
)

_OPENING = frozenset({SessionPhase.RUNNING, SessionPhase.WAITING})


def problems(state: Session, event: AnyEvent) -> Iterator[str]:
    """Say what is impossible about an event on top of `state`; nothing for a legal one."""
    match event:
        case SessionStarted():
            yield "a session starts once"
        case RoundOpened():
            yield from _opened(state, event)
        case DeadlineMoved() | RoundClosing() | RoundReopened() | RoundCompleted() | RoundFailed():
            opened = state.round
            if opened is None or not opened.is_attempt(event.round, event.attempt):
                yield f"round {event.round} attempt {event.attempt} is not open"
                return
            yield from _in_round(state, opened, event)
        case RoundPruned():
            yield from _pruned(state, event)
        case SessionArchived():
            yield from _which(
                (not state.ended, "the session has not ended"),
                (state.archived, "it is archived already"),
            )
        case _:
            yield from _session(state, event)


def _in_round(state: Session, opened: Round, event: RoundEvent) -> Iterator[str]:
    match event:
        case DeadlineMoved():
            return _moved(opened, event)
        case RoundClosing():
            return _closing(opened, event)
        case RoundReopened():
            return _reopened(opened, event)
        case RoundCompleted():
            return _completed(state, opened, event)
        case RoundFailed():
            return _failed(state, opened, event)
        case _:
            assert_never(event)


def _opened(state: Session, event: RoundOpened) -> Iterator[str]:
    settings = state.settings
    members = [one.client for one in event.cohort]
    size = len(members)
    trace = trace_id(state.project, state.session, event.round, event.attempt)
    following = (state.completed + 1, state.next_attempt)
    yield from _which(
        (state.round is not None, "another round is open"),
        (state.phase not in _OPENING, f"the session is {state.phase}"),
        (event.round > state.rounds_total, f"the session has {state.rounds_total} rounds"),
        ((event.round, event.attempt) != following, f"{following} is the next round and attempt"),
        (event.model != state.model, "it starts from another model than the last round made"),
        (not _rising(members), "the cohort is not sorted or names a client twice"),
        (size > (settings.invited or COHORT_SIZE_MAX), f"{size} clients are more than invited"),
        (event.minimum != settings.minimum, f"the session's minimum is {settings.minimum}"),
        (event.minimum > size, f"a cohort of {size} cannot reach {event.minimum}"),
        (event.target != min(settings.target or size, size), f"its target is {event.target}"),
        (event.trace_id != trace, "its trace is not the one derived for it"),
    )


def _moved(opened: Round, event: DeadlineMoved) -> Iterator[str]:
    possible = opened.phase is RoundPhase.COLLECTING and not opened.moved
    yield from _which(
        (not possible, "the deadline cannot be moved now"),
        (event.deadline <= opened.deadline, "the deadline is moved to an earlier time"),
    )


def _closing(opened: Round, event: RoundClosing) -> Iterator[str]:
    lowest = max(1, opened.cutoff + (1 if event.reason is ClosingReason.TARGET else 0))
    yield from _which(
        (opened.phase is not RoundPhase.COLLECTING, "the round is closing already"),
        (event.step != opened.step + 1, f"step {event.step} follows step {opened.step}"),
        (event.cutoff < lowest, f"the cut-off {event.cutoff} is below {lowest}"),
    )


def _reopened(opened: Round, event: RoundReopened) -> Iterator[str]:
    yield from _finishes(opened, event.step)
    yield from _refused(opened, event.refused)
    if event.valid >= opened.target:
        yield f"{event.valid} valid updates reach the target {opened.target}"


def _completed(state: Session, opened: Round, event: RoundCompleted) -> Iterator[str]:
    counted = set(event.counted)
    size = len(event.counted)
    base, model = opened.model, event.model
    same = (model.layout, len(model.exponents)) == (base.layout, len(base.exponents))
    cohort = {one.client for one in opened.cohort}
    refused = {one.client for one in event.refused}
    rule = event.rule.partition("/")[0]
    remembered = event.state is not None
    yield from _finishes(opened, event.step)
    yield from _refused(opened, event.refused)
    yield from _which(
        (not _rising(event.counted), "the counted clients are not sorted or one is named twice"),
        (not counted <= cohort, "a client is counted that was not in the cohort"),
        (size < opened.minimum, f"{size} updates are counted, {opened.minimum} are the minimum"),
        (bool(counted & refused), "a client is both counted and refused"),
        (not same, "the new model has another layout than the old one"),
        (rule != state.settings.aggregator, f"it was made by the rule {rule}"),
        (
            rule == state.settings.aggregator and remembered != rule_of(state.settings).remembers,
            f"the rule {rule} {'has no' if remembered else 'has a'} state",
        ),
    )


def _failed(state: Session, opened: Round, event: RoundFailed) -> Iterator[str]:
    found = event.valid or event.refused
    missed = event.minimum == opened.minimum and event.valid < opened.minimum
    yield from _refused(opened, event.refused)
    if event.reason is FailureReason.SERVER_FUNCTIONS:
        possible = state.settings.functions is not None and opened.phase is RoundPhase.CLOSING
        yield from _which((not possible, "no server functions were at work"))
        return
    yield from _which(
        (opened.closing is None and bool(found), "it found updates without a cut-off"),
        (not missed, f"{event.valid} valid updates do not miss the minimum {opened.minimum}"),
    )


def _pruned(state: Session, event: RoundPruned) -> Iterator[str]:
    over = state.outcome
    last = (over.number, over.attempt) if over is not None else None
    yield from _which(
        (state.settings.keep_updates, "the session keeps its updates"),
        ((event.round, event.attempt) != last, "it is not the attempt that has just ended"),
    )


def _finishes(opened: Round, step: int) -> Iterator[str]:
    if opened.phase is not RoundPhase.CLOSING or step != opened.step:
        yield f"step {step} is not closing (the last was {opened.step})"


def _refused(opened: Round, refused: Sequence[RefusedUpdate]) -> Iterator[str]:
    clients = {one.client for one in refused}
    cohort = {one.client for one in opened.cohort}
    yield from _which(
        (len(clients) != len(refused), "a client is refused twice"),
        (not clients <= cohort, "a client is refused that was not in the cohort"),
    )


def _session(state: Session, event: SessionEvent) -> Iterator[str]:
    extends = isinstance(event, SessionExtended) and state.phase is SessionPhase.COMPLETED
    if state.archived or (state.ended and not extends):
        yield f"the session is {'archived' if state.archived else state.phase}"
    following = (state.completed + 1, state.next_attempt)
    match event:
        case SessionWaiting():
            busy = state.round is not None or state.phase is SessionPhase.PAUSED
            other = (event.round, event.attempt) != following
            yield from _which(
                (busy, "a session with an open round or a pause does not wait"),
                (other, f"{following} is the next round and attempt"),
            )
        case SessionPaused():
            yield from _which((state.phase is SessionPhase.PAUSED, "it is paused already"))
        case SessionResumed():
            yield from _which((state.phase is not SessionPhase.PAUSED, "it is not paused"))
        case SessionExtended():
            fewer = event.rounds <= state.rounds_total
            yield from _which((fewer, f"{event.rounds} rounds are no more than before"))
        case SessionCompleted():
            done = state.round is None and state.completed == state.rounds_total
            same = (event.rounds, event.model) == (state.completed, state.model.digest)
            yield from _which(
                (not done, f"{state.completed} of {state.rounds_total} rounds are completed"),
                (not same, "it names another model or number of rounds than the last round"),
            )
        case SessionFailed():
            yield from _which((event.round != following[0], f"round {following[0]} is the next"))
        case SessionStopped():
            pass
        case _:
            assert_never(event)


def _which(*asked: tuple[bool, str]) -> Iterator[str]:
    return (text for wrong, text in asked if wrong)


def _rising(names: Sequence[str]) -> bool:

    return all(first < second for first, second in pairwise(names))
