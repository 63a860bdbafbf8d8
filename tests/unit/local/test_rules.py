"""Whole federations by each rule, in memory: lies are outvoted by the robust rules and ruin the mean."""

import fedbus
import numpy as np
import pytest
from fedbus_local.testing import Federation
from fedbus_schemas.aggregators import AGGREGATORS

HONEST = [0.9, 0.95, 1.0, 1.05, 1.1, 1.0, 1.02, 0.98]


def client(value: float) -> fedbus.TrainFunction:
    def train(model, settings):
        model["w"][:] = value
        return model, 10, {"local_steps": 5.0, "mu": settings.get("proximal_mu", -1.0)}

    return train


def federation(lie: float) -> Federation:
    clients = [client(value) for value in (*HONEST, lie, lie)]
    return Federation(clients, {"w": np.zeros(40, np.float32)})


@pytest.mark.parametrize("aggregator", sorted(AGGREGATORS.keys() - {"server_functions"}))
def test_every_rule_runs_rounds_to_their_end(aggregator: str) -> None:
    """All but server functions, which are no rule without somebody's code (tests/e2e has them)."""
    ran = federation(1.0).run(rounds=2, aggregator=aggregator)
    assert np.isfinite(ran.model["w"]).all()
    assert len(ran.rounds) == 2
    assert ran.rounds[0].metrics["mu"] == (0.01 if aggregator == "fedprox" else -1.0)


@pytest.mark.parametrize(
    ("aggregator", "parameters"),
    [
        ("median", {}),
        ("trimmed_mean", {"trim": 0.2}),
        ("krum", {"byzantine": 2}),
        ("multi_krum", {"byzantine": 2}),
        ("geometric_median", {}),
    ],
)
@pytest.mark.parametrize("lie", [-1.0, 1e6])
def test_a_fifth_that_lies_is_outvoted(
    aggregator: str, parameters: dict[str, object], lie: float
) -> None:
    ran = federation(lie).run(rounds=1, aggregator=aggregator, aggregator_parameters=parameters)
    assert np.abs(ran.model["w"] - 1.0).max() < 0.11
    plain = federation(lie).run(rounds=1)
    assert np.abs(plain.model["w"] - 1.0).min() > 0.3
