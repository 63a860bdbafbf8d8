"""The projection is the fold, seen from outside."""

import pytest
from fedbus_api.documents import SessionDocument
from fedbus_api.projection import apply
from fedbus_core.rounds.log import LogBroken, fold
from fedbus_schemas.views import Outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_equals_the_fold_after_every_entry(logs, seed) -> None:
    state, document, rounds = None, None, {}
    for entry in logs(seed):
        state = fold(state, entry.data, entry.sequence)
        document, changed = apply(document, entry.data, entry.sequence, entry.time)
        rounds |= {one.number: one for one in changed}
        # What lies in Redis is the bytes, so the comparison goes through them.
        document = SessionDocument.model_validate_json(document.to_bytes())
        shared = ("number", "head", "sequence", "phase", "reason", "completed", "rounds_total")
        for name in (*shared, "model", "settings", "look_again"):
            assert getattr(document, name) == getattr(state, name), name
        attempt = document.open
        assert (attempt is None) == (state.round is None)
        if attempt is not None and state.round is not None:
            assert document.latest.number == state.round.number
            assert attempt.cohort == tuple(one.client for one in state.round.cohort)
            for name in ("attempt", "target", "minimum", "deadline", "phase", "refused", "cutoff"):
                assert getattr(attempt, name) == getattr(state.round, name), name
            assert attempt.base == state.round.model
    done = [one.number for one in rounds.values() if one.last.outcome is Outcome.COMPLETED]
    assert sorted(done) == list(range(1, state.completed + 1))


def test_ends_the_open_attempt_when_the_session_is_stopped(logs) -> None:
    for seed in range(200):
        document = None
        for entry in logs(seed):
            document, _ = apply(document, entry.data, entry.sequence, entry.time)
        if (
            document.phase == "stopped"
            and document.latest
            and document.latest.last.reason == "enough"
        ):
            assert document.latest.last.outcome is Outcome.FAILED
            return
    pytest.fail("no random log stops an open round")


def test_refuses_an_entry_that_does_not_follow(logs) -> None:
    first, second, third, *_ = next(log for seed in range(50) if len(log := logs(seed)) > 3)
    document, _ = apply(None, first.data, first.sequence, first.time)
    with pytest.raises(LogBroken):
        apply(document, third.data, third.sequence, third.time)
    with pytest.raises(LogBroken):
        apply(None, second.data, second.sequence, second.time)
