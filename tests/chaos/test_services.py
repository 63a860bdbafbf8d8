"""Services die or hang in mid-round: the round goes on, and the model is the undisturbed one bit for bit."""

import pytest
from fedbus_local.stack import LocalStack

from tests.chaos.faults import killed, stopped
from tests.chaos.plays import assert_harmless
from tests.stacks import Json
from tests.trainers import LARGE, TINY

long = pytest.mark.long
CONTROLLERS = ("controller-1", "controller-2")
COMBINERS = ("combiner-1", "combiner-2")


@pytest.mark.parametrize(
    ("names", "model"),
    [
        pytest.param(CONTROLLERS[:1], TINY, id="controller-1", marks=long),
        pytest.param(CONTROLLERS[1:], LARGE, id="controller-2", marks=long),
        pytest.param(CONTROLLERS, TINY, id="both-controllers"),
        pytest.param(COMBINERS[:1], LARGE, id="combiner-1", marks=long),
        pytest.param(COMBINERS[1:], TINY, id="combiner-2", marks=long),
        pytest.param(COMBINERS, LARGE, id="both-combiners"),
        pytest.param(("api",), TINY, id="api"),
        pytest.param((*CONTROLLERS, *COMBINERS, "api"), LARGE, id="everything", marks=long),
    ],
)
async def test_sigkill_changes_nothing(
    stack: LocalStack, names: tuple[str, ...], model: Json
) -> None:
    await assert_harmless(stack, f"SIGKILL {' '.join(names)}", killed(*names), model=model)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "controller-1" else long)
        for name in (*CONTROLLERS, *COMBINERS)
    ],
)
async def test_a_process_that_slept_changes_nothing(stack: LocalStack, name: str) -> None:
    await assert_harmless(stack, f"SIGSTOP {name}", stopped(name))
