"""Runs simulations: one plan, a seed of a scenario, many seeds, and the smallest plan that still fails."""

import contextlib
import gc
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from tests.simulation.checks import check
from tests.simulation.loop import Stuck, VirtualLoop, abandon
from tests.simulation.plan import Plan, make_plan
from tests.simulation.recording import Recording
from tests.simulation.scenario import load
from tests.simulation.seams import seams
from tests.simulation.world import World

SHRINK_RUNS_MAX = 150
TRACE_LINES_MAX = 120
COLLECT_EVERY = 40
"""Garbage is collected between runs only: a collection in the middle would come at any moment."""


@dataclass(slots=True)
class Outcome:
    """What came of a run. No violations: all is well."""

    plan: Plan
    violations: list[str]
    ended_s: float = 0.0
    steps: int = 0
    models: dict[str, str] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def fingerprint(self) -> str:
        """The whole trace as one number: two runs of a plan have the same."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


@contextlib.contextmanager
def simulating() -> Iterator["Simulator"]:
    """Put the stand-ins in place, silence the logs, and give what runs simulations."""
    recording = Recording()
    before = structlog.get_config()
    noisy = logging.getLogger("fedbus")
    handler = _Handler(recording)
    propagate = noisy.propagate
    structlog.configure(
        processors=[recording.log],
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    noisy.propagate = False
    noisy.addHandler(handler)
    gc.collect()
    gc.disable()
    try:
        with seams(), warnings.catch_warnings():
            # A process that dies while it starts leaves loops that it has not begun.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield Simulator(recording)
            gc.collect()
    finally:
        gc.enable()
        noisy.removeHandler(handler)
        noisy.propagate = propagate
        structlog.configure(**before)


class _Handler(logging.Handler):
    """What the SDK logs, into the trace."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def emit(self, record: logging.LogRecord) -> None:
        self._recording.note("  sdk", record.getMessage())


class Simulator:
    """Runs plans, one after another; see `simulating`."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._calm: dict[Plan, Outcome] = {}
        self._runs = 0

    def seed(self, scenario: str, seed: int) -> Outcome:
        """Run one seed of a scenario."""
        return self.run(make_plan(load(scenario), seed))

    def run(self, plan: Plan, *, traced: bool = False) -> Outcome:
        """Run a plan and check what it left."""
        if not plan.same_model:
            return self._run(plan, {}, traced=traced)
        calm = self._undisturbed(plan)
        if not calm.ok:
            return calm
        return self._run(plan, calm.models, traced=traced)

    def shrink(self, outcome: Outcome) -> Outcome:
        """Take away faults, noise, clients and rounds while it fails as before; trace what is left."""
        smallest, left = outcome.plan, SHRINK_RUNS_MAX
        wanted = {_kind(text) for text in outcome.violations}
        shrunk = True
        while shrunk and left > 0:
            shrunk = False
            for plan in smallest.smaller():
                left -= 1
                if left < 0:
                    break
                if any(_kind(text) in wanted for text in self.run(plan).violations):
                    smallest, shrunk = plan, True
                    break
        return self.run(smallest, traced=True)

    def _undisturbed(self, plan: Plan) -> Outcome:
        """Run the same work with nothing bad happening: it says which model each session ends with."""
        calm = plan.undisturbed
        if calm not in self._calm:
            self._calm[calm] = self._run(calm, {}, traced=False)
        return self._calm[calm]

    def _run(self, plan: Plan, models: dict[str, str], *, traced: bool) -> Outcome:
        self._runs += 1
        if self._runs % COLLECT_EVERY == 0:
            gc.collect()
        self._recording.wanted = traced
        self._recording.lines = []
        level = logging.DEBUG if traced else logging.CRITICAL
        logging.getLogger("fedbus").setLevel(level)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
        loop = VirtualLoop(f"{plan.scenario}/{plan.seed}")
        stuck: list[str] = []
        world = World(plan, loop, self._recording)
        try:
            loop.run_until_complete(world.run())
        except Stuck as error:
            stuck.append(str(error))
        finally:
            abandon(loop)
        violations = stuck or check(world, models)
        return Outcome(
            plan,
            violations,
            ended_s=loop.time(),
            steps=world.steps,
            models={
                name: state.model.digest for name in world.names if (state := world.fold(name))
            },
            calls=world.calls(),
            trace=self._recording.lines,
        )


def _kind(violation: str) -> str:
    """What a violation is about, without names and numbers: a smaller plan must fail in the same way."""
    return re.sub(r"\b[cs]-?\w*\d\w*|\d+", "", violation)[:40]


def report(outcome: Outcome, first: Outcome | None = None) -> str:
    """Say what failed and how to see it again. `outcome` is shrunk, `first` what it was made from."""
    plan = outcome.plan
    seed = f"SCENARIO={plan.scenario} SEED={plan.seed}"
    lines = [f"scenario {plan.scenario}, seed {plan.seed} fails; again: make sim {seed} RUNS=1"]
    if first is not None:
        lines += [f"  ! {text}" for text in first.violations]
        lines += [f"the smallest plan that fails ({len(first.plan.faults)} faults before):"]
    lines += [f"  ! {text}" for text in outcome.violations]
    workers = ", ".join(f"{one.name} ({one.compute_s:.2f} s)" for one in plan.clients)
    lines += [f"  {plan.sessions} sessions, {plan.rounds} rounds, {workers}", f"  {plan.noise}"]
    lines += [f"  {fault}" for fault in plan.faults]
    if len(outcome.trace) > TRACE_LINES_MAX:
        lines += [f"its trace, the last {TRACE_LINES_MAX} of {len(outcome.trace)} lines:"]
    lines += outcome.trace[-TRACE_LINES_MAX:]
    return "\n".join(lines)
