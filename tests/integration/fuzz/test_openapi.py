"""The server against its own description: schemathesis makes requests from /openapi.json, and judges the answers by it.

Requests that the description allows and requests that it forbids, each route's examples, each boundary of each field,
methods that no route has; and sequences in which one answer's ids are the next request's. What is held: no answer is a
5xx, every one has a status, content type, headers and body as described (each event of a stream too), what is forbidden
is refused, a key that is asked for is needed, what was deleted is gone. The seed is fixed; ids are the server's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.target import Target

CONFIG = """
continue-on-failure = true
request-timeout = 30
max-stream-events = 200
warnings = false

[dictionaries]
models = { values = ["tiny"] }

# Another model is 404, and nothing behind that would be reached.
[parameters]
"body.model" = { dictionary = "models", probability = 0.9 }

[phases.coverage]
unexpected-methods = ["TRACE", "PUT", "PATCH", "OPTIONS"]

# What no schema can say: that two fields exclude each other, what the settings allow, what is gone by now.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 401, 404, 409, 410, 413, 422]

# It takes the turn that a session is to be rewound to for the session.
[checks.ensure_resource_availability]
enabled = false
"""
GREW = 256 * 2**20  # what any number of requests may add to an api's memory, bytes


def fuzz(target: Target, folder: Path, phases: str, examples: int, seed: int) -> dict[str, Any]:
    """What schemathesis reports; its output goes where the test's goes, as it comes."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    report = folder / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
        *("run", f"{target.url}/openapi.json", "--no-color", "--phases", phases),
        *("--max-examples", str(examples), "--seed", str(seed), "--generation-database", "none", "--no-shrink"),
        *("--report", "json", "--report-json-path", str(report)),
        *(word for name, value in target.headers.items() for word in ("--header", f"{name}: {value}")),
    ]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")  # noqa: T201  (its progress)
    found: dict[str, Any] = json.loads(report.read_text())
    assert (process.returncode, found["failures"]) == (0, []), found["failures"]
    assert found["complete"]
    return found


def check_counts(found: dict[str, Any], least: int) -> None:
    assert found["operations"]["tested"] == found["operations"]["total"] >= 30
    assert found["test_cases"]["generated"] >= least
    assert found["test_cases"]["errored"] == 0


@pytest.mark.timeout(400)
def test_each_route_is_as_described(target: Target, tmp_path: Path) -> None:
    check_counts(fuzz(target, tmp_path, "examples,fuzzing", 2, 1), 100)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_each_route_is_as_described_at_length(target: Target, tmp_path: Path) -> None:
    """Thousands of requests; the memory they take comes to an end."""
    fuzz(target, tmp_path, "examples", 1, 1)
    before = target.rss()
    check_counts(fuzz(target, tmp_path, "coverage,fuzzing,stateful", 60, 2), 4000)
    assert target.rss() - before < GREW


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_each_route_is_as_described_where_a_key_is_asked_for(keyed: Target, tmp_path: Path) -> None:
    check_counts(fuzz(keyed, tmp_path, "examples,coverage,fuzzing,stateful", 20, 3), 2000)
