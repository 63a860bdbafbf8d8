"""May this update, or this report, be stored? Said from the manifest alone, without the bytes.

A courtesy, not the truth: what is counted is decided by the cut-off and by the finish. It spares clients
and stores what cannot count anyway.
"""

from fedbus_schemas.ids import ClientId
from fedbus_schemas.refusals import Refusal, RefusalCode
from fedbus_schemas.updates import Manifest

from fedbus_core.rounds.cohort import member
from fedbus_core.rounds.state import Session

UPDATE_OVERHEAD_BYTES = 64 * 1024
"""How much longer than its base model an update's file may be: room for another writer's header."""


def admit(
    state: Session | None, manifest: Manifest, key: str, *, rides_along: bool
) -> Refusal | None:
    """Give the reason why an update is not taken in, or None.

    `key` signed the manifest; `rides_along`: the update's bytes came in the same message.
    """
    refusal = admit_round(state, manifest.session, manifest.round, manifest.attempt)
    if refusal is not None:
        return refusal
    assert state is not None
    assert state.round is not None
    opened = state.round
    participant = member(opened.cohort, manifest.client)
    if participant is None:
        return Refusal(code=RefusalCode.NOT_IN_COHORT, detail=f"round {opened.number}")
    if participant.key != key:
        return Refusal(
            code=RefusalCode.KEY_CHANGED, detail="the round was opened with another key of yours"
        )
    if manifest.base != opened.model.digest:
        detail = f"the round trains from {opened.model.digest}, the update from {manifest.base}"
        return Refusal(code=RefusalCode.BASE_MISMATCH, detail=detail)
    if manifest.declined is not None:
        return None
    most = 2**state.settings.numbers.weight_bits
    if not 1 <= manifest.weight <= most:
        detail = f"weight {manifest.weight} is not within 1..{most}"
        return Refusal(code=RefusalCode.WEIGHT_OUT_OF_RANGE, detail=detail)
    size_max = opened.model.size + UPDATE_OVERHEAD_BYTES
    if manifest.update.size > size_max:
        detail = f"update of {manifest.update.size} bytes, at most {size_max}"
        return Refusal(code=RefusalCode.TOO_LARGE, detail=detail)
    inline_max = state.settings.inline_bytes_max
    if rides_along and manifest.update.size > inline_max:
        detail = f"{manifest.update.size} bytes inline, inline_bytes_max is {inline_max}"
        return Refusal(code=RefusalCode.TOO_LARGE, detail=detail)
    return None


def admit_round(
    state: Session | None, session: str, round_number: int, attempt: int
) -> Refusal | None:
    """Give the reason why nothing is taken in for this attempt, or None if it is the open one."""
    if state is None:
        return Refusal(code=RefusalCode.SESSION_UNKNOWN, detail=f"session {session}")
    opened = state.round
    if opened is not None and opened.is_attempt(round_number, attempt):
        return None
    place = f"round {round_number}, attempt {attempt}"
    current = (state.completed + 1, state.next_attempt - 1)
    if (round_number, attempt) > current and not state.ended:
        return Refusal(code=RefusalCode.ROUND_UNKNOWN, detail=f"{place} is not open yet")
    return Refusal(code=RefusalCode.ROUND_CLOSED, detail=f"{place} is over")


def admit_report(
    state: Session | None, session: str, round_number: int, client: ClientId
) -> Refusal | None:
    """Give the reason why a report on a round's model is not taken in, or None.

    Reports come from the cohort that made the model. The state knows the last one and the open one: a
    report on an earlier round, which a slow client may still send, needs a place in either.
    """
    if state is None:
        return Refusal(code=RefusalCode.SESSION_UNKNOWN, detail=f"session {session}")
    made, opened = state.outcome, state.round
    if made is None or round_number > made.number:
        detail = f"round {round_number} has made no model"
        return Refusal(code=RefusalCode.ROUND_UNKNOWN, detail=detail)
    cohorts = [made.cohort]
    if round_number < made.number and opened is not None:
        cohorts.append(opened.cohort)
    if not any(member(cohort, client) for cohort in cohorts):
        return Refusal(code=RefusalCode.NOT_IN_COHORT, detail=f"round {round_number}")
    return None
