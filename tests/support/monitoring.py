"""The dashboard's queries, the alerts' expressions, and Prometheus' own programs to try them with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "perennial.json"
RULES = DEPLOY / "prometheus" / "alerts.yml"
CONFIG = DEPLOY / "prometheus" / "prometheus.yml"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`. Fails the test where it is not installed: it is not to be passed over."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install prometheus")
    return found


def panels() -> list[dict[str, Any]]:
    """The dashboard's, without the headings between them."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return [panel for panel in read["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """What each panel asks: (its title, the expression as it stands in the file)."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def alerts() -> list[dict[str, Any]]:
    """The rules."""
    read: dict[str, Any] = yaml.safe_load(RULES.read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]
