"""What each client must know of a session now, as a pure function of the session's state."""

from collections.abc import Callable, Iterator

from fedbus_schemas.ids import ClientId, Settings
from fedbus_schemas.models import ModelRef
from fedbus_schemas.refusals import Refusal
from fedbus_schemas.tasks import ModelToFetch, Receipt, Task, TrainTask, ValidateTask

from fedbus_core.rounds.cohort import client_seed, member
from fedbus_core.rounds.state import Outcome, Session

Inline = Callable[[ModelRef], str | None]
"""Gives a small model's bytes (base64) to ride along, or None."""


def addressees(state: Session) -> Iterator[ClientId]:
    """Give those whom the state concerns: the open cohort, and who waits for a receipt."""
    members = list(state.round.cohort) if state.round else []
    members += state.outcome.cohort if state.outcome else ()
    seen: set[ClientId] = set()
    for one in members:
        if one.client not in seen:
            seen.add(one.client)
            yield one.client


def models(state: Session) -> tuple[ModelRef, ...]:
    """Give the models that the mail of this state names."""
    open_model = (state.round.model,) if state.round else ()
    made = state.outcome.model if state.outcome else None
    return (*open_model, *((made,) if made and made not in open_model else ()))


def receipts(state: Session, client: ClientId) -> tuple[Receipt, ...]:
    """Give the last word on the client's update of the last attempt."""
    outcome = state.outcome
    if outcome is None or member(outcome.cohort, client) is None:
        return ()
    return (receipt(outcome, client),)


def receipt(outcome: Outcome, client: ClientId) -> Receipt:
    """Say what became of a cohort member's update in an attempt that ended so."""
    fate, refused = outcome.fate(client)
    return Receipt(
        round=outcome.number,
        attempt=outcome.attempt,
        fate=fate,
        model=outcome.model.digest if outcome.model else None,
        refusal=Refusal(code=refused.code, detail=refused.detail) if refused else None,
    )


def tasks(state: Session, client: ClientId, inline: Inline) -> tuple[Task, ...]:
    """Give the client's open tasks: train in the open round, and validate the last model."""
    found: list[Task] = []
    opened, outcome = state.round, state.outcome
    if opened is not None and member(opened.cohort, client):
        found.append(
            TrainTask(
                round=opened.number,
                attempt=opened.attempt,
                model=_to_fetch(opened.model, inline),
                settings=_for_trainers(state),
                seed=client_seed(state.settings.seed, opened.number, client),
                deadline=opened.deadline,
                weight_max=2**state.settings.numbers.weight_bits,
                inline_bytes_max=state.settings.inline_bytes_max,
                trace_id=opened.opened.trace_id,
                session_name=state.settings.name or None,
                cohort=len(opened.cohort),
                local_packages=_local_packages(state),
                package=state.package,
            )
        )
    made = outcome.model if outcome and member(outcome.cohort, client) else None
    if outcome is not None and made is not None and state.settings.validate_models:
        found.append(
            ValidateTask(
                round=outcome.number,
                model=_to_fetch(made, inline),
                settings=state.settings.train,
                trace_id=outcome.trace_id,
                session_name=state.settings.name or None,
                cohort=len(outcome.cohort),
                local_packages=_local_packages(state),
                package=state.package,
            )
        )
    return tuple(found)


def _for_trainers(state: Session) -> Settings:
    """What the session sets, and what its rule asks of the clients."""
    return {**state.settings.train, **state.settings.parameters.for_clients}


def _local_packages(state: Session) -> bool | None:
    return None if state.settings.local_packages else False


def _to_fetch(model: ModelRef, inline: Inline) -> ModelToFetch:
    return ModelToFetch(digest=model.digest, size=model.size, inline=inline(model))
