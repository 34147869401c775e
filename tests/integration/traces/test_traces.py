"""One trace from a client's request to its turn's commit, across processes, at a collector that listens."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from support.checkpoint import tiny_checkpoint
from support.collector import Collector, Kept, collecting
from support.fleet import Fleet, Listener, fleet
from support.serving import running_api, wait_for

pytestmark = pytest.mark.timeout(200)
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARTS = ["restore", "prefill", "decode", "commit"]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Whatever is started from now on sends its traces there, often."""
    with collecting() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield one


@pytest.fixture
def servers(tmp_path: Path, collector: Collector) -> Iterator[Fleet]:
    with fleet(tmp_path, model=str(tiny_checkpoint(tmp_path / "tiny")), sliding_window="64", slots="2") as one:
        yield one


def whole(collector: Collector, trace: str, count: int) -> list[Kept]:
    """A trace's spans, once there are so many."""
    wait_for(lambda: len(collector.spans(trace)) >= count)
    found = collector.spans(trace)
    assert len(found) == count, [one.name for one in found]
    return found


def test_a_turns_trace_goes_from_its_callers_span_to_its_commit(servers: Fleet, collector: Collector) -> None:
    servers.worker()
    url, _ = servers.api()
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-Id": "req-of-mine"}
    asked = {"prompt": "a secret of the user", "max_tokens": 12, "ignore_eos": True, "stream": False}
    before = time.time()
    said = httpx.post(f"{url}/v1/generate", json=asked, headers=headers, timeout=60).json()
    spans = {one.name: one for one in whole(collector, TRACE, 7)}
    assert set(spans) == {"POST /v1/generate", "queue", "turn", *PARTS}
    request, turn = spans["POST /v1/generate"], spans["turn"]
    assert (request.parent, request.service) == (CALLER, "perennial-api")
    assert spans["queue"].parent == turn.parent == request.id
    assert {spans[name].parent for name in PARTS} == {turn.id}
    assert {spans[name].service for name in ("queue", "turn", *PARTS)} == {"perennial-worker"}
    ids = {"perennial.session": said["session"], "perennial.generation": said["generation"]}
    assert request.attributes == {"perennial.request": "req-of-mine", "perennial.status": 200, **ids}
    assert ids.items() <= turn.attributes.items()
    assert (turn.attributes["perennial.completion_tokens"], turn.attributes["perennial.finish_reason"]) == (
        12,
        "length",
    )
    assert spans["restore"].attributes["perennial.tier"] == "new"
    # One after the other without a gap, within the turn, which is within the request.
    parts = [spans[name] for name in PARTS]
    assert parts[0].began == turn.began == spans["queue"].ended
    assert all(a.ended == b.began for a, b in pairwise(parts))
    assert turn.events == {"first token": spans["decode"].began}
    assert before <= request.began <= spans["queue"].began <= turn.began < parts[-1].ended <= turn.ended
    assert not any(one.failed for one in spans.values())
    assert b"secret" not in b"".join(collector.raw)


def test_what_is_refused_is_a_trace_of_its_own_and_probes_are_none(
    servers: Fleet, collector: Collector, tmp_path: Path
) -> None:
    settings = {name: value for name, value in servers.settings.items() if name != "log_format"}
    with running_api(tmp_path, **settings) as (url, api):  # and no worker
        for path in ("/health/live", "/metrics"):
            assert httpx.get(url + path).status_code == 200
        answer = httpx.post(f"{url}/v1/generate", json={"prompt": "x"}, headers={"traceparent": "junk"})
        assert answer.status_code == 503
        assert httpx.get(f"{url}/v1/sessions/unknown-id").status_code == 404
        assert api.stop(signal.SIGTERM) == 0, "the last spans are sent as it ends"
    refused, missing = collector.spans()
    assert (refused.name, refused.parent, refused.failed) == ("POST /v1/generate", "", True)
    assert (missing.name, missing.failed) == ("GET /v1/sessions/{session_id}", False)
    assert refused.trace != missing.trace


@pytest.mark.full
def test_a_turn_that_is_taken_over_stays_in_its_trace(servers: Fleet, collector: Collector) -> None:
    first = servers.worker()
    url, _ = servers.api()
    one = Listener(url, prompt="go on and on", max_tokens=3000, ignore_eos=True)
    one.heard(5)
    servers.kill(first)
    servers.worker()
    one.whole()
    wait_for(lambda: any(span.name == "POST /v1/generate" for span in collector.spans()))
    [request] = [span for span in collector.spans() if span.name == "POST /v1/generate"]
    wait_for(lambda: any(span.name == "turn" for span in collector.spans(request.trace)))
    [turn] = [span for span in collector.spans(request.trace) if span.name == "turn"]
    assert turn.parent == request.id
    assert turn.attributes["perennial.resumed_tokens"] > 0
    assert "commit" in {span.name for span in collector.spans(request.trace)}


@pytest.mark.full
def test_a_collector_that_is_away_holds_nothing_up(servers: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    worker = servers.worker()
    url, api = servers.api()
    for _ in range(3):
        asked = {"prompt": "x", "max_tokens": 4, "ignore_eos": True, "stream": False}
        assert httpx.post(f"{url}/v1/generate", json=asked, timeout=30).status_code == 200
    began = time.monotonic()
    assert api.stop(signal.SIGTERM) == 0
    assert worker.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 20
    lines = [line for line in api.errors().splitlines() if re.search("127.0.0.1:1|Connection", line)]
    assert lines, "it says that it could not send"
