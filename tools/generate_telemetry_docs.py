"""Writes `docs/telemetry.md` from the lists of metrics and spans."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from fedbus_runtime.metrics import METRICS
from fedbus_runtime.span_names import ATTRIBUTES, EVENTS, SPANS

PAGE = Path(__file__).parent.parent / "docs" / "telemetry.md"

HEAD = """# Metrics, spans and attributes

This page is written by `tools/generate_telemetry_docs.py` from the code (`make docs`); a test fails when the
two differ. How to use them: [monitoring](monitoring.md) and [tracing](tracing.md).

## Metrics

At `/metrics` of each service's health port, and by OTLP under the same names. Prometheus adds `_bucket`, `_sum`
and `_count` to histograms. `process_…` metrics (memory, CPU, open files) come with them.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Give the whole page."""
    metrics = (
        (f"`{one.name}`", one.kind, ", ".join(one.labels) or "-", one.text) for one in METRICS
    )
    parts = [
        HEAD,
        *table(("metric", "kind", "labels", "meaning"), metrics),
        "\n## Spans\n",
        *table(("span", "meaning"), named(SPANS)),
        "\n## Attributes\n",
        *table(("attribute", "meaning"), named(ATTRIBUTES)),
        "\n## Events of spans\n",
        *table(("event", "meaning"), named(EVENTS)),
    ]
    return "\n".join(parts) + "\n"


def named(sentences: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Give names and sentences as cells."""
    return ((f"`{name}`", text) for name, text in sentences.items())


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    """Yield the lines of a table."""
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    main()
