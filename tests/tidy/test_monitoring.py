"""The dashboard, the alerts and the deployment of both name only what the services really show."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are a package of their own
from fedbus_runtime.metrics import METRICS
from fedbus_schemas.refusals import RefusalCode
from fedbus_schemas.streams import CONSUMERS, TRACERS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
PANELS = json.loads((MONITORING / "grafana/dashboards/fedbus.json").read_text())["panels"]
COMPOSE = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())

SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
NAMES = {f"{one.name}{end}": one for one in METRICS for end in SUFFIXES[one.kind]}
PROMETHEUS = {"job", "instance", "le"}
OTHERS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}
VALUES = {
    "outcome": {"completed", "stopped", "done", "retry", "dead", "ok", "StoreAway"},
    "code": {"ok", "stored", "counted", *(code.value for code in RefusalCode)},
    "consumer": {one.name for one in (*CONSUMERS, TRACERS)},
    "phase": {"collect", "finish", "whole"},
    "job": {"controller", "combiner", "api"},
}
SERIES = re.compile(r"\b((?:fedbus|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")


def expressions() -> Iterator[tuple[str, str, str]]:
    """Yield where an expression stands, the expression, and the text that uses its labels."""
    for rule in ALERTS:
        yield rule["alert"], rule["expr"], json.dumps(rule["annotations"])
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"], target["legendFormat"]


@pytest.mark.parametrize(
    ("expression", "text"), [pytest.param(e, t, id=f"{n}: {e[:30]}") for n, e, t in expressions()]
)
def test_every_name_and_label_is_real(expression: str, text: str) -> None:
    assert expression.count("(") == expression.count(")")
    labels: set[str] = set()
    without = GROUPED.sub("", expression)
    series = SERIES.findall(without)
    assert series, "it asks for something"
    for name, matchers in series:
        assert name in NAMES or name in OTHERS, name
        own = {*NAMES[name].labels, *PROMETHEUS} if name in NAMES else PROMETHEUS
        labels |= own
        for label, value in MATCHER.findall(matchers):
            assert label in own, (name, label)
            assert set(value.split("|")) <= VALUES.get(label, {value}), (label, value)
    for group in GROUPED.findall(expression):
        assert {each.strip() for each in group.split(",")} <= labels, group
    used = set(re.findall(r"\$labels\.([a-z_]+)", text)) | set(
        re.findall(r"\{\{([a-z_]+)\}\}", text)
    )
    groups = GROUPED.findall(expression)
    left = {each.strip() for group in groups for each in group.split(",")} if groups else labels
    assert used <= left, "what is written of a series is a label that it has"


def test_a_name_that_is_not_real_is_found() -> None:
    with pytest.raises(AssertionError):
        test_every_name_and_label_is_real("sum(fedbus_rounds)", "")
    with pytest.raises(AssertionError):
        test_every_name_and_label_is_real('fedbus_rounds_total{code="late"}', "")
    with pytest.raises(AssertionError):
        test_every_name_and_label_is_real('fedbus_rounds_total{outcome="done well"}', "")
    with pytest.raises(AssertionError):
        test_every_name_and_label_is_real("sum by (verb) (fedbus_rounds_total)", "")


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for _, expression, _ in expressions() for name, _ in SERIES.findall(expression)}
    shown = {NAMES[name].name for name in shown if name in NAMES}
    assert {one.name for one in METRICS} - shown == set()


def test_an_alert_says_what_to_do() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert {"summary", "todo"} <= rule["annotations"].keys()
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at: dict[str, int] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_prometheus_scrapes_every_service_where_it_answers() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    for job in config["scrape_configs"]:
        [found] = job["dns_sd_configs"]
        assert found["names"] == [job["job_name"]]
        assert job["job_name"] in COMPOSE["services"]
        image = (ROOT / f"deploy/images/{job['job_name']}.Dockerfile").read_text()
        assert f"FEDBUS_HEALTH__PORT={found['port']}" in image
    assert len(config["scrape_configs"]) == 3


@pytest.mark.parametrize("name", ["jaeger", "prometheus", "grafana"])
def test_what_is_mounted_is_there_and_what_is_off_stays_off(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert name in service["profiles"]
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (ROOT / "deploy/compose" / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
