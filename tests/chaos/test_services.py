"""Services die or hang in mid-round: the round goes on, and the model is the undisturbed one bit for bit."""

import pytest
from fedbus_local.stack import LocalStack

from tests.chaos.faults import killed, stopped
from tests.chaos.plays import assert_harmless
from tests.stacks import Json
from tests.trainers import HUGE, LARGE, TINY

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


@pytest.mark.long
@pytest.mark.parametrize("name", [*CONTROLLERS, *COMBINERS])
async def test_the_others_go_on_without_a_process_that_sleeps(stack: LocalStack, name: str) -> None:
    what = f"SIGSTOP {name}, woken after the end"
    await assert_harmless(stack, what, stopped(name), through=True)


@pytest.mark.long
@pytest.mark.parametrize("names", [CONTROLLERS, COMBINERS], ids=["controllers", "combiners"])
async def test_sigkill_while_the_model_is_made_changes_nothing(
    stack: LocalStack, names: tuple[str, ...]
) -> None:
    what = f"SIGKILL {' '.join(names)}, closing"
    await assert_harmless(stack, what, killed(*names), model=HUGE, closing=True)


@pytest.mark.long
@pytest.mark.parametrize("name", COMBINERS)
async def test_sigkill_while_batches_are_folded_changes_nothing(
    stack: LocalStack, name: str
) -> None:
    what = f"SIGKILL {name}, batches"
    await assert_harmless(stack, what, killed(name), model=LARGE, clients=24, batch_size=4)
