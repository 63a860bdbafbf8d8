"""Priority classes: what is sent first when a client has more to tell than its link carries.

All records of a higher class go before those of a lower one. Inside a class the oldest or the newest goes
first, and what waits too long may fall into another class or be dropped.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fedbus.errors import BadOption

CLASSES_MAX = 32
PRIORITY_MAX = 100
DEFAULT = "default"
"""The class of records whose own class was taken away."""
BACKLOG = "backlog"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityClass:
    """A class of records.

    `order`: "fifo" sends the oldest first, "lifo" the newest. After `demote_after_s` in this class a
    record falls into `demote_to`; after `drop_after_s` it is dropped, and counted. Ages are measured by
    the device's clock.

    ```python
    from fedbus import PriorityClass

    camera = PriorityClass(name="camera", priority=50, order="lifo", drop_after_s=3600)
    assert camera.demote_after_s is None
    ```
    """

    name: str
    priority: int
    order: Literal["fifo", "lifo"] = "fifo"
    demote_after_s: float | None = None
    demote_to: str = BACKLOG
    drop_after_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", self.name):
            raise BadOption(
                f"a priority class is named by at most 32 of a-z, 0-9 and _, not {self.name!r}"
            )
        number: object = self.priority
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or not 0 <= number <= PRIORITY_MAX
        ):
            raise BadOption(
                f"{self.name}: priority must be from 0 to {PRIORITY_MAX}, not {number!r}"
            )
        if self.order not in ("fifo", "lifo"):
            raise BadOption(f'{self.name}: order must be "fifo" or "lifo", not {self.order!r}')
        if self.demote_after_s is not None and self.drop_after_s is not None:
            raise BadOption(f"{self.name}: give demote_after_s or drop_after_s, not both")
        for name in ("demote_after_s", "drop_after_s"):
            after: object = getattr(self, name)
            if after is not None and (not isinstance(after, int | float) or not after > 0):
                raise BadOption(f"{self.name}: {name} must be seconds above 0, not {after!r}")


CLASSES = (
    PriorityClass(name="alert", priority=80),
    PriorityClass(name="model_update", priority=70),
    PriorityClass(name="telemetry", priority=40, order="lifo", demote_after_s=300),
    PriorityClass(name="inference", priority=30, order="lifo", demote_after_s=300),
    PriorityClass(name="artifact", priority=20),
    PriorityClass(name=DEFAULT, priority=15),
    PriorityClass(name=BACKLOG, priority=10),
)
"""The classes that a client begins with."""


class Priorities:
    """The classes of one client. Not thread-safe: the outbox holds its lock."""

    def __init__(self, classes: Iterable[PriorityClass] = CLASSES) -> None:
        self._classes = {one.name: one for one in classes}
        self._check(self._classes)

    def all(self) -> tuple[PriorityClass, ...]:
        """Give the classes, the highest first."""
        return tuple(sorted(self._classes.values(), key=lambda one: (-one.priority, one.name)))

    def named(self, name: str) -> PriorityClass:
        """Give a class; the default one for a name that there is not."""
        return self._classes.get(name) or self._classes[DEFAULT]

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def add(self, one: PriorityClass) -> None:
        """Add a class. Raises `BadOption` when there is one of this name."""
        if one.name in self._classes:
            raise BadOption(f"there is a priority class {one.name!r} already; replace it")
        if len(self._classes) >= CLASSES_MAX:
            raise BadOption(f"there are {CLASSES_MAX} priority classes, more are not possible")
        self._take(self._classes | {one.name: one})

    def replace(self, one: PriorityClass) -> None:
        """Replace the class of this name. Raises `BadOption` when there is none."""
        self._known(one.name)
        self._take(self._classes | {one.name: one})

    def remove(self, name: str) -> None:
        """Take a class away; its records go to the default one. Raises `BadOption`."""
        self._known(name)
        if name == DEFAULT:
            raise BadOption(f"the class {DEFAULT!r} takes what has no other and cannot be removed")
        self._take({each: one for each, one in self._classes.items() if each != name})

    def _known(self, name: str) -> None:
        if name not in self._classes:
            known = ", ".join(sorted(self._classes))
            raise BadOption(f"there is no priority class {name!r}; there are {known}")

    def _take(self, classes: dict[str, PriorityClass]) -> None:
        self._check(classes)
        self._classes = classes

    @staticmethod
    def _check(classes: dict[str, PriorityClass]) -> None:
        """Demotion only goes down, so that it comes to an end."""
        for one in classes.values():
            if one.demote_after_s is None:
                continue
            target = classes.get(one.demote_to)
            if target is None:
                raise BadOption(
                    f"{one.name}: demote_to names {one.demote_to!r}, which there is not"
                )
            if target.priority >= one.priority:
                raise BadOption(
                    f"{one.name}: demote_to must name a class of lower priority than {one.priority}"
                )
