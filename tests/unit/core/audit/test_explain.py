"""Why clients were asked or not, and what became of their updates; where the time went."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from fedbus_core.audit.explain import AttemptFacts, KnownClient, Turned, explain, phases, summary
from fedbus_core.rounds.cohort import choose
from fedbus_schemas.events import ClosingReason, FinishTimings, Participant, RefusedUpdate
from fedbus_schemas.explain_views import Standing
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.selection import ClientQuery, parse_conditions
from fedbus_schemas.sessions import SessionSettings
from hypothesis import given
from hypothesis import strategies as st

OPENED = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = tuple("c" + letter * 16 for letter in "abcdefghijklmnop")


def at(seconds: float) -> datetime:
    return OPENED + timedelta(seconds=seconds)


def facts(cohort: Iterable[str], **more: object) -> AttemptFacts:
    plain: dict[str, object] = {
        "settings": SessionSettings(minimum=1),
        "number": 3,
        "attempt": 1,
        "cohort": tuple(cohort),
        "target": 2,
        "minimum": 1,
        "opened": OPENED,
        "closed_by": ClosingReason.DEADLINE,
        "closing_asked": at(10),
        "closing": at(10.1),
        "ended_asked": at(11),
        "ended": at(11.2),
        "has_model": True,
        "counted": frozenset(),
        "refused": (),
        "timings": FinishTimings(),
        "stored": frozenset(),
        "pruned": False,
    }
    return AttemptFacts(**{**plain, **more})  # type: ignore[arg-type]


def client(name: str, since: datetime = OPENED, **attributes: object) -> KnownClient:
    return KnownClient(client=name, name=name[1], since=since, attributes=attributes)  # type: ignore[arg-type]


def standings(found: object, **more: object) -> dict[str, Standing]:
    return {one.name: one.standing for one in found}  # type: ignore[attr-defined]


def test_tells_of_everyone_asked_what_became_of_their_update() -> None:
    a, b, c, d, e, f = NAMES[:6]
    refused = (
        RefusedUpdate(client=b, code=RefusalCode.NOT_FINITE, detail="tensor w"),
        RefusedUpdate(client=c, code=RefusalCode.DECLINED, detail="rule night"),
    )
    told = facts((a, b, c, d, e, f), counted={a}, refused=refused, stored={a, b, c, d})
    turned = {e: Turned("round_closed", "", ""), f: Turned("too_large", "Too large.", "9 bytes")}
    found = explain(told, [client(one) for one in NAMES[:6]], turned, {a: 1.5})
    assert standings(found) == {
        "a": Standing.COUNTED,
        "b": Standing.REFUSED,
        "c": Standing.DECLINED,
        "d": Standing.LATE,
        "e": Standing.LATE,
        "f": Standing.MISSING,
    }
    assert "tensor w" in found[1].why
    assert "the deadline had come" in found[3].why
    assert (found[0].stored_s, found[5].code) == (1.5, "too_large")
    assert "9 bytes" in found[5].why
    assert "6 asked, target 2, minimum 1, 1 counted, 2 refused" in summary(told)


def test_an_open_round_and_one_without_a_model_lose_nobody() -> None:
    a, b = NAMES[:2]
    known = [client(a), client(b)]
    still = facts((a, b), ended=None, ended_asked=None, has_model=False, stored={a})
    assert standings(explain(still, known, {}, {})) == {"a": Standing.STORED, "b": Standing.ASKED}
    assert "is open" in summary(still)
    failed = facts((a, b), has_model=False, stored={a}, closed_by=None)
    found = standings(explain(failed, known, {}, {}))
    assert found == {"a": Standing.GIVEN_UP, "b": Standing.MISSING}
    pruned = explain(facts((a, b), counted={a}, pruned=True), known, {}, {})
    assert "deleted by rule" in pruned[1].why


def test_whom_the_query_does_not_mean_is_told_the_condition() -> None:
    query = ClientQuery(where=parse_conditions("site=eu"))
    settings = SessionSettings(minimum=1, clients=query)
    known = [client(NAMES[0], site="eu"), client(NAMES[1], site="us"), client(NAMES[2], at(1))]
    found = explain(facts(NAMES[:1], settings=settings), known, {}, {})
    assert standings(found)["b"] is Standing.NOT_MEANT
    assert "site=eu" in found[1].why
    assert standings(found)["c"] is Standing.NOT_JOINED


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_who_was_left_out_is_derived_from_the_seed_alone(
    online: set[str], invited: int, seed: int
) -> None:
    """Whoever was online and not asked was drawn behind; whoever is told to be offline was."""
    settings = SessionSettings(minimum=1, invited=invited, seed=seed)
    cohort = choose([Participant(client=o, key="K" * 43) for o in online], invited, seed, 3, 1)
    asked = tuple(one.client for one in cohort)
    for one in explain(facts(asked, settings=settings), [client(n) for n in NAMES], {}, {}):
        if one.client in asked:
            continue
        if one.client in online:
            assert one.standing is Standing.NOT_DRAWN
        if one.standing is Standing.NOT_ONLINE:
            assert one.client not in online


def test_the_phases_fill_the_time_from_opening_to_end() -> None:
    timings = FinishTimings(read_s=0.2, fold_s=0.3, store_s=0.1, total_s=0.6)
    told = facts(NAMES[:3], timings=timings)
    found = phases(told, {NAMES[0]: 2.0, NAMES[1]: 4.0, NAMES[2]: 12.0})
    assert [one.name for one in found] == [
        "first update",
        "other updates",
        "waiting",
        "closing",
        "queue",
        "read",
        "fold",
        "store",
        "commit",
    ]
    assert sum(one.seconds for one in found) == pytest.approx(11.2)
    assert max(found, key=lambda one: one.seconds).name == "waiting"
    assert f"{NAMES[1]} was last" in found[1].why
