"""A plan: all that a seed chooses in a scenario, written out, so that parts of it can be taken away."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.simulation.scenario import Range, Scenario

CONTROLLERS = ("controller-1", "controller-2")
COMBINERS = ("combiner-1", "combiner-2")
SERVERS = ("bus", "redis", "store")
SLEEP_S = 1e7


@dataclass(frozen=True, slots=True)
class Fault:
    """Something bad that happens once.

    `step` counts the port calls of the process it meets; for a server those of all processes. `after`:
    not before the call, but after its effect and before its answer.
    """

    kind: str
    target: str
    step: int
    after: bool
    for_s: float

    def __str__(self) -> str:
        side = "after" if self.after else "before"
        lasting = f", for {self.for_s:.2f} s" if self.for_s else ""
        return f"{self.kind} {self.target} {side} port call {self.step}{lasting}"


@dataclass(frozen=True, slots=True)
class Noise:
    """What goes wrong by chance until `until_s`: shares of calls and deliveries; `delay` is a mean."""

    delay: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    hold: float = 0.0
    deaf: float = 0.0
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """One client: `honest`, `late`, `sleeper` or `liar`; how long it trains; whether it has a disk."""

    name: str
    kind: str
    compute_s: float
    durable: bool
    skew_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulation, to the last detail that chance decides before it begins."""

    scenario: str
    seed: int
    clients: tuple[ClientPlan, ...]
    sessions: int
    rounds: int
    target: int | None
    minimum: int
    deadline_s: float
    attempts: int
    batch: int
    inline: int
    validate: bool
    noise: Noise
    faults: tuple[Fault, ...]
    ends_s: float
    same_model: bool
    fails: bool

    @property
    def undisturbed(self) -> "Plan":
        """The same work with nothing bad happening, whatever the seed."""
        clients = tuple(replace(one, compute_s=0.1, durable=True, skew_s=0) for one in self.clients)
        return replace(self, seed=0, clients=clients, noise=Noise(), faults=())

    def smaller(self) -> Iterator["Plan"]:
        """Give plans with one thing less, the biggest things first."""
        half = len(self.faults) // 2
        if half > 1:
            yield replace(self, faults=self.faults[half:])
            yield replace(self, faults=self.faults[:half])
        if self.noise != Noise():
            yield replace(self, noise=Noise())
        if self.sessions > 1:
            yield replace(self, sessions=self.sessions - 1)
        if self.rounds > 1:
            yield replace(self, rounds=self.rounds - 1)
        yield from self._with_fewer_clients()
        for place in range(len(self.faults)):
            yield replace(self, faults=self.faults[:place] + self.faults[place + 1 :])
        for name in ("loss", "duplicate", "hold", "deaf", "delay"):
            if getattr(self.noise, name):
                yield replace(self, noise=replace(self.noise, **{name: 0.0}))
        if any(one.skew_s for one in self.clients):
            yield replace(self, clients=tuple(replace(one, skew_s=0.0) for one in self.clients))

    def _with_fewer_clients(self) -> Iterator["Plan"]:
        for place, client in enumerate(self.clients):
            rest = self.clients[:place] + self.clients[place + 1 :]
            if not any(one.kind == "honest" for one in rest):
                continue
            minimum = min(self.minimum, len(rest))
            faults = tuple(one for one in self.faults if one.target != client.name)
            target = None if self.target is None else max(minimum, min(self.target, len(rest)))
            yield replace(self, clients=rest, minimum=minimum, target=target, faults=faults)


def make_plan(scenario: Scenario, seed: int) -> Plan:
    """Let the seed choose."""
    chance = random.Random(f"plan/{scenario.name}/{seed}")
    work = {
        key: value if isinstance(value, str) else _draw(chance, value)
        for key, value in scenario.workload.items()
        if key != "compute"
    }
    deadline_s = float(work["deadline"])
    clients = _clients(chance, scenario, work, deadline_s)
    honest = sum(one.kind == "honest" for one in clients)
    faults: list[Fault] = []
    for line in scenario.faults:
        for _ in range(round(_draw(chance, line.count))):
            faults.append(_fault(chance, line, scenario, clients, int(work["sessions"])))
    noise = {key: _draw(chance, value) for key, value in scenario.noise.items()}
    return Plan(
        scenario=scenario.name,
        seed=seed,
        clients=clients,
        sessions=int(work["sessions"]),
        rounds=int(work["rounds"]),
        target=None if work["target"] == "all" else int(work["target"]),
        minimum=honest if work["minimum"] == "all" else int(work["minimum"]),
        deadline_s=deadline_s,
        attempts=int(work["attempts"]),
        batch=int(work["batch"]),
        inline=int(work["inline"]),
        validate=bool(work["validate"]),
        noise=Noise(
            **{key: value for key, value in noise.items() if key != "until"}, until_s=noise["until"]
        ),
        faults=tuple(faults),
        ends_s=scenario.ends_s,
        same_model=scenario.same_model,
        fails=scenario.fails,
    )


def _clients(chance, scenario: Scenario, work, deadline_s: float) -> tuple[ClientPlan, ...]:
    compute = scenario.workload["compute"]
    assert isinstance(compute, Range)
    found: list[ClientPlan] = []
    kinds = {"honest": "clients", "late": "late", "sleeper": "sleepers", "liar": "liars"}
    for kind, key in kinds.items():
        for number in range(1, int(work[key]) + 1):
            compute_s = chance.uniform(compute.low, compute.high)
            if kind == "late":
                compute_s = deadline_s * chance.uniform(0.7, 1.3)
            elif kind == "sleeper":
                compute_s = SLEEP_S
            name = f"{'client' if kind == 'honest' else kind}-{number}"
            durable = chance.random() < work["durable"]
            skew_s = chance.choice((0.0, 0.0, -1e5, 3600.0))
            found.append(ClientPlan(name, kind, compute_s, durable, skew_s))
    return tuple(found)


def _fault(chance, line, scenario: Scenario, clients, sessions: int) -> Fault:
    groups = {
        "controller": CONTROLLERS,
        "combiner": COMBINERS,
        "service": CONTROLLERS + COMBINERS,
        "client": tuple(one.name for one in clients if one.kind != "liar"),
        "session": tuple(f"s-{number}" for number in range(1, sessions + 1)),
    }
    target = chance.choice(groups.get(line.target, (line.target,)))
    calls = scenario.within
    if line.target == "client":
        calls = max(4, scenario.within // 5)
    elif line.target in SERVERS or line.target == "session":
        calls = scenario.within * 4
    return Fault(
        kind=line.kind,
        target=target,
        step=chance.randint(1, calls),
        after=chance.random() < 0.5,
        for_s=chance.uniform(line.for_s.low, line.for_s.high),
    )


def _draw(chance, value: Range) -> float:
    """Choose a whole number from a range of whole numbers, else any."""
    if value.low.is_integer() and value.high.is_integer():
        return int(chance.randint(int(value.low), int(value.high)))
    return float(chance.uniform(value.low, value.high))
