"""A real Prometheus beside a live server on a tiny model: rules, dashboard and metrics, by its own judgement."""

from __future__ import annotations

import math
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.checkpoint import tiny_checkpoint
from support.conversation import say
from support.fleet import Fleet, fleet
from support.monitoring import CONFIG, RULES, alerts, program, queries
from support.serving import wait_for

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]
PATIENCE_S = 120.0
# Whose figure has to be a number: the others may divide nothing by nothing while nothing happens.
TELLING = {"First token, p95", "Between tokens, p95", "Errors", "Whole request", "Time in the queue", "Tokens"}


@pytest.mark.parametrize("check", [("config", CONFIG), ("rules", RULES)], ids=lambda check: check[0])
def test_promtool_accepts_the_files(check: tuple[str, Path]):
    kind, path = check
    command = [program("promtool"), "check", kind, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


class Watched:
    """A server that talks, and the Prometheus that watches it. pages: what it scrapes."""

    def __init__(self, url: str, servers: Fleet, prometheus: str, pages: list[str]) -> None:
        self.url = url
        self.servers = servers
        self.prometheus = prometheus
        self.pages = pages

    def ask(self, expression: str) -> list[float]:
        """The values of an instant query. Fails where it does not parse."""
        asked = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expression}).json()
        assert asked["status"] == "success", (expression, asked)
        return [float(one["value"][1]) for one in asked["data"]["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """As Prometheus has loaded and evaluated them."""
        groups = httpx.get(f"{self.prometheus}/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    own, worker_port = _free_ports(2)
    with fleet(folder, model=str(tiny_checkpoint(folder / "tiny")), sliding_window="64", slots="2") as servers:
        servers.worker(worker_metrics_port=str(worker_port), snapshot_every="16")
        url, _ = servers.api()
        (folder / "alerts.yml").write_text(RULES.read_text())
        config = yaml.safe_load(CONFIG.read_text())
        config["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"}
        targets = [url.removeprefix("http://"), f"127.0.0.1:{worker_port}"]
        for job, target in zip(config["scrape_configs"], targets, strict=True):
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        log = folder / "prometheus.log"
        flags = {
            "config.file": folder / "prometheus.yml",
            "storage.tsdb.path": folder / "figures",
            "web.listen-address": f"127.0.0.1:{own}",
        }
        command = [program("prometheus"), *(f"--{name}={value}" for name, value in flags.items())]
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            address = f"http://127.0.0.1:{own}"
            wait_for(lambda: process.poll() is not None or _answers(f"{address}/-/ready"), PATIENCE_S)
            assert process.poll() is None, log.read_text()
            yield Watched(url, servers, address, [f"http://{target}/metrics" for target in targets])
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_promtool_accepts_what_is_scraped(watched: Watched):
    say(watched.url, "Hello", max_tokens=4)
    for page in watched.pages:
        command = [program("promtool"), "check", "metrics"]
        text = httpx.get(page).text
        ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_query_of_the_dashboard_answers(watched: Watched):
    session = say(watched.url, "Hello", max_tokens=24, ignore_eos=True).start["session"]
    cleaned = httpx.post(f"{watched.url}/v1/sessions/{session}/memory/reset", json={"scope": "memory"}, timeout=60)
    assert cleaned.status_code == 200, cleaned.text
    waiting = {(title, query.replace("$__rate_interval", "20s")) for title, query in queries()}
    assert len(waiting) > 30

    def answered(title: str, query: str) -> bool:
        values = watched.ask(query)
        return bool(values) and (title not in TELLING or not any(math.isnan(value) for value in values))

    def all_answered() -> bool:
        say(watched.url, "Go on", session_id=session, max_tokens=24, ignore_eos=True)
        waiting.difference_update({one for one in waiting if answered(*one)})
        return not waiting

    try:
        wait_for(all_answered, PATIENCE_S)
    except AssertionError:
        pytest.fail(f"no data: {sorted(waiting)}")


def test_every_alert_is_evaluated_and_none_is_raised_while_all_is_well(watched: Watched):
    for rule in alerts():
        watched.ask(rule["expr"])  # parses, whatever it finds
    say(watched.url, "Hello", max_tokens=4)

    def looked() -> bool:
        rules = watched.rules()
        return len(rules) == len(alerts()) and all(rule["health"] == "ok" for rule in rules)

    wait_for(looked, PATIENCE_S)
    wait_for(lambda: watched.ask("max(perennial_live_workers)") == [1.0], PATIENCE_S)
    assert [rule["name"] for rule in watched.rules() if rule["state"] == "firing"] == []


def test_an_alert_sees_what_it_is_for(watched: Watched):
    """The store goes away: the expression that pages for it becomes true."""
    expression = next(rule["expr"] for rule in alerts() if rule["alert"] == "PerennialStoreDown")
    wait_for(lambda: watched.ask("min(perennial_store_up)") == [1.0], PATIENCE_S)
    assert watched.ask(expression) == []
    watched.servers.kill_valkey()
    try:
        wait_for(lambda: watched.ask(expression) == [0.0], PATIENCE_S)
    finally:
        watched.servers.revive_valkey()
    wait_for(lambda: watched.ask(expression) == [], PATIENCE_S)
