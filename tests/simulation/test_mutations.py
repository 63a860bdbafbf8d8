"""The simulation finds every planted bug: who watches the watchman."""

import re

import pytest

from tests.simulation.mutation import Mutation
from tests.simulation.mutations import MUTATIONS
from tests.simulation.simulate import Outcome, simulating

SEEDS_MAX = 1_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found(mutation: Mutation) -> None:
    found = hunt(mutation)
    assert found is not None, f"{SEEDS_MAX} seeds do not find it: {mutation.about}"


def hunt(mutation: Mutation) -> Outcome | None:
    """Run the scenarios of a mutation until a seed fails for the right reason; give that run."""
    share = SEEDS_MAX // len(mutation.scenarios)
    with simulating() as simulator, mutation.planted():
        for scenario in mutation.scenarios:
            for seed in range(share):
                outcome = simulator.seed(scenario, seed)
                if any(re.search(mutation.shows, text) for text in outcome.violations):
                    return outcome
    return None
