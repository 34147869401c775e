"""`docs/metrics.md` and the registries say the same, metric by metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from server.metrics import ApiMetrics
from server.worker.metrics import SLOT_KINDS, WorkerMetrics
from support.metric_names import metrics_of

TABLES = Path(__file__).parents[2] / "docs" / "metrics.md"


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of the table under a heading: name, type, labels, meaning."""
    section = TABLES.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip().replace("`", "") for cell in line.strip("| ").split(" | ")) for line in lines]


@pytest.mark.parametrize(
    ("heading", "registry"),
    [("Of an api", ApiMetrics().registry), ("Of a worker", WorkerMetrics().registry)],
    ids=["api", "worker"],
)
def test_the_table_is_the_registry(heading: str, registry: CollectorRegistry):
    known = [(m.name, m.kind, ", ".join(m.labels) or "–", m.help) for m in metrics_of(registry)]
    assert known, "no metrics at all"
    assert sorted(rows(heading)) == sorted(known)


def test_no_name_is_both_an_apis_and_a_workers():
    api, worker = ({m.name for m in metrics_of(r)} for r in (ApiMetrics().registry, WorkerMetrics().registry))
    assert not api & worker
    for name in api | worker:
        assert re.fullmatch(r"perennial_[a-z0-9_]+", name)


def test_a_worker_notes_what_its_engine_says():
    from server.engine.request import Stats

    metrics = WorkerMetrics()
    metrics.look(Stats(decoding=2, free=6, waiting=1, read_tokens=10, sampled_tokens=4), in_hand=3)
    metrics.look(Stats(decoding=1, free=7, waiting=0, read_tokens=15, sampled_tokens=9, tick_s=0.5), in_hand=1)
    sample = metrics.registry.get_sample_value
    assert sample("perennial_num_requests_running") == 1
    assert sample("perennial_num_requests_waiting") == 0
    assert sample("perennial_engine_read_tokens_total") == 15
    assert sample("perennial_engine_sampled_tokens_total") == 9
    assert sample("perennial_engine_tick_seconds") == 0.5
    assert {kind: sample("perennial_slots", {"kind": kind}) for kind in SLOT_KINDS} == {
        **dict.fromkeys(SLOT_KINDS, 0),
        "decoding": 1,
        "free": 7,
    }
