"""What asks for traces, what cannot be had, and that nothing is imported where nobody asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from server.errors import StartupError
from server.tracing import NO_SPAN, OFF, open_tracing, wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, False),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_standard_variables_decide(environment: Mapping[str, str], on: bool) -> None:
    assert wanted(environment) is on


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "protocol grpc"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "protocol http/json"),
    ],
)
def test_a_way_that_is_not_there_is_refused(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        open_tracing("api", environment)


def test_off_is_nothing() -> None:
    assert open_tracing("api", {}) is OFF
    span = OFF.begin("x", "server", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", session="s")
    assert span is NO_SPAN
    assert span.within is None
    span.note("y")
    span.end(error="z")
    OFF.close()


SCRIPT = """
import importlib.abc, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
import server.api.app, server.worker.main, server.tracing
from server.errors import StartupError
assert server.tracing.open_tracing("api", {}) is server.tracing.OFF
try:
    server.tracing.open_tracing("api", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
except StartupError as error:
    print(error)
"""


def test_it_starts_without_the_extra_and_says_what_is_missing_where_it_is_asked_for() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "pip install 'perennial[otel]'" in ran.stdout
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in ran.stdout
