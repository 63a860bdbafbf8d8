"""A service dies just before or after each of its calls to the outside: the session ends all the same.

One controller and one combiner run, so that the point is surely passed; the supervisor starts the dead one
again without the crash point. `make chaos` runs all points, else a few are taken by the commit's hash.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from fedbus_local.stack import LocalStack

from tests.chaos.crash_points import MODELS, RUNS, Point, Run, commit, points, sample
from tests.chaos.crash_scenes import HURT_IN, Stage
from tests.stacks import Federation, eventually, federation

CLIENTS = 3
ROUNDS = 3
DIES_WITHIN_S = 45.0
SAMPLED = sample(commit())


@pytest.fixture(scope="module")
def alone(own_stack: LocalStack) -> Iterator[LocalStack]:
    """The stack with one controller and one combiner."""
    own_stack.scale(controllers=1, combiners=1)
    yield own_stack
    own_stack.scale(controllers=2, combiners=2)
    own_stack.wait_healthy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fed(alone: LocalStack) -> AsyncIterator[Federation]:
    """One federation for all points: its clients live through every death."""
    async with federation(alone, CLIENTS) as running:
        yield running


@pytest.fixture(scope="module")
def calm() -> dict[tuple[str, int], str]:
    """The models of undisturbed sessions, by model and batch size."""
    return {}


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(one, id=str(one), marks=() if one in SAMPLED else pytest.mark.long)
        for one in points()
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_death_at_a_crash_point_changes_nothing(
    fed: Federation, calm: dict[tuple[str, int], str], tmp_path: Path, point: Point
) -> None:
    await asyncio.to_thread(fed.stack.wait_healthy)
    run = RUNS[point.site]
    kind = (run.model, run.batch_size)
    if kind not in calm:
        calm[kind] = await play(fed, run, None)
    assert await play(fed, run, Doom(fed.stack, point, tmp_path / "points.txt")) == calm[kind]


class Doom:
    """A crash point in the one service of its role."""

    def __init__(self, stack: LocalStack, point: Point, record: Path) -> None:
        self._stack = stack
        self._record = record
        self.point = point

    async def arm(self) -> None:
        """Start the service again with the crash point."""
        environment = {
            "FEDBUS_CRASH__ALLOW": "true",
            "FEDBUS_CRASH__AT": self.point.name,
            "FEDBUS_CRASH__COUNT": str(self.point.count),
            "FEDBUS_CRASH__RECORD": str(self._record),
        }
        await asyncio.to_thread(self._stack.restart, self.point.process, environment=environment)

    async def happens(self) -> None:
        """Return when the service has killed itself at its point."""

        async def look() -> bool:
            return any(line.startswith("killed ") for line in self._passed())

        await eventually(look, f"{self.point}; passed: {self._passed()}", DIES_WITHIN_S)
        assert self._passed()[-1] == f"killed {self.point.name}"

    def _passed(self) -> list[str]:
        return self._record.read_text().splitlines() if self._record.exists() else []


async def play(fed: Federation, run: Run, doom: Doom | None) -> str:
    """Run a session to its end, strike in the middle of its second round, and give its last model."""
    fed.gate.close(fed.names[2:], HURT_IN)
    session = await fed.start(MODELS[run.model], rounds=ROUNDS, batch_size=run.batch_size)
    story = fed.stories[session]
    try:
        await story.until(lambda: len(story.stored(HURT_IN)) >= 2, f"most of round {HURT_IN}")
        if doom is not None:
            await run.scene(Stage(fed, session, doom.point.process, doom.arm, doom.happens))
    finally:
        fed.gate.open()
    last = await fed.ended(session)
    await fed.assert_sound(session)
    assert [one["counted"] for one in await fed.rounds(session)] == [CLIENTS] * ROUNDS
    assert (await fed.ask("GET", "/v1/dead-letters"))["items"] == []
    return last


@pytest.fixture(scope="module", autouse=True)
def say_which(request: pytest.FixtureRequest) -> None:
    """Say which points were taken."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        chosen = ", ".join(map(str, SAMPLED))
        reporter.write_line(f"crash points of commit {commit()[:12]}: {chosen}")
