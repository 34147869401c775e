"""The load test as a program, against a small server that really runs: what it says is what the server did."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.serving import wait_for

ROOT = Path(__file__).parents[3]
SMALL = ("--words", "2:5", "--tokens", "4:8", "--quiet")


def start(url: str, key: str, *flags: str) -> subprocess.Popen[str]:
    command, *rest = flags
    environment = os.environ | {"LOADTEST_API_KEY": key, "LOADTEST_API_KEY_PEER": key}
    line = [sys.executable, "-m", "loadtest", command, "--url", url, *rest]
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def loaded(url: str, key: str, *flags: str, code: int = 0) -> tuple[str, dict[str, Any]]:
    """What it printed, and its last line."""
    process = start(url, key, *flags, *SMALL)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == code, errors + out
    assert key not in out + errors
    last: dict[str, Any] = json.loads(out.splitlines()[-1])
    return out, last


def counted(url: str, name: str) -> float:
    """A metric of the server's, all labels together."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def sessions(url: str, key: str) -> int:
    answer = httpx.get(f"{url}/v1/sessions", headers={"Authorization": f"Bearer {key}"})
    return len(answer.json()["data"])


@pytest.mark.parametrize("api", ["native", "openai"])
def test_a_closed_run_counts_what_the_server_counts(url: str, key: str, api: str) -> None:
    names = ("perennial_generation_tokens_total", "perennial_request_success_total", "perennial_prompt_tokens_total")
    before, kept = [counted(url, name) for name in names], sessions(url, key)
    out, last = loaded(url, key, "closed", "--api", api, "--conversations", "6", "--users", "3", "--turns", "3")
    tokens, answers, read = (counted(url, name) - was for name, was in zip(names, before, strict=True))
    found = last["summary"]
    assert (found["asked"], found["whole"], found["unfinished"], found["errors"]) == (18, 18, 0, {})
    assert answers == 18
    assert found["tokens"] == tokens
    # A prompt of OpenAI's is all that came before it, and the token that each turn before left pending is read too.
    assert found["read_tokens"] - read == (0 if api == "native" else 12)
    assert found["cached_tokens"] > 0, "later turns go on from a state"
    for name in ("ttft_s", "gap_s", "e2e_s"):
        assert 0 < found[name]["p50"] <= found[name]["p95"] <= found[name]["p99"] <= found[name]["most"]
    assert found["ttft_s"]["p50"] <= found["e2e_s"]["p50"] <= found["seconds"]
    assert (found["ttft_s"]["count"], last["servers"]["server"]["api"]) == (18, api)
    assert "18 of 18 answers whole" in out
    if api == "native":
        assert sessions(url, key) == kept, "what it made, it deletes"


def test_an_open_run_sends_what_is_due_whatever_the_server_does(url: str, key: str) -> None:
    _, last = loaded(url, key, "open", "--rate", "20", "--duration-s", "2", "--turns", "2")
    found, load = last["summary"], last["load"]
    assert (load["rate"], load["duration_s"]) == (20.0, 2.0)
    assert 40 < found["asked"] < 130, "80 are expected"
    assert found["whole"] == found["asked"]
    assert found["asked"] % 2 == 0
    _, crowded = loaded(url, key, "open", "--rate", "200", "--duration-s", "0.5", "--in-flight", "1")
    assert crowded["summary"]["errors"]["not sent: too many in flight"] > 20


def test_errors_are_told_by_kind_and_all_errors_are_a_failure(url: str, key: str) -> None:
    flags = ("closed", "--conversations", "2", "--turns", "2", "--extra", '{"frobnicate": 1}')
    out, last = loaded(url, key, *flags, code=1)
    assert last["summary"]["errors"] == {"400 unknown_parameter": 4}
    assert "error: 400 unknown_parameter × 4" in out


def test_the_same_seed_says_the_same(url: str, key: str) -> None:
    flags = ("closed", "--conversations", "3", "--turns", "2", "--seed", "7")
    first, second = (loaded(url, key, *flags)[1]["summary"] for _ in range(2))
    assert [first[name] for name in ("read_tokens", "tokens")] == [second[name] for name in ("read_tokens", "tokens")]


@pytest.mark.full
def test_a_long_conversation_beside_the_same_server_by_its_other_dialect(url: str, key: str, tmp_path: Path) -> None:
    png = tmp_path / "turns.png"
    out, last = loaded(url, key, "long", "--turns", "6", "--png", str(png), "--beside", f"peer={url}")
    for name in ("server", "peer"):
        turns = last["turns"][name]
        assert (turns["whole"], turns["failed"], len(turns["ttft_s"])) == (6, None, 6)
        assert turns["ratio"] == pytest.approx(turns["late_s"] / turns["early_s"])
    assert last["servers"]["peer"] == {"url": url, "api": "openai", "model": "tiny"}
    assert "ratio" in out
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (960, 540)


def test_a_run_ends_by_itself_and_says_what_it_cut_off(url: str, key: str) -> None:
    began = time.monotonic()
    _, last = loaded(url, key, "closed", "--conversations", "300", "--turns", "100", "--limit-s", "2")
    found = last["summary"]
    assert time.monotonic() - began < 60
    assert 2 <= found["seconds"] < 30
    assert 0 < found["whole"] < 30_000
    assert 1 <= found["unfinished"] <= 4


def test_an_interrupted_run_tells_what_it_has(url: str, key: str) -> None:
    before = counted(url, "perennial_request_success_total")
    process = start(url, key, "closed", "--conversations", "300", "--turns", "100", *SMALL)
    wait_for(lambda: counted(url, "perennial_request_success_total") > before + 5, 60)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(out.splitlines()[-1])["summary"]["whole"] > 5


def test_servers_are_compared_round_by_round(url: str, key: str) -> None:
    out, last = loaded(url, key, "compare", "--conversations", "2", "--rounds", "2", "--beside", f"peer={url}")
    for name in ("server", "peer"):
        assert [one["whole"] for one in last["rounds"][name]] == [4, 4]
    assert "1.00× (1.00–1.00)" in out


def test_answers_that_are_cut_again_and_again_are_whole(url: str, key: str) -> None:
    flags = ("chaos", "--conversations", "3", "--turns", "2", "--cuts", "4", "--quiet", "--words", "3")
    process = start(url, key, *flags, "--tokens", "60:90")
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors + out
    found = json.loads(out.splitlines()[-1])
    assert found["asked"] == len(found["verdicts"]) == 6
    assert all(one["wrong"] is None and 60 <= one["tokens"] <= 90 for one in found["verdicts"])
    assert sum(one["cuts"] for one in found["verdicts"]) >= 12
    assert "6 of 6 answers whole" in out
