"""A command's state: the fold of its events."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from fedbus_schemas.command_events import CommandCreated, CommandEnded
from fedbus_schemas.envelope import GENESIS
from fedbus_schemas.ids import ClientId

CAUSES_MAX = 64
"""Ids of inputs that are remembered, so that one delivered twice is decided once."""


@dataclass(slots=True)
class Command:
    """The state of one command after `number` entries of its log; the last one lies at `sequence`."""

    created: CommandCreated
    deadline: datetime
    moved: bool = False
    ended: CommandEnded | None = None
    number: int = 0
    head: str = GENESIS
    sequence: int = 0
    causes: deque[str] = field(default_factory=lambda: deque(maxlen=CAUSES_MAX))

    @property
    def project(self) -> str:
        """The command's project."""
        return self.created.project

    @property
    def command(self) -> str:
        """The command's id."""
        return self.created.command

    def is_for(self, client: ClientId) -> bool:
        """Say whether the client was asked."""
        return client in self.created.targets

    def check(self) -> None:
        """Assert what must hold after every step; a violation is a bug of ours."""
        targets = self.created.targets
        assert list(targets) == sorted(set(targets)), "targets are sorted and name nobody twice"
        if self.ended is not None:
            counted = self.ended.completed + self.ended.failed + self.ended.refused
            assert counted <= len(targets), "a client answers once"
