"""What a test asks of a trace that Jaeger's query API gave."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

Json: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Tree:
    """One trace."""

    content: Json

    @property
    def spans(self) -> list[Json]:
        """All spans."""
        spans: list[Json] = self.content["spans"]
        return spans

    @property
    def names(self) -> Counter[str]:
        """How many spans there are of each name."""
        return Counter(span["operationName"] for span in self.spans)

    def of(self, name: str) -> list[Json]:
        """Give the spans of a name."""
        return [span for span in self.spans if span["operationName"] == name]

    def service(self, span: Json) -> str:
        """Name the service that did it."""
        name: str = self.content["processes"][span["processID"]]["serviceName"]
        return name

    def instances(self, service: str) -> set[str]:
        """Name the processes of a service that have a part."""
        return {
            tag["value"]
            for process in self.content["processes"].values()
            if process["serviceName"] == service
            for tag in process["tags"]
            if tag["key"] == "service.instance.id"
        }

    @property
    def roots(self) -> list[Json]:
        """Give the spans without a parent."""
        return [span for span in self.spans if parent(span) is None]

    @property
    def orphans(self) -> list[Json]:
        """Give the spans whose parent is not there."""
        known = {span["spanID"] for span in self.spans}
        return [span for span in self.spans if parent(span) not in {None, *known}]

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield every name and value that the trace shows."""
        for process in self.content["processes"].values():
            for tag in process["tags"]:
                yield tag["key"], str(tag["value"])
        for span in self.spans:
            yield "operationName", span["operationName"]
            for tag in span["tags"]:
                yield tag["key"], str(tag["value"])
            for log in span["logs"]:
                for tag in log["fields"]:
                    yield tag["key"], str(tag["value"])

    def covered(self) -> float:
        """Give which part of the round's time somebody is seen at work, from 0 to 1.

        Only work counts: not the round itself, nor the phases that the log tells of.
        """
        [root] = self.roots
        start, end = root["startTime"], root["startTime"] + root["duration"]
        at, seen = start, 0
        for span in sorted(self.spans, key=lambda one: one["startTime"]):
            if span is root or tag(span, "fl.phase"):
                continue
            begins = max(span["startTime"], at)
            ends = min(span["startTime"] + span["duration"], end)
            if ends > begins:
                seen += ends - begins
                at = ends
        return float(seen / (end - start))


def parent(span: Json) -> str | None:
    """Give the id of a span's parent."""
    found = [one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"]
    return found[0] if found else None


def tag(span: Json, key: str) -> Json:
    """Give an attribute's value, None when the span has none."""
    return next((one["value"] for one in span["tags"] if one["key"] == key), None)
