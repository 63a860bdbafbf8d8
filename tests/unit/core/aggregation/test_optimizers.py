"""Server optimizers against vectors of the paper's formulas and of flwr 1.42, and their identities."""

import numpy as np
import pytest
from fedbus_core.aggregation.tensorfile import write

from tests.rule_worlds import Play, Update, play, settings, xs

START = np.full(4, 0.1)
REPLIES = [
    Update({"x": np.array([0.3, -0.2, 0.2, 0.9])}, 1),
    Update({"x": np.array([0.8, 0.4, 1.0, -1.0])}, 3),
]
"""The same replies in each round; peers research, 5.3."""

VECTORS = [
    (
        "fedadagrad",
        {"learning_rate": 0.1, "tau": 1e-3, "second_moment_start": 0.0},
        {
            1: [0.1998263888888889, 0.19933774834437087, 0.1998573466476462, 0.0001597444089456862],
            3: [0.31169490479990114, 0.24289330334197856, 0.3150233570353261, -0.11320480567459112],
        },
    ),
    (
        "fedyogi",
        {"learning_rate": 0.01, "second_moment_start": 0.0},
        {
            1: [0.10982905982905983, 0.109375, 0.10985915492957747, 0.09015748031496064],
            3: [0.13855619680756706, 0.13706863266296748, 0.1386499782707702, 0.06140178806272428],
        },
    ),
    (
        "fedadam",
        {"bias_correction": "flower"},
        {
            1: [0.17297681680888788, 0.16960560516282513, 0.17320026082851092, 0.02692324917288702],
            3: [0.34515383816828776, 0.30983695552446866, 0.3463333433698611, -0.14569414038572076],
        },
    ),
    (
        "fedadam",
        {"second_moment_start": 0.0},
        {
            1: [0.19829059829059825, 0.19375, 0.1985915492957746, 0.0015748031496063686],
            3: [0.47987775279316097, 0.37131923178260107, 0.48281738447031636, -0.2812453546689102],
        },
    ),
    (
        "fedadam",
        {},
        {1: [0.19827613733276245, 0.1935572499642721, 0.19858173128924694, 0.0015870768657130357]},
    ),
    (
        "fedavgm",
        {"learning_rate": 0.5, "momentum": 0.9},
        {
            1: [0.3875, 0.175, 0.45, -0.2125],
            2: [0.79, 0.28, 0.94, -0.65],
            3: [1.09475, 0.3595, 1.311, -0.98125],
        },
    ),
]


@pytest.mark.parametrize(("name", "parameters", "expected"), VECTORS)
def test_vectors(
    name: str, parameters: dict[str, object], expected: dict[int, list[float]]
) -> None:
    game = play(name, START, **parameters)
    for number in range(1, 4):
        found = xs(game.round(REPLIES))
        if number in expected:
            np.testing.assert_allclose(found, expected[number], rtol=0, atol=2e-15)


def test_an_adagrad_vector_of_flower() -> None:
    """One round, eta 0.1, tau 0.5, from 0.1 to 0.15."""
    parameters = {"learning_rate": 0.1, "tau": 0.5, "second_moment_start": 0.0}
    game = play("fedadagrad", START, **parameters)
    replies = [Update({"x": np.full(4, value)}, 5) for value in (0.2, 1.0)]
    np.testing.assert_allclose(xs(game.round(replies)), 0.15, rtol=0, atol=1e-16)


def test_adams_own_bias_correction() -> None:
    """Kingma and Ba, algorithm 1, written out."""
    game = play("fedadam", START, bias_correction="adam")
    x, m, v = START.copy(), np.zeros(4), np.zeros(4)
    mean = np.array([0.675, 0.25, 0.8, -0.525])
    for t in range(1, 6):
        delta = mean - x
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        x = x + 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-3)
        np.testing.assert_allclose(xs(game.round(REPLIES)), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("fedavgm", {"momentum": 0.0}), ("fedprox", {"mu": 0.0}), ("fedprox", {"mu": 3.0})],
)
def test_without_its_extra_a_rule_is_the_mean(name: str, parameters: dict[str, object]) -> None:
    found = xs(play(name, START, **parameters).round(REPLIES))
    np.testing.assert_allclose(found, xs(play("fedavg", START).round(REPLIES)), rtol=0, atol=1e-16)


def test_with_a_large_tau_adam_goes_where_the_mean_is() -> None:
    """With both betas 0 and tau large the step is D * eta / tau."""
    parameters = {"beta1": 0.0, "beta2": 0.0, "tau": 1e6, "learning_rate": 1e6}
    found = xs(play("fedadam", START, **parameters).round(REPLIES))
    np.testing.assert_allclose(found, [0.675, 0.25, 0.8, -0.525], rtol=1e-5)


def test_fednova_by_its_formula() -> None:
    steps = [5, 20]
    replies = [
        Update(one.arrays, 100 * one.weight, {"local_steps": float(tau)})
        for one, tau in zip(REPLIES, steps, strict=True)
    ]
    shares = np.array([0.25, 0.75])
    tau = float((shares * steps).sum())
    deltas = [np.asarray(one.arrays["x"], "f8") - START for one in REPLIES]
    expected = START + tau * (shares[0] * deltas[0] / 5 + shares[1] * deltas[1] / 20)
    np.testing.assert_allclose(xs(play("fednova", START).round(replies)), expected, rtol=1e-12)


def test_fednova_with_equal_steps_is_the_mean() -> None:
    replies = [Update(one.arrays, one.weight, {"local_steps": 4.0}) for one in REPLIES]
    found = xs(play("fednova", START).round(replies))
    np.testing.assert_allclose(found, xs(play("fedavg", START).round(REPLIES)), rtol=1e-13)


def test_fednova_refuses_an_update_without_steps() -> None:
    with pytest.raises(AssertionError, match="local_steps"):
        play("fednova", START).round(REPLIES)


def test_uniform_weights() -> None:
    found = xs(play("fedavg", START, weighting="uniform").round(REPLIES))
    np.testing.assert_allclose(found, [0.55, 0.1, 0.6, -0.05], rtol=0, atol=1e-16)


@pytest.mark.parametrize("name", ["fedavgm", "fedadagrad", "fedadam", "fedyogi"])
def test_batches_and_order_change_no_bit_of_model_and_state(name: str) -> None:
    rng = np.random.default_rng(5)
    start = {"a": rng.normal(size=(70_000,)).astype("f4"), "b": np.zeros(3), "n": np.array(4)}
    game = Play(settings(name), write(start))
    for _ in range(2):
        updates = [
            Update(
                {
                    "a": (start["a"] + rng.normal(size=70_000) * 0.01).astype("f4"),
                    "b": rng.normal(size=3),
                    "n": np.array(int(rng.integers(9))),
                },
                int(rng.integers(1, 1000)),
            )
            for _ in range(7)
        ]
        made = [
            game.make(updates, batches)
            for batches in ([], [[6, 0], [3], [5, 4, 1, 2]], [[i] for i in reversed(range(7))])
        ]
        assert len({(bytes(one.model), bytes(one.state or b"")) for one in made}) == 1
        game.round(updates)


def test_a_zero_step_keeps_all_values_finite() -> None:
    huge = [Update({"x": np.full(4, 2.0**32)}, 1)]
    game = play("fedavgm", START, learning_rate=1e6)
    assert np.abs(xs(game.round(huge))).max() == 2.0**32


def test_a_foreign_state_is_refused() -> None:
    game = play("fedadam", START)
    game.round(REPLIES)
    other = Play(settings("fedavgm"), game.model, game.state)
    with pytest.raises(ValueError, match="remembers"):
        other.make(REPLIES)
