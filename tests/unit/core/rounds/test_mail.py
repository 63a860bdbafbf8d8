"""What each client is told: tasks, receipts, and what is withdrawn."""

from fedbus_core.rounds.mail import addressees, models, receipts, tasks
from fedbus_core.rounds.state import Session
from fedbus_schemas.models import ModelRef
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.sessions import StopSession
from fedbus_schemas.tasks import Fate, Receipt, Task, TrainTask, ValidateTask

from tests.round_worlds import RoundWorld, client, model


def world_with_outcome(**settings: object) -> RoundWorld:
    """Five asked, three counted of which one was refused, one late and one silent."""
    world = RoundWorld("abcde")
    world.start(**{"rounds": 2, "minimum": 2, "target": 4, **settings})
    world.store("abc")
    world.deadline()
    world.store("d")
    world.finish(bad="a")
    return world


def inline(model: ModelRef) -> str | None:
    return f"bytes of {model.digest[:4]}"


def nothing_inline(_: ModelRef) -> str | None:
    return None


def tasks_of(state: Session, letter: str) -> list[Task]:
    return list(tasks(state, client(letter), nothing_inline))


def fates(state: Session, letters: str) -> dict[str, str]:
    return {letter: receipts(state, client(letter))[0].fate.value for letter in letters}


def test_a_train_task_says_all_that_a_client_needs() -> None:
    world = RoundWorld("ab")
    world.start(train={"lr": 0.5}, seed=7, inline_bytes_max=1_000)
    (task,) = tasks(world.session, client("a"), inline)
    assert isinstance(task, TrainTask)
    assert (task.round, task.attempt) == (1, 1)
    assert (task.model.digest, task.model.size) == (model(0).digest, model(0).size)
    assert task.model.inline == f"bytes of {model(0).digest[:4]}"
    assert task.settings == {"lr": 0.5}
    assert task.deadline == world.round.deadline
    assert task.weight_max == 2**20
    assert task.inline_bytes_max == 1_000
    assert task.trace_id == world.round.opened.trace_id
    (other,) = tasks(world.session, client("b"), inline)
    assert isinstance(other, TrainTask)
    assert other.seed != task.seed


def test_who_is_not_in_the_cohort_is_told_nothing() -> None:
    state = world_with_outcome().session
    assert tasks_of(state, "z") == []
    assert receipts(state, client("z")) == ()


def test_each_fate() -> None:
    state = world_with_outcome().session
    assert fates(state, "abcde") == {
        "a": Fate.REFUSED,
        "b": Fate.COUNTED,
        "c": Fate.COUNTED,
        "d": Fate.LATE,
        "e": Fate.LATE,
    }
    (refused,) = receipts(state, client("a"))
    assert refused.refusal is not None
    assert (refused.refusal.code, refused.refusal.detail) == (RefusalCode.NOT_FINITE, "a NaN")
    assert receipts(state, client("b")) == (
        Receipt(round=1, attempt=1, fate=Fate.COUNTED, model=model(1).digest),
    )


def test_an_attempt_without_a_model_gives_up_the_good_and_tells_the_bad() -> None:
    world = RoundWorld("abc")
    world.start(minimum=2)
    world.store("abc")
    world.target()
    world.finish(bad="ab")
    assert fates(world.session, "abc") == {
        "a": Fate.REFUSED,
        "b": Fate.REFUSED,
        "c": Fate.GIVEN_UP,
    }
    assert receipts(world.session, client("c"))[0].model is None


def test_a_stopped_round_is_given_up_and_its_task_withdrawn() -> None:
    world = RoundWorld("ab")
    world.start(minimum=1)
    assert tasks_of(world.session, "a")
    world.give(StopSession())
    assert tasks_of(world.session, "a") == []
    assert fates(world.session, "ab") == {"a": Fate.GIVEN_UP, "b": Fate.GIVEN_UP}


def test_stopping_between_rounds_leaves_the_last_outcome() -> None:
    world = world_with_outcome()
    world.online = ""
    world.give(StopSession())
    assert fates(world.session, "a") == {"a": Fate.GIVEN_UP}  # of round 2, which was open
    waiting = RoundWorld("")
    waiting.start(minimum=1)
    waiting.give(StopSession())
    assert list(addressees(waiting.session)) == []


def test_before_any_outcome_there_is_no_receipt() -> None:
    world = RoundWorld("ab")
    world.start(minimum=1)
    assert receipts(world.session, client("a")) == ()


def test_the_next_round_comes_with_a_validation_of_the_last_model() -> None:
    train, validate = tasks_of(world_with_outcome().session, "a")
    assert isinstance(train, TrainTask)
    assert train.round == 2
    assert isinstance(validate, ValidateTask)
    assert (validate.round, validate.model.digest) == (1, model(1).digest)


def test_without_validation_there_is_only_training() -> None:
    (train,) = tasks_of(world_with_outcome(validate=False).session, "a")
    assert isinstance(train, TrainTask)


def test_after_the_last_round_there_is_only_a_validation() -> None:
    (validate,) = tasks_of(world_with_outcome(rounds=1).session, "a")
    assert isinstance(validate, ValidateTask)


def test_those_asked_and_those_who_wait_for_a_receipt_are_told_once_each() -> None:
    world = world_with_outcome()
    assert list(addressees(world.session)) == [client(letter) for letter in "abcde"]
    world.online = "cdefg"
    world.store("bcde")
    world.deadline()
    world.finish()
    state = world.session
    told = list(addressees(state))
    assert len(told) == len(set(told))
    assert set(told) == {client(letter) for letter in "abcde"}


def test_who_left_still_hears_what_became_of_its_update() -> None:
    world = RoundWorld("abc")
    world.start(rounds=3, minimum=1)
    world.store("abc")
    world.target()
    world.online = "cd"
    world.finish()
    assert set(addressees(world.session)) == {client(letter) for letter in "abcd"}
    assert tasks_of(world.session, "a") != []
    assert not any(isinstance(each, TrainTask) for each in tasks_of(world.session, "a"))
    assert receipts(world.session, client("d")) == ()


def test_the_models_that_mail_names() -> None:
    world = RoundWorld("ab")
    world.start(rounds=2, minimum=1)
    assert models(world.session) == (model(0),)
    world.store("ab")
    world.target()
    world.online = ""
    world.finish()
    assert models(world.session) == (model(1),)
    world.online = "ab"
    world.deadline()
    assert models(world.session) == (model(1),)
    waiting = RoundWorld("")
    waiting.start(minimum=1)
    assert models(waiting.session) == ()
