"""Receipts for attempts that ended long ago, found in the log."""

from fedbus_core.rounds.history import receipt_from
from fedbus_core.rounds.log import read_entry
from fedbus_core.rounds.mail import receipts
from fedbus_schemas.events import AnyEvent
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import StopSession
from fedbus_schemas.tasks import Fate, Receipt

from tests.round_worlds import RoundWorld, client, model


def lived() -> RoundWorld:
    """A failed attempt, a completed one with a refusal, and an open round that was stopped."""
    world = RoundWorld("abc")
    world.start(rounds=3, minimum=2)
    world.store("a")
    world.deadline()
    world.finish()
    world.store("abc")
    world.target()
    world.finish(bad="a")
    world.give(StopSession())
    return world


def events(world: RoundWorld) -> list[AnyEvent]:
    return [event for data in world.log for event in read_entry(data)[1]]


def found(letter: str, number: int, attempt: int) -> Receipt | None:
    return receipt_from(events(lived()), number, attempt, client(letter))


def test_an_attempt_that_failed_was_given_up() -> None:
    receipt = found("a", 1, 1)
    assert receipt is not None
    assert (receipt.fate, receipt.model) == (Fate.GIVEN_UP, None)


def test_a_completed_attempt_tells_each_its_own() -> None:
    refused, counted = found("a", 1, 2), found("b", 1, 2)
    assert refused is not None
    assert refused.fate is Fate.REFUSED
    assert refused.refusal is not None
    assert refused.refusal.code is RefusalCode.NOT_FINITE
    assert counted == Receipt(round=1, attempt=2, fate=Fate.COUNTED, model=model(1).digest)


def test_who_never_answered_was_late() -> None:
    receipt = found("z", 1, 2)
    assert receipt is not None
    assert receipt.fate is Fate.LATE


def test_an_attempt_whose_end_is_not_in_the_log() -> None:
    assert found("a", 2, 1) is None
    assert found("a", 7, 1) is None
    assert receipt_from([], 1, 1, client("a")) is None


def test_an_end_without_its_opening_says_nothing() -> None:
    tail = events(lived())[2:]
    assert receipt_from(tail, 1, 1, client("a")) is None


def test_history_says_what_the_mail_said() -> None:
    world = RoundWorld("abc")
    world.start(rounds=3, minimum=2)
    for bad in ("", "a", "ab", "abc"):
        world.store("abc")
        world.target()
        world.finish(bad)
        outcome = world.session.outcome
        assert outcome is not None
        for letter in "abc":
            said = receipts(world.session, client(letter))
            again = receipt_from(events(world), outcome.number, outcome.attempt, client(letter))
            assert said == (again,)
