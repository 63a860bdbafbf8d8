"""How much each client or caller may cause: a budget that fills up at a steady rate, in this process."""

from collections import OrderedDict
from dataclasses import dataclass

from fedbus_runtime.ports import Clock

CLIENTS_MAX = 10_000
"""Clients whose budget is remembered, those heard last; another one begins with a full one."""


@dataclass(slots=True)
class _Budget:
    left: float
    at: float


class Budgets:
    """A budget for each who is named. `burst` is the most it holds, `per_second` how fast it fills up."""

    def __init__(self, clock: Clock, *, burst: float, per_second: float) -> None:
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()

    def take(self, client: str, amount: float = 1.0) -> float:
        """Take this much and give 0, or take nothing and give the seconds until it will be there.

        What is larger than the burst is taken once the budget is full.
        """
        now = self._clock.monotonic()
        budget = self._budgets.setdefault(client, _Budget(self._burst, now))
        self._budgets.move_to_end(client)
        if len(self._budgets) > CLIENTS_MAX:
            self._budgets.popitem(last=False)
        budget.left = min(self._burst, budget.left + (now - budget.at) * self._per_second)
        budget.at = now
        needed = min(amount, self._burst)
        if budget.left < needed:
            return (needed - budget.left) / self._per_second
        budget.left -= amount
        return 0.0

    def give_back(self, client: str, amount: float) -> None:
        """Undo a `take`."""
        budget = self._budgets.get(client)
        if budget is not None:
            budget.left = min(self._burst, budget.left + amount)
