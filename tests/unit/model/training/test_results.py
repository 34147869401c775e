"""The file of results, and the tables made of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from model.training.report import added, alike, interval, markdown, per_token
from model.training.results import Results, ResultsError

MODEL = {
    "name": "tiny",
    "fingerprint": "one",
    "window": 16,
    "memory_layers": [1],
    "memory_rule": "linear",
    "state_bytes": 4096,
    "kernels": "ref",
}


def record(story: int = 0, condition: str = "memory", distance: int = 1, **sums: float) -> dict[str, Any]:
    key = {"part": "mqar", "condition": condition, "pairs": 4, "window": 16, "distance": distance, "seed": 0}
    return key | {"story": story, "asked": 4, "exact": 2, "among": 3, "tokens": 4, "hits": 2, "nll": 1.5} | sums


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "deep" / "out", MODEL)
    results.run({"command": "perennial evaluate", "seed": 0})
    assert record() not in results
    results.add([record(), record(1)])
    results.add([record(1, exact=4)])  # the same measured again takes the place of the first
    again = Results(tmp_path / "deep" / "out", MODEL)
    assert record(exact=0) in again
    assert record(2) not in again
    assert again.records == [record(), record(1, exact=4)]
    assert [run["command"] for run in again.about["runs"]] == ["perennial evaluate"]
    assert list(json.loads(again.path.read_text())) == ["format", "model", "runs", "records"]
    assert Results(again.path.parent, MODEL, fresh=True).records == []


def test_another_models_results_are_not_added_to(tmp_path: Path) -> None:
    Results(tmp_path, MODEL).add([record()])
    with pytest.raises(ResultsError, match="another model"):
        Results(tmp_path, MODEL | {"fingerprint": "two"})
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ResultsError, match="no file of results"):
        Results(tmp_path, MODEL)


def test_sums_are_added_by_what_is_asked_for() -> None:
    records = [record(0), record(1, exact=4, hits=4), record(0, "zeroed", exact=0, hits=0), record(0, distance=10)]
    total = added(records, ("condition", "distance"))
    assert list(total) == [("memory", 1), ("memory", 10), ("zeroed", 1)]
    assert total["memory", 1]["exact"] == 6
    assert total["memory", 1]["asked"] == 8
    assert per_token(total["memory", 1]) == 0.75


def test_a_row_compares_the_same_texts_only() -> None:
    """A story that only one of two conditions has is left out; in a cell with one condition it counts."""
    both = [record(0), record(0, "zeroed"), record(1)]
    assert alike([*both, record(1, distance=10)], ("pairs", "distance")) == [*both[:2], record(1, distance=10)]


def test_cleaning_has_a_table_of_its_own() -> None:
    told = {
        "part": "recall",
        "form": "chat",
        "filler": "repeated",
        "facts": 4,
        "templates": "all",
        "window": 16,
        "seed": 0,
    }
    sums = {"asked": 4, "exact": 4, "among": 4, "tokens": 8, "hits": 8, "nll": 1.0}
    none = {"asked": 4, "exact": 0, "among": 0, "tokens": 8, "hits": 0, "nll": 9.0}
    records = [told | {"condition": "memory", "distance": 1, "story": s} | (none if s else sums) for s in (0, 1)]
    records += [told | {"condition": "cleaned: keep all", "distance": 1, "story": 0} | sums]
    text = markdown({"model": MODEL, "runs": []}, records)
    main, _, after = text.partition("## Recall after cleaning the memory")
    assert "| 8         | 0.32 | 0.50 / 0.50 |" in main
    assert "| 4         | 0.49 | 1.00 / 1.00 | 1.00 / 1.00       |" in after


def test_intervals_are_wilsons() -> None:
    """Against the values of Wilson's formula worked by hand: 0 of 16, 8 of 16, 16 of 16."""
    assert interval(0, 16) == pytest.approx((0.0, 0.19361), abs=1e-4)
    assert interval(8, 16) == pytest.approx((0.28000, 0.72000), abs=1e-4)
    assert interval(16, 16) == pytest.approx((0.80639, 1.0), abs=1e-4)
    assert math.isnan(per_token({"hits": 0, "tokens": 0}))


def test_tables_say_what_the_records_say(tmp_path: Path) -> None:
    told = {"part": "recall", "form": "chat", "filler": "repeated", "facts": 4, "templates": "all", "window": 16}
    read = {"part": "perplexity", "corpus": "made", "window": 16, "from": 0, "to": 1024, "judged": 256, "seed": 0}
    results = Results(tmp_path, MODEL)
    results.run({"command": "perennial evaluate --quick", "seed": 7})
    results.add([record(), record(0, "zeroed", exact=0, among=1)])
    sums = {"asked": 4, "exact": 3, "among": 3, "tokens": 20, "hits": 17, "nll": 9.0}
    results.add([told | {"condition": "memory", "distance": 10, "seed": 0, "story": 0} | sums])
    results.add([read | {"condition": "window only", "text": 0, "tokens": 100, "nll": 230.2585, "squares": 1.0}])
    text = markdown(results.about, results.records)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["4", "1", "4", "0.25", "0.50 / 0.75", "0.00 / 0.25"] in rows
    assert ["chat, repeated", "4", "10", "4", "0.49", "0.75 / 0.85"] in rows
    assert ["0 – 1,024", "100", "10.00"] in rows
    assert "`perennial evaluate --quick` (seed 7)" in text
