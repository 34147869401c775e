"""Memories that are cleaned unasked, as the settings want it: seen in the history and in the metrics, undone by a
rewind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.cli import main
from support.conversation import Serve, generate, serving
from support.memory_play import TEXT, ask, goes_on, head, rewind, told
from support.serving import wait_for
from support.three_nodes import free_ports

pytestmark = pytest.mark.timeout(300)

CUT = {"memory_clean_energy": "0.7", "memory_clean_drop_top": "1"}


@pytest.fixture
def free_port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def served(settings: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest, free_port: int) -> Iterator[Serve]:
    own = settings | CUT | request.param | {"key_prefix": "policies", "worker_metrics_port": str(free_port)}
    with serving(tmp_path, **own) as server:
        yield server


def turns(server: Serve, session: str) -> list[dict[str, Any]]:
    """Newest first."""
    found: list[dict[str, Any]] = httpx.get(f"{server.url}/v1/sessions/{session}/turns").json()["data"]
    return found


def metric(port: int, line: str) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(line))


@pytest.mark.parametrize(
    ("served", "why"),
    [
        pytest.param({"memory_clean_idle_s": "0.5"}, "idle", id="idle"),
        pytest.param({"memory_clean_every_writes": "10"}, "writes", id="every-n-writes"),
        pytest.param({"memory_clean_rank": "3"}, "rank", id="rank", marks=pytest.mark.full),
    ],
    indirect=["served"],
)
def test_a_memory_is_cleaned_by_policy(
    served: Serve, why: str, free_port: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    session = told(served)
    wait_for(lambda: turns(served, session)[0]["operation"] == "svd-clean")
    cleaned, before = turns(served, session)
    assert (cleaned["finish"], cleaned["tokens"]) == ("policy", 0)
    assert all(matrix["rank"] < 16 and matrix["writes"] == 0 for matrix in ask(served, session)["matrices"])
    assert metric(free_port, f'perennial_memory_policies_total{{policy="{why}"}}') == 1
    assert metric(free_port, 'perennial_memory_operations_total{by="policy",kind="svd-clean",outcome="kept"}') == 1

    after = goes_on(served, session)
    rewind(served, session, to_turn=before["id"])
    assert all(matrix["rank"] == 16 and matrix["writes"] > 0 for matrix in ask(served, session)["matrices"])
    assert goes_on(served, session) != after

    # Once more, as it goes on: nothing is cleaned that was not written since.
    generate(served.url, session_id=session, prompt=TEXT, max_tokens=2, temperature=0)
    wait_for(lambda: turns(served, session)[0]["operation"] == "svd-clean")
    assert [one["operation"] for one in turns(served, session)] == ["svd-clean", None, None]

    picture = tmp_path / "memory.png"
    assert main(["inspect", session, "--url", served.url, "--png", str(picture)]) == 0
    out = capsys.readouterr().out
    assert head(served, session) in out
    assert len(out.splitlines()) == 6
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["inspect", "sess_0123456789abcdefghij_0", "--url", served.url]) == 1
    assert "(404)" in capsys.readouterr().err
