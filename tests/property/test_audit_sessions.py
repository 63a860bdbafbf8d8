"""Whatever happens in a session, its true export verifies and replays: no false alarm, no missing bit."""

from datetime import timedelta

from fedbus_core.rounds.state import RoundPhase, SessionPhase
from fedbus_schemas.inputs import ClientsChanged, DeadlineFired, Input
from fedbus_schemas.sessions import (
    BelowMinimum,
    ExtendSession,
    PauseSession,
    ResumeSession,
    SessionSettings,
    StopSession,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, Maker

STEPS = ("store", "blob", "bad", "close", "deadline", "late", "finish", "clients") * 4 + (
    "pause",
    "resume",
    "extend",
    "stop",
)

SETTINGS = st.builds(
    SessionSettings,
    rounds=st.integers(1, 3),
    target=st.integers(2, 3) | st.none(),
    minimum=st.integers(1, 2),
    attempts_max=st.integers(1, 2),
    below_minimum=st.sampled_from(BelowMinimum),
    seed=st.integers(0, 9),
)


@settings(max_examples=60, deadline=None)
@given(
    chosen=SETTINGS,
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.sampled_from(CLIENTS), st.integers(0, 3)), max_size=30
    ),
)
def test_a_true_session_always_verifies_and_replays(
    chosen: SessionSettings, steps: list[tuple[str, str, int]]
) -> None:
    maker = Maker(chosen)
    for step, client, number in steps:
        take(maker, step, client, number)
    bundle = maker.world.bundle()
    report = worlds.verify(bundle)
    assert report.ok, report.findings
    replayed = worlds.replay(bundle, batch_size=2, order_seed=len(steps))
    assert replayed.ok, replayed
    assert len(replayed.rounds) == report.totals.rounds
    stripped = maker.world.without_models().bundle()
    assert worlds.verify(stripped, removed=True).ok
    assert worlds.replay(stripped).rounds == replayed.rounds


COMMANDS: dict[str, Input] = {
    "clients": ClientsChanged(),
    "pause": PauseSession(),
    "resume": ResumeSession(),
    "extend": ExtendSession(rounds=1),
    "stop": StopSession(),
}


def take(maker: Maker, step: str, client: str, number: int) -> None:
    assert maker.state is not None
    maker.now += timedelta(seconds=1)
    maker.online = CLIENTS[: number + 1]
    opened = maker.state.round
    if step in COMMANDS:
        maker.offer(COMMANDS[step])
    elif step in ("deadline", "late"):
        fire(maker, late=step == "late")
    elif opened is None:
        return
    elif step == "close" and opened.phase is RoundPhase.COLLECTING and maker.stored_until():
        maker.close()
    elif step == "finish" and opened.phase is RoundPhase.CLOSING:
        maker.finish()
    elif step in ("store", "blob", "bad") and maker.may_store(client):
        maker.store(client, number + 1, inline=step != "blob", bad=step == "bad")


def fire(maker: Maker, *, late: bool) -> None:
    """Let the pending deadline fire, perhaps long after its time."""
    state = maker.state
    assert state is not None
    if state.round is not None:
        due, place = state.round.deadline, (state.round.number, state.round.attempt)
    elif state.phase is SessionPhase.WAITING and state.look_again is not None:
        due, place = state.look_again, (state.completed + 1, state.next_attempt)
    else:
        return
    maker.now = max(maker.now, due) + timedelta(seconds=60 if late else 0)
    fired = DeadlineFired(round=place[0], attempt=place[1], due=due)
    maker.offer(fired, cutoff=maker.stored_until())
