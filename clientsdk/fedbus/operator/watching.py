"""The live view of a session: rounds, the open round's updates, metrics, what happened last."""

import sys
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from fedbus_schemas.events import (
    RoundClosing,
    RoundCompleted,
    RoundFailed,
    RoundOpened,
    SessionExtended,
    SessionStarted,
)
from fedbus_schemas.views import LiveUpdate, LiveValidation, LoggedEvent, SessionView
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fedbus.api import APIClient
from fedbus.api._told import Event
from fedbus.operator.printing import cell

ROUNDS_SHOWN = 10
LINES_SHOWN = 6


def live(api: APIClient, view: SessionView, events: Iterable[Event]) -> SessionView:
    """Show a session as its events come; give it as it is at the end."""
    if not sys.stdout.isatty():
        for event in events:
            print(sentence(event), flush=True)
        return api.get_session(view.session)
    picture = Picture(view)
    with Live(console=Console(highlight=False), get_renderable=picture.draw) as screen:
        for event in events:
            picture.take(event)
            screen.refresh()
        picture.view = api.get_session(view.session)
    return picture.view


@dataclass
class Picture:
    """What the live view shows. Pure: events in, something to draw out."""

    view: SessionView
    number: int = 0
    cohort: int = 0
    target: int = 0
    deadline: datetime | None = None
    planned: int = 0
    phase: str = ""
    stored: set[str] = field(default_factory=set)
    rounds: deque[RoundCompleted] = field(default_factory=lambda: deque(maxlen=ROUNDS_SHOWN))
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_SHOWN))

    def __post_init__(self) -> None:
        self._rounds = _bar("rounds")
        self._updates = _bar("updates")
        self._of_rounds = self._rounds.add_task("", total=self.view.rounds_total)
        self._of_updates = self._updates.add_task("", total=None)

    def take(self, event: Event) -> None:
        """Take an event in."""
        self.lines.append(sentence(event))
        if isinstance(event, LiveUpdate):
            self._on_update(event)
        elif isinstance(event, LoggedEvent):
            self._on_logged(event)

    def draw(self) -> RenderableType:
        """Give what to draw now."""
        left = ""
        if self.deadline is not None:
            left_s = self.deadline.timestamp() - time.time()
            left = f", {max(left_s, 0):.0f} s to the deadline"
        head = Text(f"{self.view.session} ", style="bold").append(
            f"{self.view.name}  {self.phase or self.view.phase}  round {self.number}{left}",
            style="",
        )
        return Group(head, self._rounds, self._updates, self._table(), *map(Text, self.lines))

    def _on_update(self, event: LiveUpdate) -> None:
        if event.round == self.number:
            self.stored.add(event.client)
            self._updates.update(self._of_updates, completed=len(self.stored))

    def _on_logged(self, event: LoggedEvent) -> None:
        name = event.type.split(".")
        if event.type == RoundOpened.TYPE:
            opened = RoundOpened.model_validate(event.data)
            self.number, self.cohort, self.target = opened.round, len(opened.cohort), opened.target
            self.deadline, self.phase = opened.deadline, "collecting"
            self.stored.clear()
            self._updates.update(self._of_updates, completed=0, total=opened.target)
        elif event.type == RoundClosing.TYPE:
            self.phase, self.deadline = "closing", None
        elif event.type == RoundCompleted.TYPE:
            self.rounds.append(RoundCompleted.model_validate(event.data))
            self._rounds.update(self._of_rounds, completed=self.rounds[-1].round)
        elif event.type == RoundFailed.TYPE:
            self.phase = "attempt failed"
        elif name[0] == "session":
            self.phase = name[1]
            if event.type == SessionStarted.TYPE:
                self.planned = SessionStarted.model_validate(event.data).settings.rounds
            elif event.type == SessionExtended.TYPE:
                self.planned = SessionExtended.model_validate(event.data).rounds
            total = max(self.planned, self.view.rounds_total)
            self._rounds.update(self._of_rounds, total=total)

    def _table(self) -> RenderableType:
        names = sorted({name for one in self.rounds for name in one.metrics})
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("ROUND", "COUNTED", "REFUSED", "FOLD s", *names):
            table.add_column(heading, justify="right")
        for one in self.rounds:
            values = (one.round, len(one.counted), len(one.refused), one.timings.total_s)
            metrics = (one.metrics.get(name) for name in names)
            table.add_row(*(cell(value) for value in (*values, *metrics)))
        return table


def sentence(event: Event) -> str:
    """Say what happened, in one line."""
    at = event.time.strftime("%H:%M:%S")
    if isinstance(event, LiveUpdate):
        return f"{at} round {event.round}: an update of {event.client} is stored"
    if isinstance(event, LiveValidation):
        return f"{at} round {event.round}: {event.client} measured {cell(dict(event.metrics))}"
    noun, verb, _ = event.type.split(".")
    number = event.data.get("round")
    said = f"{at} {noun}{f' {number}' if number else ''} {verb.replace('_', ' ')}"
    why = event.data.get("reason")
    return f"{said}: {why}" if why else said


def _bar(what: str) -> Progress:
    return Progress(
        TextColumn(f"{what:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )
