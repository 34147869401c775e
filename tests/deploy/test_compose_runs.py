"""What `docker compose up` starts, started: the same commands with the same environment, talked to, and stopped.

Grafana and Prometheus aside, whose files `test_prometheus.py` and `test_monitoring.py` try.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from redis import Redis

from server.access import digest_of
from support.checkpoint import tiny_checkpoint
from support.composed import Composed, composed, seconds
from support.serving import wait_for

pytestmark = [pytest.mark.full, pytest.mark.timeout(560)]
KEY = "a-key-of-the-operators"
START_S = 200.0
ANSWERED_S = 60.0


def operators(model: str) -> dict[str, str]:
    return {
        "PERENNIAL_API_KEYS": f"alice:{digest_of(KEY)}",
        "PERENNIAL_MODEL": model,
        "PERENNIAL_THREADS": "1",
        "LOADTEST_API_KEY": KEY,
        "VALKEY_MAXMEMORY": "300mb",
    }


def say(url: str, text: str, **more: object) -> dict[str, object]:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "stream": False, **more}
    answer = httpx.post(f"{url}/v1/generate", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=ANSWERED_S)
    assert answer.status_code == 200, answer.text
    said: dict[str, object] = answer.json()
    return said


@pytest.mark.parametrize("model", ["tiny", pytest.param("smollm2-135m", marks=pytest.mark.weights)])
def test_what_compose_starts_serves_and_stops_and_has_its_sessions_when_started_again(
    model: str, tmp_path: Path
) -> None:
    served = str(tiny_checkpoint(tmp_path / "tiny")) if model == "tiny" else model
    one = Composed(tmp_path / "compose", operators(served))
    url = f"http://127.0.0.1:{one.ports['api']}"
    parts = [(one, "valkey", 0), (one, "worker", 0), (one, "worker", 1), (one, "api", 0)]
    with composed(parts, START_S) as found:
        valkey, first, second, api = found
        assert httpx.post(f"{url}/v1/generate", json={"prompt": "x"}).status_code == 401, "it will not talk to nobody"
        wait_for(lambda: httpx.get(f"{url}/health/ready").json().get("workers") == 2, ANSWERED_S)
        begun = say(url, "Begin.")
        with Redis(port=one.ports["valkey"]) as redis:
            settings = redis.config_get("appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "save")
        assert settings == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory": str(300 * 2**20),
            "maxmemory-policy": "noeviction",
            "save": "",
        }
        assert "perennial_live_workers 2.0" in httpx.get(f"{url}/metrics").text
        for replica in (0, 1):
            page = httpx.get(f"http://127.0.0.1:{one.ports[f'metrics-{replica}']}/metrics").text
            assert "perennial_slots" in page
        lines = api.log.read_text().splitlines()
        assert all(json.loads(line) for line in lines if line.startswith("{")), "the image's log format is JSON"
        assert any('"route": "/v1/generate"' in line for line in lines)

        with one.run("loadtest") as load:
            assert load.popen.wait(200) == 0, load.log.read_text()
        summary = json.loads(load.log.read_text().splitlines()[-1])["summary"]
        assert (summary["whole"], summary["errors"]) == (64, {})

        # As `docker compose up --scale worker=1` would: the other goes on with its sessions.
        assert first.stop() == 0, first.log.read_text()
        assert say(url, "Go on.", session_id=begun["session"], wait_s=20)["session"] == begun["session"]
        # And all of it, while somebody is being answered.
        asked = {"prompt": "x", "max_tokens": 600, "ignore_eos": True, "session_id": begun["session"]}
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.stream("POST", f"{url}/v1/generate", json=asked, headers=headers, timeout=ANSWERED_S) as response:
            events = (line for line in response.iter_lines() if line.startswith("event: "))
            while next(events) != "event: token":
                pass
            api.popen.terminate()
            assert list(events)[-1] == "event: done", "what runs is finished"
        assert api.stop() == 0, api.log.read_text()
        assert second.stop() == 0, second.log.read_text()
        assert valkey.stop() == 0, valkey.log.read_text()
    with composed([parts[0], parts[1], parts[3]], START_S):
        again = say(url, "Still there?", session_id=begun["session"], wait_s=20)
        assert again["session"] == begun["session"]
        assert int(str(again["position"])) > 600


def test_health_checks_say_no_where_there_is_nothing(tmp_path: Path) -> None:
    one = Composed(tmp_path, operators("smollm2-135m"))
    for service in ("api", "worker", "valkey"):
        check = one.services[service].get("healthcheck", {"test": ["CMD", "ready"], "timeout": "5s"})
        ran = subprocess.run(
            check["test"][1:],
            env=one.environment(service),
            capture_output=True,
            timeout=seconds(check["timeout"]),
            check=False,
        )
        assert ran.returncode != 0, service
