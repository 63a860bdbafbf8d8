"""Every model comes out again, whatever the order and the batches; and what it says when one does not."""

from typing import Any

import numpy as np
import pytest
from fedbus_core.aggregation import tensorfile
from fedbus_core.audit.bundle import AbsentBlob
from fedbus_core.audit.difference import Difference, difference
from fedbus_core.audit.replay import Verdict, WhatIf
from fedbus_schemas import keys
from fedbus_schemas.sessions import SessionSettings

from tests import audit_worlds as worlds
from tests.audit_worlds import CLIENTS, CONTROLLER, PROJECT

A, B, C = CLIENTS


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("order_seed", [0, 1, 2])
def test_every_order_and_batching_reproduces_the_models(batch_size: int, order_seed: int) -> None:
    bundle = worlds.three_rounds().bundle()
    report = worlds.replay(bundle, batch_size=batch_size, order_seed=order_seed)
    assert report.ok, report.problem
    assert [(one.round, one.attempt, one.updates) for one in report.rounds] == [
        (1, 1, 3),
        (2, 1, 2),
        (3, 2, 1),
    ]
    assert all(one.found == one.expected for one in report.rounds)


def test_derived_models_are_not_needed() -> None:
    assert worlds.replay(worlds.three_rounds().without_models().bundle()).ok


def test_tensors_on_the_one_limb_grid_are_reproduced_too() -> None:
    maker = worlds.Maker(SessionSettings(rounds=2, target=3), shape=(300, 300))
    for number in range(2):
        for client in CLIENTS:
            maker.store(client, 5 + number, inline=False)
        maker.close()
        maker.finish()
    bundle = maker.world.without_models().bundle()
    assert worlds.verify(bundle, removed=True).ok
    assert worlds.replay(bundle, batch_size=2).ok


def test_a_batch_has_at_least_one_update() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        worlds.replay(worlds.one_round().bundle(), batch_size=0)


def test_rounds_are_told_as_they_are_done() -> None:
    told: list[int] = []
    bundle = worlds.three_rounds().bundle()
    worlds.replay(bundle, on_round=lambda one: told.append(one.round))
    assert told == [1, 2, 3]


def test_a_false_model_in_the_log_differs() -> None:
    """A controller that signs for another model is found by making the model again."""
    world = worlds.one_round()
    number = world.entries_with("round.completed.v1")[0]

    def other_model(entry: dict[str, Any]) -> None:
        completed, ended = entry["events"]
        first = world.events(1)[0]["data"]["model"]
        completed["data"]["model"] = first
        ended["data"]["model"] = first["digest"]

    bundle = worlds.rechain(world, number, other_model, signer=CONTROLLER).bundle()
    report = worlds.replay(bundle)
    assert not report.ok
    assert report.rounds[0].verdict is Verdict.DIFFERS
    assert report.rounds[0].found == worlds.replay(world.bundle()).rounds[0].found


def test_without_a_client_is_the_mean_of_the_others() -> None:
    world = worlds.three_rounds()
    report = worlds.replay(world.bundle(), what_if=WhatIf(frozenset({A})))
    assert report.ok
    first, second, third = (one.counterfactual for one in report.rounds)
    assert first is not None
    assert first.left_out == (A,)
    assert first.difference is not None
    assert first.difference.tensor == "w"
    assert 0 < first.difference.largest < 1
    assert second is not None
    assert second.digest not in (None, report.rounds[1].found)
    assert third is not None
    assert third.left_out == ()
    assert third.digest == report.rounds[2].found
    assert third.difference == Difference(0.0, "")


def test_the_counterfactual_model_is_the_one_a_session_of_the_others_makes() -> None:
    maker = worlds.Maker(SessionSettings(rounds=1, target=2))
    maker.store(B, 25)
    maker.store(C, 3)
    maker.close()
    maker.finish()
    others = worlds.replay(maker.world.bundle()).rounds[0].found
    maker = worlds.Maker(SessionSettings(rounds=1, target=3))
    maker.store(A, 10)
    maker.store(B, 25)
    maker.store(C, 3)
    maker.close()
    maker.finish()
    found = worlds.replay(
        maker.world.bundle(), what_if=WhatIf(frozenset({A})), batch_size=1
    ).rounds[0]
    assert found.counterfactual is not None
    assert found.counterfactual.digest == others


def test_without_everybody_there_is_no_model() -> None:
    report = worlds.replay(worlds.one_round().bundle(), what_if=WhatIf(frozenset(CLIENTS)))
    assert report.ok
    assert report.rounds[0].counterfactual is not None
    assert report.rounds[0].counterfactual.digest is None


def test_a_missing_update_makes_one_round_impossible_and_the_next_starts_from_the_log() -> None:
    world = worlds.three_rounds()
    key = next(key for key in world.blobs if f"/updates/{B}" in key)
    world.absent = [AbsentBlob(key=key, size=len(world.blobs.pop(key)), why="pruned")]
    report = worlds.replay(world.bundle())
    assert [one.verdict for one in report.rounds] == [
        Verdict.IMPOSSIBLE,
        Verdict.REPRODUCED,
        Verdict.REPRODUCED,
    ]
    assert "pruned" in report.rounds[0].detail
    assert not report.ok
    report = worlds.replay(world.without_models().bundle())
    assert [one.verdict for one in report.rounds] == [
        Verdict.IMPOSSIBLE,
        Verdict.IMPOSSIBLE,
        Verdict.IMPOSSIBLE,
    ]


def test_an_update_that_should_have_been_refused_is_not_folded() -> None:
    world = worlds.one_update()
    key = next(key for key in world.blobs if "/updates/" in key)
    world.blobs[key] = world.blobs[key][:-1] + b"\x7f"
    report = worlds.replay(world.bundle())
    assert report.rounds[0].verdict is Verdict.IMPOSSIBLE
    assert "is not the blob" in report.rounds[0].detail


def test_another_version_of_the_rule_is_not_guessed() -> None:
    world = worlds.one_round()

    def newer(entry: dict[str, Any]) -> None:
        entry["events"][0]["data"]["rule"] = "fedavg/2"

    number = world.entries_with("round.completed.v1")[0]
    report = worlds.replay(worlds.rechain(world, number, newer, signer=CONTROLLER).bundle())
    assert report.rounds[0].verdict is Verdict.IMPOSSIBLE
    assert "fedavg/2" in report.rounds[0].detail


def test_a_broken_log_ends_the_replay_and_says_where() -> None:
    world = worlds.three_rounds()
    world.log[4] = b"{}"
    report = worlds.replay(world.bundle())
    assert not report.ok
    assert "log/00000005.json" in report.problem
    assert len(report.rounds) == 1
    assert not worlds.replay(b"x" * 5000).readable


def test_without_the_first_model_nothing_can_be_made() -> None:
    world = worlds.one_round()
    del world.blobs[keys.model(PROJECT, world.events(1)[0]["data"]["model"]["digest"])]
    report = worlds.replay(world.bundle())
    assert "is not in the bundle" in report.problem


def test_difference_looks_at_floats_only() -> None:
    one: dict[str, tensorfile.Array] = {
        "a": np.array([1.0, 2.0], np.float32),
        "n": np.array([1], np.int64),
    }
    other: dict[str, tensorfile.Array] = {
        "a": np.array([1.0, 2.5], np.float32),
        "n": np.array([9], np.int64),
    }
    found = difference(tensorfile.write(one), tensorfile.write(other))
    assert found == Difference(0.5, "a")
    with pytest.raises(ValueError, match="layouts"):
        difference(tensorfile.write(one), tensorfile.write({"a": one["a"]}))
