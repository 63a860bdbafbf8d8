"""What the demo prints: the live table of rounds, accuracies, and where one round's time went."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import digits
import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

Json: TypeAlias = Any  # what an api answers; the demo reads it as a user would

KILL_AFTER_UPDATES = 2
BAR_CELLS = 36


@dataclass
class Row:
    """One round as it goes."""

    number: int
    opened_s: float
    clients: int = 0
    seconds: float | None = None
    accuracy: float | None = None
    workers: str = ""
    note: str = ""


@dataclass
class Story:
    """What happened, for the summary."""

    rows: dict[int, Row] = field(default_factory=dict)
    killed: str = ""
    killed_s: float = 0.0
    takeover_s: float | None = None
    completed: bool = False


def follow(
    console: Console,
    api: httpx.Client,
    session: str,
    rounds: int,
    kill: Callable[[str], None],
    *,
    kill_in: int = 4,
) -> Story:
    """Follow a session's event stream to its end, killing a combiner in the middle of one round."""
    story = Story()
    worker = "combiner-1"
    with Live(_table(story), console=console, refresh_per_second=20) as live:
        for kind, event in events(api, session):
            _take(story, kind, event)
            if kind == "round.completed.v1" and event["workers"]:
                worker = event["workers"][-1]
            row = story.rows.get(kill_in)
            if row and row.clients >= KILL_AFTER_UPDATES and not story.killed and not row.seconds:
                kill(worker)
                story.killed, story.killed_s = worker, time.monotonic()
                row.note = f"✝ {worker} at {row.clients} of {digits.SITES}"
            if kind == "round.completed.v1" and event["round"] == kill_in and story.killed:
                story.takeover_s = time.monotonic() - story.killed_s
                story.rows[kill_in].note += f", taken over in {story.takeover_s:.2f} s"
            live.update(_table(story))
            last = story.rows.get(rounds)
            if story.completed and last is not None and last.accuracy is not None:
                break
    console.print()
    if story.killed:
        console.print(
            f"[red]✝[/] {story.killed} got SIGKILL in the middle of round {kill_in}; the round was complete "
            f"{story.takeover_s or 0:.2f} s later. Nothing was lost or counted twice: the audit below shows it."
        )
    return story


def events(api: httpx.Client, session: str) -> Iterator[tuple[str, Json]]:
    """Give a session's server-sent events: their type and their data."""
    url = f"/v1/sessions/{session}/events"
    with api.stream("GET", url, timeout=httpx.Timeout(60)) as response:
        response.raise_for_status()
        kind = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                content = json.loads(line.removeprefix("data: "))
                yield kind, content.get("data", content)


def accuracies(console: Console, rounds: list[Json], best: float, pooled: float) -> None:
    """Print accuracy by round beside what one site alone and all data in one place would give."""
    console.rule("Accuracy on 450 test images")
    table = Table(box=None)
    table.add_column("round", justify="right")
    table.add_column("federated", justify="right")
    table.add_column("")
    for one in sorted(rounds, key=lambda each: each["number"]):
        value = one["validation"]["metrics"].get("accuracy")
        if value is not None:
            bar = "█" * round((value - 0.8) / 0.2 * 40)
            table.add_row(str(one["number"]), f"{value:.1%}", f"[green]{bar}[/]")
    console.print(table)
    final = max(rounds, key=lambda each: each["number"])["validation"]["metrics"]["accuracy"]
    console.print(
        f"Federated [bold]{final:.1%}[/] · best single site {best:.1%} · "
        f"all data in one place {pooled:.1%}"
    )
    verdict = final > best and pooled - final <= 0.02
    console.print(
        "[green]Above the best site, within 2 points of pooled.[/]"
        if verdict
        else "[red]Not above the best site, or more than 2 points below pooled.[/]"
    )


def waterfall(console: Console, timeline: Json, story: Story, names: Mapping[str, str]) -> None:
    """Draw where one round's time went."""
    total = timeline["duration_s"]
    killed = f" (the one with the killed {story.killed})" if story.killed else ""
    console.rule(f"Where the time of round {timeline['number']} went{killed}")
    table = Table(box=None, padding=(0, 1))
    for heading in ("what", "who", "ms", f"0 … {total:.3f} s"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    for span in timeline["spans"]:
        start, end = span["start_s"], span["end_s"]
        if end - start < total / 500 and span["name"] in ("upload", "download"):
            continue
        before = round(start / total * BAR_CELLS)
        long = max(1, round((end - start) / total * BAR_CELLS))
        bar = " " * min(before, BAR_CELLS - 1) + "━" * long
        table.add_row(
            span["name"],
            names.get(span["who"], span["who"]),
            f"{(end - start) * 1000:.1f}",
            f"[cyan]{bar[:BAR_CELLS]}[/]",
        )
    console.print(table)


def further(console: Console, directory: object, session: str) -> None:
    """Print the commands to look further."""
    console.rule("Look further")
    console.print(
        f"""The stack is stopped; all of it is kept in [bold]{directory}[/].
  .venv/bin/fedbus up --dir {directory}          start it again over the same data
  .venv/bin/fedbus logs --dir {directory} -n 50  one interleaved log
  .venv/bin/fedbus audit verify {directory}/{session}.tar --models-removed --trust {directory}/trust.json
  .venv/bin/fedbus audit replay {directory}/{session}.tar --without CLIENT   what if one had not been there
  tar tf {directory}/{session}.tar               the whole log, readable""",
        soft_wrap=True,
    )


def _take(story: Story, kind: str, event: Json) -> None:
    now = time.monotonic()
    match kind:
        case "round.opened.v1":
            story.rows[event["round"]] = Row(event["round"], now)
        case "update.stored":
            row = story.rows.get(event["round"])
            if row is not None:
                row.clients += 1
        case "round.completed.v1":
            row = story.rows[event["round"]]
            row.clients = len(event["counted"])
            row.seconds = now - row.opened_s
            row.workers = ", ".join(event["workers"])
        case "validation.reported":
            row = story.rows.get(event["round"])
            if row is not None:
                row.accuracy = event["metrics"].get("accuracy", row.accuracy)
        case "session.completed.v1":
            story.completed = True


def _table(story: Story) -> Table:
    table = Table(box=None)
    table.add_column("round", justify="right")
    table.add_column("clients in")
    table.add_column("accuracy", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("finished by")
    table.add_column("")
    for row in story.rows.values():
        dots = "●" * row.clients + "○" * (digits.SITES - row.clients)
        table.add_row(
            str(row.number),
            dots,
            f"{row.accuracy:.1%}" if row.accuracy is not None else "",
            f"{row.seconds:.2f}" if row.seconds is not None else "…",
            row.workers,
            f"[red]{row.note}[/]" if row.note else "",
        )
    return table
