"""The example of robust rules: a fifth of the clients lie, the mean collapses, the others hold."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "03_robust_rules.py"
ROBUST = ("median", "trimmed_mean", "krum", "multi_krum", "geometric_median")
POINTS_MAX = 0.03


@cache
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("robust_rules_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def accuracy(rule: str, attack: str) -> float:
    return float(example().accuracy(rule, attack))


@pytest.mark.parametrize("attack", ["sign flip", "scaling"])
def test_the_mean_collapses(attack: str) -> None:
    assert accuracy("fedavg", "none") > 0.9
    assert accuracy("fedavg", attack) < 0.3


@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize("attack", ["sign flip", "scaling", "alie", "label flip"])
def test_a_robust_rule_loses_at_most_three_points(rule: str, attack: str) -> None:
    """Against itself without an attack; Krum, one client's model, starts two points lower."""
    assert accuracy(rule, attack) > accuracy(rule, "none") - POINTS_MAX
