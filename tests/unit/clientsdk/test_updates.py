"""What a train function may return, and what is made of it."""

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from Crypto.Signature import eddsa
from fedbus import Model, Settings, _tensorfile, _updates
from fedbus._store import in_memory
from fedbus.errors import BadResult
from fedbus.testing import run_once
from fedbus_schemas import signing
from fedbus_schemas.updates import Submission, Timings

KINDS = {"b": ("F32", ()), "w": ("F32", (3,)), "n": ("I32", (2,))}
GOOD = {"b": np.float32(1), "w": np.ones(3, np.float32), "n": np.array([1, 2], np.int32)}


def trained(model: object, weight: object = 5, metrics: object = None) -> _updates.Trained:
    return _updates.check_trained((model, weight, {} if metrics is None else metrics), KINDS, 10)


def test_a_good_result_becomes_a_file() -> None:
    result = trained(GOOD, metrics={"loss": np.float32(0.5), "steps": 3})
    assert result.weight == 5
    assert result.metrics == {"loss": 0.5, "steps": 3.0}
    assert result.result.joined() == _tensorfile.write({k: np.asarray(v) for k, v in GOOD.items()})


def test_lists_and_other_floats_are_cast_to_the_models_type() -> None:
    result = trained({"b": 1, "w": [1.0, 1.0, 1.0], "n": np.array([1, 2], np.int64)})
    assert result.result.joined() == trained(GOOD).result.joined()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w": np.ones(4, np.float32)}, r"tensor 'w' has the shape \(4,\), the model's has \(3,\)"),
        ({"w": np.array([1, np.nan, np.inf])}, "tensor 'w' holds NaN or infinity in 2 of 3"),
        ({"w": np.array([1e300, 1, 1])}, "tensor 'w' holds NaN or infinity in 1 of 3"),
        ({"w": ["a", "b", "c"]}, "tensor 'w' has the element type"),
        ({"w": [[1], [1, 2], []]}, "tensor 'w' cannot be made an array"),
        ({"w": None}, "tensor 'w' has the shape"),
        ({"n": np.array([1.5, 2.0])}, "tensor 'n' has the element type float64"),
        ({"n": np.array([2**40, 0])}, "tensor 'n' holds a whole number that does not fit"),
        ({"n": np.array([True, False])}, "tensor 'n' has the element type bool"),
        ({"extra": np.ones(1)}, "tensor 'extra' of the result is not in the model"),
    ],
)
def test_a_bad_tensor_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(BadResult, match=says):
        trained(GOOD | change)


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(BadResult, match="tensor 'n' of the model is missing"):
        trained({"b": GOOD["b"], "w": GOOD["w"]})


@pytest.mark.parametrize("weight", [0, 11, -1, 1.0, True, "5", None])
def test_a_weight_must_be_a_whole_number_in_range(weight: object) -> None:
    with pytest.raises(BadResult, match="number of examples"):
        trained(GOOD, weight)


def test_numpys_whole_numbers_are_weights() -> None:
    assert trained(GOOD, np.int64(7)).weight == 7


@pytest.mark.parametrize(
    "metrics",
    [[("loss", 1)], {"loss": "low"}, {1: 1.0}, {"x" * 200: 1.0}, {str(n): n for n in range(65)}],
)
def test_bad_metrics_are_refused(metrics: object) -> None:
    with pytest.raises(BadResult, match="metric"):
        trained(GOOD, metrics=metrics)


def test_a_metric_that_is_not_finite_is_left_out_and_costs_nothing_else() -> None:
    result = trained(GOOD, metrics={"loss": float("nan"), "acc": 1})
    assert result.metrics == {"acc": 1.0}
    assert result.left_out == ("loss",)


@pytest.mark.parametrize("result", [None, GOOD, (GOOD, 1), (GOOD, 1, {}, 2), ([1], 1, {})])
def test_another_form_of_result_is_refused(result: object) -> None:
    with pytest.raises(BadResult, match="train must return"):
        _updates.check_trained(result, KINDS, 10)


def test_a_bfloat16_model_takes_float32_and_its_range_is_checked() -> None:
    kinds = {"w": ("BF16", (2,))}
    ends = np.array([0x7F7F7FFF, 0x7F7F8000], np.uint32).view(np.float32)
    result = _updates.check_trained(({"w": np.array([1.0, ends[0]])}, 1, {}), kinds, 10)
    assert _tensorfile.kinds(result.result.joined()) == kinds
    assert np.isfinite(_tensorfile.read(result.result.joined())["w"]).all()
    with pytest.raises(BadResult, match="too large for bfloat16"):
        _updates.check_trained(({"w": np.array([1.0, ends[1]])}, 1, {}), kinds, 10)


def test_a_validation_is_checked_too() -> None:
    assert _updates.check_measured((3, {"acc": 1})) == _updates.Measured(3, {"acc": 1.0})
    wrong: list[object] = [3, (3,), (-1, {}), (1, None)]
    for bad in wrong:
        with pytest.raises(BadResult):
            _updates.check_measured(bad)


def made(world: Any, **task: object) -> _updates.Update:
    return _updates.make(
        project="demo",
        session="s-1",
        client=world.client,
        task=world.train(2, 3, **task),
        trained=trained(GOOD, metrics={"loss": 0.5}),
        timings=Timings(train_s=1.5),
        public_key=world.keys.public,
        sign=world.keys.sign,
    )


def test_the_manifest_names_the_file_and_is_signed(world: Any) -> None:
    update = made(world)
    submission = Submission.model_validate_json(update.submission)
    manifest = submission.content()
    file = trained(GOOD).result.joined()
    assert manifest.update.digest == hashlib.sha256(file).hexdigest()
    assert (manifest.round, manifest.attempt, manifest.weight) == (2, 3, 5)
    assert manifest.base == world.train().model.digest
    key = eddsa.import_public_key(signing.decode(submission.key))
    eddsa.new(key, "rfc8032").verify(
        signing.message(signing.MANIFEST, submission.manifest), signing.decode(submission.signature)
    )


def test_a_small_file_rides_along_and_a_larger_one_does_not(world: Any) -> None:
    small = made(world)
    assert small.rides_along
    assert small.file is None
    assert "inline" in json.loads(small.submission)
    large = made(world, inline_bytes_max=10)
    assert not large.rides_along
    assert in_memory(large).file == trained(GOOD).result.joined()
    assert "inline" not in json.loads(large.submission)


def test_a_kept_submission_is_the_same_update_again(world: Any) -> None:
    update = made(world)
    assert _updates.reopen(update.submission) == update
    with pytest.raises(ValueError, match="validation error"):
        _updates.reopen(b"{}")


def test_a_trainer_can_be_tried_without_servers() -> None:
    def train(model: Model, settings: Settings) -> tuple[Model, int, dict[str, float]]:
        model["w"] += settings["lr"] * settings.round
        return model, 4, {"loss": 0.25}

    tried = run_once(train, {"w": np.zeros(2)}, {"lr": 0.5})
    assert tried.model["w"].tolist() == [0.5, 0.5]
    assert (tried.weight, tried.metrics) == (4, {"loss": 0.25})
    with pytest.raises(BadResult, match="'w'"):
        run_once(lambda model, _: ({"w": [1.0]}, 1, {}), {"w": np.zeros(2)})
