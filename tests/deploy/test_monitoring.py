"""The dashboard and the alerts ask for metrics that exist; the live test is `test_prometheus.py`."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from server import errors
from server.metrics import ApiMetrics
from server.worker.metrics import WorkerMetrics
from support.compose import compose
from support.metric_names import metrics_of, series_of
from support.monitoring import CONFIG, DASHBOARD, DEPLOY, alerts, panels, queries

REGISTRIES = (ApiMetrics().registry, WorkerMetrics().registry)
EXPRESSIONS = [*queries(), *((rule["alert"], rule["expr"]) for rule in alerts())]
# What tells whether users are happy, and what an operator is asked about next.
ON_THE_DASHBOARD = {
    "perennial_time_to_first_token_seconds_bucket",
    "perennial_inter_token_latency_seconds_bucket",
    "perennial_e2e_request_latency_seconds_bucket",
    "perennial_request_queue_time_seconds_bucket",
    "perennial_http_requests_total",
    "perennial_request_success_total",
    "perennial_request_failure_total",
    "perennial_queue_depth",
    "perennial_live_workers",
    "perennial_store_up",
    "perennial_restored_total",
    "perennial_ram_states",
    "perennial_takeovers_total",
    "perennial_memory_operations_total",
    "perennial_snapshots_total",
}


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bperennial_[a-z0-9_]+", expression))


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_every_metric_that_is_asked_for_exists(where: str, expression: str):
    asked = named(expression)
    assert asked, f"{where} asks for nothing of ours"
    assert asked <= series_of(REGISTRIES[0]) | series_of(REGISTRIES[1])


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_labels_are_the_metrics_own(where: str, expression: str):
    labels = {name: set(metric.labels) for registry in REGISTRIES for metric in metrics_of(registry)
              for name in (metric.name, metric.name + "_bucket")}  # fmt: skip
    for name, inside in re.findall(r"\b(perennial_[a-z0-9_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]~?", inside)) <= labels[name], where
    grouped = {label for found in re.findall(r"\bby \(([^)]*)\)", expression) for label in found.split(", ")}
    assert grouped <= {"le"}.union(*(labels[name] for name in named(expression))), where


def test_codes_that_are_asked_for_are_codes_of_errors():
    known = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    asked = {code for _, expression in EXPRESSIONS for code in re.findall(r'code="([^"]+)"', expression)}
    assert asked == {"store_full"}
    assert asked <= known


def test_the_dashboard_shows_what_it_is_for():
    assert set().union(*(named(expression) for _, expression in queries())) >= ON_THE_DASHBOARD
    dashboard = json.loads(DASHBOARD.read_text())
    first = [panel for panel in dashboard["panels"] if panel["gridPos"]["y"] <= 1]
    assert [panel["type"] for panel in first] == ["row", *["stat"] * 6], "the first line answers: are users happy?"
    for panel in first[1:]:
        colours = {step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}
        assert colours & {"yellow", "red"}
        assert "green" in colours
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_no_panel_lies_on_another():
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_an_alert_says_how_bad_it_is_and_what_it_means():
    for rule in alerts():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]
        assert rule["alert"] in (DEPLOY.parent / "docs" / "operating.md").read_text(), "what to do is not documented"


def test_grafana_finds_dashboard_and_prometheus():
    services = compose(DEPLOY.parent / "docker-compose.yml", {"PERENNIAL_API_KEYS": "x"})["services"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/perennial.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == mounted["./deploy/grafana/dashboards"]
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    host, port = source["url"].removeprefix("http://").split(":")
    assert (host in services, port) == (True, "9090")


def test_prometheus_scrapes_what_compose_starts():
    services = compose(DEPLOY.parent / "docker-compose.yml", {"PERENNIAL_API_KEYS": "x"})["services"]
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in yaml.safe_load(CONFIG.read_text())["scrape_configs"]}
    assert jobs["perennial-api"] | {"names": ["api"], "port": 8000} == jobs["perennial-api"]
    workers = jobs["perennial-worker"]
    assert set(workers["names"]) == {name for name in services if name.startswith("worker")}
    for name in workers["names"]:
        assert services[name]["environment"]["PERENNIAL_WORKER_METRICS_PORT"] == str(workers["port"])
