"""Draws where a round's time went, as lines of text. Pure: a view in, lines out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedbus_schemas.ids import ClientId
from fedbus_schemas.views import SpanView, TimelineView

WIDTH_MIN = 20
"""Columns that the bars have at least, however narrow the terminal is."""
CLIENT_WORK = ("download", "train", "upload")
CLIENT_NAMES = frozenset((*CLIENT_WORK, "stored"))
_LABELS = {"read": "read updates", "store": "store model", "completed": "commit"}


@dataclass(frozen=True, slots=True)
class Form:
    """How to draw: columns in all, the sign of a bar, how many clients at most (the slowest)."""

    width: int = 100
    bar: str = "█"
    clients_max: int = 20


@dataclass(frozen=True, slots=True)
class _Row:
    who: str
    what: str
    start_s: float
    end_s: float


def waterfall(view: TimelineView, names: Mapping[ClientId, str], form: Form) -> Iterator[str]:
    """Yield the lines: a head, a bar for each stretch, and a sum of where the time went."""
    total_s = view.duration_s or max((one.end_s for one in view.spans), default=0.0)
    how = "still open" if view.duration_s is None else f"{view.outcome.value} in {_time(total_s)}"
    yield f"{view.session} round {view.number}.{view.attempt}: {how}"
    yield f"trace {view.trace_id}"
    slowest = _slowest(view.spans)
    rows = list(_rows(view.spans, slowest[: form.clients_max], names))
    hidden = len(slowest) - form.clients_max
    if rows:
        who = max(len(row.who) for row in rows)
        what = max(len(row.what) for row in rows)
        columns = max(WIDTH_MIN, form.width - who - what - 14)
        yield ""
        yield from (_line(row, total_s, who, what, columns, form.bar) for row in rows)
    if hidden > 0:
        yield f"… and {hidden} clients that were faster"
    if view.left_out:
        yield f"… and {view.left_out} clients that the api leaves out"
    yield from _sum(view, total_s, slowest, names)


def _slowest(spans: Sequence[SpanView]) -> list[ClientId]:
    """Give the clients, the one whose update came last first."""
    came = {one.who: one.end_s for one in spans if one.name == "stored"}
    return sorted(came, key=lambda client: (-came[client], client))


def _rows(
    spans: Sequence[SpanView], clients: Sequence[ClientId], names: Mapping[ClientId, str]
) -> Iterator[_Row]:
    for client in sorted(clients, key=lambda one: names.get(one, one)):
        for span in spans:
            if span.who == client and span.name in CLIENT_WORK and span.end_s > span.start_s:
                yield _Row(names.get(client, client), span.name, span.start_s, span.end_s)
    for span in spans:
        if span.name not in CLIENT_NAMES:
            what = _LABELS.get(span.name, span.name)
            yield _Row(span.who, what, span.start_s, span.end_s)


def _line(row: _Row, total_s: float, who: int, what: int, columns: int, bar: str) -> str:
    scale = columns / total_s if total_s > 0 else 0.0
    first = min(columns - 1, max(0, int(row.start_s * scale)))
    length = max(1, min(columns - first, round((row.end_s - row.start_s) * scale)))
    drawn = (" " * first + bar * length).ljust(columns)
    return f"{row.who:<{who}}  {row.what:<{what}} |{drawn}| {_time(row.end_s - row.start_s):>8}"


def _sum(
    view: TimelineView,
    total_s: float,
    slowest: Sequence[ClientId],
    names: Mapping[ClientId, str],
) -> Iterator[str]:
    """Say for whom the round waited, and what the servers took after that."""
    ends = {one.who: one.end_s for one in view.spans if one.name == "stored"}
    if not slowest or total_s <= 0:
        return
    last = slowest[0]
    waited_s = min(ends[last], total_s)
    yield ""
    yield (
        f"waited {_time(waited_s)} ({waited_s / total_s:.0%}) for the clients, "
        f"the last was {names.get(last, last)}"
    )
    if view.duration_s is not None:
        rest_s = max(0.0, total_s - waited_s)
        yield f"then {_time(rest_s)} ({rest_s / total_s:.0%}) on the servers"


def _time(seconds: float) -> str:
    """Write a duration in the unit that fits."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min"
