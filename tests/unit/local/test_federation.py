"""A federation in memory: production code, reproducible, and what a trainer does wrong comes out."""

import runpy
import threading
from pathlib import Path
from typing import Any

import fedbus
import numpy as np
import pytest
from fedbus import Model, Settings
from fedbus_local.testing import Federation, FederationFailed

from tests.trainers import LARGE, TINY, train, validate

ROOT = Path(__file__).parents[3]
Result = tuple[Model, int, dict[str, float]]


def mean(model: Model, settings: Settings) -> tuple[int, dict[str, float]]:
    return 1, {"mean": float(model["w"].mean())}


@pytest.mark.parametrize("model", [TINY, LARGE], ids=["inside-messages", "through-the-store"])
def test_the_rounds_models_and_metrics_come_back(model: Model) -> None:
    def step(model: Model, settings: Settings) -> Result:
        model["w"] += settings["step"]
        return model, 10, {"loss": 1 / settings.round}

    federation = Federation([fedbus.Trainer(step, mean), step], model)
    ran = federation.run(rounds=2, train={"step": 0.5})
    assert [each.number for each in ran.rounds] == [1, 2]
    assert float(ran.rounds[0].model["w"].max()) == 0.5
    assert float(ran.model["w"].min()) == 1.0
    assert [each.metrics for each in ran.rounds] == [{"loss": 1.0}, {"loss": 0.5}]
    assert ran.rounds[1].weight == 20
    assert ran.rounds[1].counted == ("site-1", "site-2")
    assert ran.rounds[1].validations == {"site-1": {"mean": 1.0}}


def test_a_large_update_goes_through_the_store_in_pieces() -> None:
    def step(model: Model, settings: Settings) -> Result:
        model["w"] += 1
        return model, 1, {}

    ran = Federation([step], {"w": np.zeros(5_000_000, np.float32)}).run(rounds=2)
    assert ran.model["w"].min() == ran.model["w"].max() == 2


def test_the_same_is_the_same_bits_each_time() -> None:
    ran = [Federation([train] * 5, TINY).run(rounds=3, seed=7) for _ in range(2)]
    for first, second in zip(ran[0].rounds, ran[1].rounds, strict=True):
        assert first.weight == second.weight
        for name, tensor in first.model.items():
            assert tensor.tobytes() == second.model[name].tobytes()
    other = Federation([train] * 5, TINY).run(rounds=3, seed=8)
    assert other.model["w"].tobytes() != ran[0].model["w"].tobytes()


def test_what_a_trainer_raises_comes_out() -> None:
    def breaks(model: Model, settings: Settings) -> Result:
        raise ZeroDivisionError("by my own fault")

    with pytest.raises(FederationFailed, match="by my own fault") as raised:
        Federation([train, breaks], TINY).run(rounds=1)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_what_cannot_be_sent_comes_out() -> None:
    def forgets(model: Model, settings: Settings) -> Result:
        del model["b"]
        return model, 1, {}

    with pytest.raises(FederationFailed, match="tensor 'b' of the model is missing"):
        Federation([forgets], TINY).run(rounds=1)


def test_a_refused_update_is_told_with_its_reason() -> None:
    def wild(model: Model, settings: Settings) -> Result:
        model["w"] += np.float32(1e30)
        return model, 1, {}

    ran = Federation([train, wild], TINY).run(rounds=1, minimum=1)
    assert ran.rounds[0].counted == ("site-1",)
    assert ran.rounds[0].refused["site-2"].startswith("out_of_range")


def test_a_session_that_fails_says_why() -> None:
    def slow(model: Model, settings: Settings) -> Result:
        threading.Event().wait(1.0)
        return model, 1, {}

    settings: dict[str, Any] = {"attempts_max": 1, "below_minimum": "fail", "round_timeout_s": 0.2}
    with pytest.raises(FederationFailed, match="failed in round 1"):
        Federation([train, slow], TINY).run(rounds=1, **settings)


def test_a_run_is_bounded() -> None:
    going = threading.Event()

    def waits(model: Model, settings: Settings) -> Result:
        while not settings.cancelled():
            going.wait(0.01)
        return model, 1, {}

    with pytest.raises(TimeoutError):
        Federation([waits], TINY).run(timeout_s=1)


def test_a_task_withdrawn_when_its_round_closes_stops_the_training() -> None:
    withdrawn = []

    def waits(model: Model, settings: Settings) -> Result:
        while not settings.cancelled():
            threading.Event().wait(0.01)
        withdrawn.append(settings.round)
        return model, 1, {}

    ran = Federation([train, fedbus.Trainer(train, validate), waits], TINY).run(
        rounds=2, target=2, minimum=2
    )
    assert [each.counted for each in ran.rounds] == [("site-1", "site-2")] * 2
    assert withdrawn[0] == 1


async def test_it_runs_in_a_loop_too() -> None:
    ran = await Federation([train], TINY).run_async(rounds=1)
    assert len(ran.rounds) == 1


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        Federation([train], TINY).run(learning_rate=0.1)


def test_the_example_runs() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "02_test_your_trainer.py"))
    example["test_three_sites_learn_one_line"]()
