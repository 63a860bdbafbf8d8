"""How reports and log entries look to a person: tables and coloured prefixes."""

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedbus_local.journal import Entry
from fedbus_local.reports import StackReport, State

NAME_WIDTH = 13
_COLOURS = (
    "cyan",
    "green",
    "magenta",
    "yellow",
    "blue",
    "bright_cyan",
    "bright_green",
    "bright_magenta",
)
_STATES = {
    State.HEALTHY: "green",
    State.STARTING: "yellow",
    State.RESTARTING: "yellow",
    State.UNHEALTHY: "red",
    State.FAILED: "red",
    State.STOPPED: "dim",
}


def status(console: Console, report: StackReport) -> None:
    """Print the stack as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("PROCESS", "ROLE", "STATE", "PID", "UP", "RESTARTS", "PORT", ""):
        table.add_column(
            heading, justify="right" if heading in {"PID", "UP", "RESTARTS", "PORT"} else "left"
        )
    for each in report.processes:
        table.add_row(
            each.name,
            each.role,
            Text(each.state, style=_STATES[each.state]),
            "-" if each.pid is None else str(each.pid),
            duration(each.uptime_s),
            str(each.restarts),
            str(each.port),
            Text(each.reason or "", style="dim"),
        )
    console.print(table)
    for warning in report.warnings:
        console.print(Text(f"warning: {warning}", style="bold red"))


def duration(seconds: float) -> str:
    """Write a duration with its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def entry(each: Entry) -> Text:
    """Write a log entry as one line: time, process, and what a JSON line says in words."""
    name = each["process"]
    line = Text(each["time"][11:23] + " ", style="dim")
    line.append(f"{name:<{NAME_WIDTH}} ", style=_COLOURS[sum(name.encode()) % len(_COLOURS)])
    line.append_text(_message(each["line"]))
    return line


def entry_json(each: Entry) -> str:
    """Write a log entry as JSON, with the service's own record in place of its text."""
    record = _record(each["line"])
    body: dict[str, object] = {"line": each["line"]} if record is None else {"record": record}
    return json.dumps(
        {"time": each["time"], "process": each["process"], **body}, ensure_ascii=False
    )


def _message(line: str) -> Text:
    record = _record(line)
    if record is None:
        loud = line.startswith("DISK") or "[ERR]" in line or "[FTL]" in line
        return Text(line, style="bold red" if loud else "")
    level = str(record.pop("level", "info"))
    words = str(record.pop("event", ""))
    for skipped in ("timestamp", "time", "logger", "service", "instance"):
        record.pop(skipped, None)
    styles = {"warning": "yellow", "error": "bold red", "critical": "bold red"}
    text = Text(words, style=styles.get(level, "bold"))
    trace = record.pop("exception", None)
    for key, value in record.items():
        text.append(f" {key}=", style="dim").append(str(value), style="")
    if trace is not None:
        text.append(f"\n{trace}", style="red")
    return text


def _record(line: str) -> dict[str, object] | None:
    if not line.startswith("{"):
        return None
    try:
        content: object = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
