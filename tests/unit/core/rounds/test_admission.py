"""What may be stored, said from the manifest alone."""

import pytest
from fedbus_core.rounds.admission import UPDATE_OVERHEAD_BYTES, admit, admit_report, admit_round
from fedbus_schemas.models import BlobRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import StopSession
from fedbus_schemas.updates import Manifest

from tests.round_worlds import PROJECT, SESSION, RoundWorld, client, model, participant

SIZE_MAX = model(0).size + UPDATE_OVERHEAD_BYTES
KEY = participant("a").key


def opened() -> RoundWorld:
    world = RoundWorld("ab")
    world.start(minimum=2, numbers={"weight_bits": 4})
    return world


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "project": PROJECT,
        "session": SESSION,
        "round": 1,
        "attempt": 1,
        "client": client("a"),
        "base": model(0).digest,
        "update": BlobRef(digest="3" * 64, size=100),
        "weight": 3,
    }
    return Manifest.model_validate(fields | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weight": 1},
        {"weight": 16},
        {"update": BlobRef(digest="3" * 64, size=0)},
        {"update": BlobRef(digest="3" * 64, size=SIZE_MAX)},
        {"weight": 0, "update": BlobRef(digest="3" * 64, size=0), "declined": "cohort.smallest"},
    ],
)
def test_what_fits_is_admitted(changes: dict[str, object]) -> None:
    assert admit(opened().session, manifest(**changes), KEY, rides_along=False) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client": client("z")}, RefusalCode.NOT_IN_COHORT),
        ({"base": "4" * 64}, RefusalCode.BASE_MISMATCH),
        ({"weight": 0}, RefusalCode.WEIGHT_OUT_OF_RANGE),
        ({"weight": 17}, RefusalCode.WEIGHT_OUT_OF_RANGE),
        ({"weight": 10**30}, RefusalCode.WEIGHT_OUT_OF_RANGE),
        ({"update": BlobRef(digest="3" * 64, size=SIZE_MAX + 1)}, RefusalCode.TOO_LARGE),
        ({"attempt": 2}, RefusalCode.ROUND_UNKNOWN),
        ({"round": 2}, RefusalCode.ROUND_UNKNOWN),
    ],
    ids=lambda value: value if isinstance(value, RefusalCode) else str(value)[:24],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], code: RefusalCode) -> None:
    refusal = admit(opened().session, manifest(**changes), KEY, rides_along=False)
    assert refusal is not None
    assert refusal.code is code
    assert refusal.detail


@pytest.mark.parametrize(("size", "taken"), [(100, True), (101, False)])
def test_what_rides_along_has_the_sessions_limit(size: int, taken: bool) -> None:
    world = RoundWorld("ab")
    world.start(minimum=2, inline_bytes_max=100)
    told = manifest(update=BlobRef(digest="3" * 64, size=size))
    assert admit(world.session, told, KEY, rides_along=False) is None
    refusal = admit(world.session, told, KEY, rides_along=True)
    assert (refusal is None) == taken
    if refusal is not None:
        assert refusal.code is RefusalCode.TOO_LARGE
        assert "inline_bytes_max" in refusal.detail


def test_another_key_than_the_round_was_opened_with() -> None:
    refusal = admit(opened().session, manifest(), participant("b").key, rides_along=False)
    assert refusal is not None
    assert refusal.code is RefusalCode.KEY_CHANGED


def test_no_session() -> None:
    refusal = admit(None, manifest(), KEY, rides_along=False)
    assert refusal is not None
    assert refusal.code is RefusalCode.SESSION_UNKNOWN
    assert SESSION in refusal.detail


def code(world: RoundWorld, number: int, attempt: int) -> RefusalCode | None:
    refusal = admit_round(world.session, SESSION, number, attempt)
    return refusal.code if refusal else None


def test_attempts_before_and_after_the_open_one() -> None:
    world = opened()
    world.deadline()
    assert code(world, 1, 1) is RefusalCode.ROUND_CLOSED
    assert code(world, 1, 2) is None
    assert code(world, 1, 3) is RefusalCode.ROUND_UNKNOWN
    assert code(world, 2, 1) is RefusalCode.ROUND_UNKNOWN


def test_a_closing_round_still_takes_what_may_be_needed_if_it_opens_again() -> None:
    world = opened()
    world.store("ab")
    world.target()
    assert code(world, 1, 1) is None


def test_between_attempts_nothing_is_open() -> None:
    world = opened()
    world.online = "a"
    world.deadline()
    assert code(world, 1, 1) is RefusalCode.ROUND_CLOSED
    assert code(world, 1, 2) is RefusalCode.ROUND_UNKNOWN


def test_after_the_end_there_is_no_later_round() -> None:
    world = opened()
    world.give(StopSession())
    assert code(world, 1, 1) is RefusalCode.ROUND_CLOSED
    assert code(world, 9, 9) is RefusalCode.ROUND_CLOSED


def report(world: RoundWorld, letter: str, number: int) -> RefusalCode | None:
    refusal = admit_report(world.session, SESSION, number, client(letter))
    return refusal.code if refusal else None


def test_reports_come_from_the_cohort_that_made_the_model() -> None:
    world = opened()
    assert report(world, "a", 1) is RefusalCode.ROUND_UNKNOWN
    world.online = "bc"  # for the second round
    world.store("ab")
    world.target()
    world.finish()
    assert [report(world, letter, 1) for letter in "ab"] == [None, None]
    assert report(world, "c", 1) is RefusalCode.NOT_IN_COHORT
    assert report(world, "a", 2) is RefusalCode.ROUND_UNKNOWN
    world.store("bc")
    world.target()
    world.finish()
    assert report(world, "c", 2) is None
    assert report(world, "z", 1) is RefusalCode.NOT_IN_COHORT


def test_a_report_on_no_session() -> None:
    refusal = admit_report(None, SESSION, 1, client("a"))
    assert refusal is not None
    assert refusal.code is RefusalCode.SESSION_UNKNOWN
