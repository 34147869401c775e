"""`perennial-loadtest chaos` while the processes behind the api die, one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.checkpoint import tiny_checkpoint
from support.fleet import fleet
from support.serving import wait_for

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[3]


def test_no_token_is_lost_while_worker_and_store_are_killed(tmp_path: Path) -> None:
    settings = {"model": str(tiny_checkpoint(tmp_path / "tiny")), "sliding_window": "64", "slots": "4"}
    with fleet(tmp_path, **settings) as servers:
        first = servers.worker()
        url, _ = servers.api()
        flags = ("--conversations", "4", "--turns", "2", "--tokens", "1500", "--words", "3", "--cuts", "60", "--quiet")
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtest", "chaos", "--url", url, *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: resumed(url) >= 40, 60)
            servers.kill(first)
            servers.worker()
            wait_for(lambda: resumed(url) >= 300, 60)  # the second turns, then
            servers.kill_valkey()
            servers.revive_valkey()
            out, errors = process.communicate(timeout=150)
        finally:
            process.kill()
        assert process.returncode == 0, errors + out
        found = json.loads(out.splitlines()[-1])["verdicts"]
        assert [one["wrong"] for one in found] == [None] * 8
        assert {one["tokens"] for one in found} == {1500}
        assert sum(one["cuts"] for one in found) == 8 * 60
        assert max(one["silence_s"] for one in found) > 1, "something did die under them"


def resumed(url: str) -> float:
    """How many streams have been taken up again so far."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return sum(one.value for one in samples if one.name == "perennial_stream_resumes_total")
