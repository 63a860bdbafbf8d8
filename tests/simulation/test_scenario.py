"""Scenario files: they can be read, and what cannot is refused with its line and a hint."""

import pytest

from tests.simulation.plan import make_plan
from tests.simulation.scenario import BadScenario, load, names, parse


@pytest.mark.parametrize("name", names())
def test_every_scenario_says_what_it_is_about_and_can_be_planned(name: str) -> None:
    scenario = load(name)
    assert scenario.about.endswith(".")
    assert make_plan(scenario, 5) == make_plan(load(name), 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  clients 3", "t.txt line 1: begin a section first"),
        ("workloads\n", "'workloads' is no section; did you mean workload?"),
        (
            "workload\n  client 3",
            "line 2: 'client' is no word of the workload; did you mean clients?",
        ),
        ("workload\n  clients", "line 2: write clients and one value"),
        ("workload\n  clients many", "'many' is no number and no range low..high"),
        ("workload\n  clients 3..2", "'3..2' should go from a lower number to a higher one"),
        ("faults\n  crash redis 1 for 2", "'redis' is no target of crash; there are controller"),
        (
            "faults\n  crash controller 1",
            "write crash controller|combiner|service|client <how often> for",
        ),
        ("faults\n  flush redis 1 for 2", "write flush redis <how often>"),
        ("noise\n  dely 1", "did you mean delay?"),
        ("check\n  ends", "ends takes 1 numbers"),
        ("noise delay 1", "'noise' begins a section; put the rest below it"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadScenario) as refused:
        parse("t", text)
    assert said in str(refused.value)


def test_an_unknown_scenario_is_refused_with_a_hint() -> None:
    with pytest.raises(BadScenario, match="did you mean zombies"):
        load("zombie")
