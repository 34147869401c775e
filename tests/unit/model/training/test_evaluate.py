"""`perennial evaluate` from end to end, on a tiny model, and on models whose memory was set by hand to recall."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from model.training import evaluate as module
from model.training.results import Results, key_of
from server.cli import main
from support.checkpoint import tiny_checkpoint
from support.planted import facts_checkpoint, pairs_checkpoint

FAST = ("--sliding-window", "32", "--threads", "1", "--corpus", "made", "--no-plots")


def run(model: Path, out: Path, *flags: str) -> list[dict[str, Any]]:
    """The records that a command leaves."""
    cache = str(out.parent / "cache")
    assert main(["evaluate", "--model", str(model), "--out", str(out), "--cache-dir", cache, *FAST, *flags]) == 0
    records: list[dict[str, Any]] = json.loads((out / "results.json").read_text())["records"]
    return records


def shares(records: Iterable[dict[str, Any]], condition: str) -> set[float]:
    """The shares of exact answers under a condition, one for each cell."""
    return {r["exact"] / r["asked"] for r in records if r["condition"] == condition}


def test_every_part_on_a_tiny_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, tables, plots, and that a second run has nothing left to do."""
    model, out = tiny_checkpoint(tmp_path / "model"), tmp_path / "out"
    flags = ["--parts", "recall,mqar,perplexity,clean", "--distances", "1,2", "--facts", "2", "--fillers", "varied"]
    flags += ["--forms", "plain", "--pairs", "3", "--stories", "2", "--rows", "1", "--cuts", "0.9,1:1"]
    flags += ["--perplexity-tokens", "300", "--perplexity-judged", "8", "--perplexity-texts", "1"]
    command = ["evaluate", "--model", str(model), "--out", str(out), "--cache-dir", str(tmp_path), *FAST[:-1], *flags]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "## Recall of facts" in told.out
    assert "## Perplexity by position" in told.out
    assert "tok/s" in told.err  # a progress bar
    found = json.loads((out / "results.json").read_text())
    assert found["runs"][0]["command"] == shlex.join(["perennial", *command])
    assert found["model"]["memory_layers"] == [1, 3]
    assert found["runs"][0]["versions"]["torch"]
    records = found["records"]
    against = ("memory", "zeroed", "window only", "full attention")
    conditions = (*against, "cleaned: keep 0.9", "cleaned: keep all, drop 1")
    recalled = {(r["condition"], r["distance"], r["story"]) for r in records if r["part"] == "recall"}
    assert recalled == set(product(conditions, (1, 2), (0, 1)))
    paired = {(r["condition"], r["distance"], r["story"]) for r in records if r["part"] == "mqar"}
    assert paired == set(product(against, (1, 2), (0, 1)))
    judged = {(r["condition"], r["from"], r["to"]) for r in records if r["part"] == "perplexity"}
    assert judged == {(c, 0, 300) for c in against if c != "zeroed"}
    for name in ("recall.png", "clean.png", "mqar.png", "perplexity.png"):
        picture = (out / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 100_000
    assert main(command) == 0
    assert "0 tokens to read" in capsys.readouterr().out
    assert json.loads((out / "results.json").read_text()) == found


def test_facts_planted_in_a_memory_are_recalled_exactly(tmp_path: Path) -> None:
    """Beyond the window, in both forms; and not at all once the memory is emptied, absent or cut away."""
    model = facts_checkpoint(tmp_path / "model")
    flags = ["--parts", "recall,clean", "--templates", "plays,moved", "--facts", "4", "--distances", "1,8"]
    records = run(model, tmp_path / "out", *flags, "--stories", "1", "--cuts", "1,1:4")
    assert len(records) == 2 * 2 * 2 * 6  # forms, fillers, distances, conditions
    assert shares(records, "memory") == shares(records, "cleaned: keep all") == {1.0}
    for control in ("zeroed", "window only", "full attention", "cleaned: keep all, drop 4"):
        assert shares(records, control) == {0.0}


def test_pairs_planted_in_a_memory_are_recalled_exactly(tmp_path: Path) -> None:
    """MQAR beyond the window; with the memory zeroed or absent, one value is as good as another."""
    model = pairs_checkpoint(tmp_path / "model")
    flags = ["--parts", "mqar", "--pairs", "4,32", "--distances", "1,10", "--stories", "1", "--against", "window"]
    assert_recalled(run(model, tmp_path / "out", *flags))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_what_was_planted_is_recalled_a_thousand_windows_later(tmp_path: Path) -> None:
    """16,000 tokens after the pairs, at the smallest window that can be served; of 64 pairs as of four."""
    model = pairs_checkpoint(tmp_path / "model")
    flags = ["--parts", "mqar", "--pairs", "4,64", "--distances", "1,10,100,1000", "--stories", "1"]
    assert_recalled(run(model, tmp_path / "out", *flags, "--against", "window", "--sliding-window", "16"))


def assert_recalled(records: list[dict[str, Any]]) -> None:
    """Every query of MQAR with the memory, none without, where they are told apart from chance."""
    assert shares(records, "memory") == {1.0}
    assert all(r["among"] == r["asked"] for r in records if r["condition"] == "memory")
    for control in ("zeroed", "window only"):
        assert shares(records, control) == {0.0}
        assert all(r["among"] == 1 for r in records if r["condition"] == control)  # of as many as there are values


def test_an_interrupted_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped after three cells, and given again: the same records as in one go, none of them measured twice."""
    model = tiny_checkpoint(tmp_path / "model")
    flags = ["--parts", "recall,mqar", "--distances", "1,2", "--facts", "1", "--pairs", "3", "--stories", "3"]
    flags += ["--against", "window", "--forms", "plain", "--fillers", "repeated", "--rows", "2"]
    whole = run(model, tmp_path / "whole", *flags)
    kept: list[Any] = []
    add = Results.add

    def noting(self: Results, records: Iterable[Any]) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        kept.append(records)
        add(self, records)

    with monkeypatch.context() as patched:
        patched.setattr(Results, "add", noting)
        command = ["evaluate", "--model", str(model), "--out", str(tmp_path / "cut"), *FAST, *flags]
        assert main([*command, "--cache-dir", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().out
    first = json.loads((tmp_path / "cut" / "results.json").read_text())["records"]
    assert 0 < len(first) < len(whole)
    rest = {key_of(record): record for record in run(model, tmp_path / "cut", *flags)}
    assert rest == {key_of(r): r | {"nll": pytest.approx(r["nll"], abs=1e-2)} for r in whole}
    assert all(rest[key_of(record)] == record for record in first)


def test_what_goes_over_the_budget_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    flags = ["--parts", "mqar", "--pairs", "3", "--distances", "1,2,1000", "--stories", "1", "--against", "window"]
    records = run(model, tmp_path / "out", *flags, "--tokens-budget", "1000")
    assert {record["distance"] for record in records} == {1, 2}
    assert "left out" in capsys.readouterr().out


def test_what_is_asked_wrongly_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(tiny_checkpoint(tmp_path / "model"))
    out = ["--out", str(tmp_path / "out"), "--cache-dir", str(tmp_path), "--model", model]
    for flags, said in (
        (["--parts", "recal"], "'recal' is none of recall"),
        (["--distances", "0"], "0 is less than 1"),
        (["--cuts", "2"], "energy is more than 0"),
        (["--facts", "many"], "no whole number"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["evaluate", *out, *flags])
        assert said in capsys.readouterr().err
    for flags, said in (
        (["--templates", "sings"], "no template 'sings'"),
        (["--corpus", str(tmp_path / "nowhere")], "nowhere"),
        (["--parts", "mqar", "--pairs", "1000"], "pairs"),
    ):
        assert main(["evaluate", *out, "--no-plots", *flags]) == 1
        assert said in capsys.readouterr().err
    assert main(["evaluate", *out, "--distancs", "1"]) == 2


def test_without_matplotlib_there_are_no_plots_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "model.training.plots", raising=False)
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.setitem(sys.modules, name, None)
    results = Results(tmp_path, {"fingerprint": "one"})
    module._plot(results, tmp_path, print)
    assert "no plots: matplotlib" in capsys.readouterr().out


GROWTH = """
import resource, sys
from server.cli import main

def peak(windows):
    sys.stdout = sys.stderr = open("/dev/null", "w")
    code = main(["evaluate", "--model", sys.argv[1], "--out", sys.argv[2], "--cache-dir", sys.argv[2], "--parts",
                 "recall,perplexity", "--forms", "plain", "--facts", "2", "--stories", "1", "--against", "window",
                 "--corpus", "made", "--no-plots", "--threads", "1", "--sliding-window", "256", "--perplexity-texts",
                 "1", "--perplexity-judged", "16", "--fresh", "--distances", str(windows), "--perplexity-tokens",
                 str(256 * windows)])
    sys.stdout = sys.__stdout__
    assert code == 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

peak(10)
before = peak(10)
print(peak(100) - before)
"""


@pytest.mark.full
@pytest.mark.timeout(600)
def test_ten_times_the_text_takes_no_more_memory(tmp_path: Path) -> None:
    """A process of its own, since only its highest mark can be read. 25,600 tokens' logits alone would be 26 MB."""
    model = tiny_checkpoint(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(model), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    assert int(done.stdout) < 6_000  # KiB
