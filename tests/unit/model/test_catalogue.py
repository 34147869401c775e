"""`perennial models`: every family is in it, and figures are those of the weights and of the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.catalogue import FAMILIES, row
from model.kernels import choose_ops
from model.registry import ARCHITECTURES, MODEL_TYPES, load_model
from server.cli import main
from support.checkpoint import tiny_checkpoint


def test_every_family_is_described_with_a_shape_of_its_own() -> None:
    assert {family.name for family in FAMILIES} == ARCHITECTURES.keys()
    for family in FAMILIES:
        assert MODEL_TYPES[family.shape["model_type"]] == family.name


def test_published_sizes_are_those_that_are_known() -> None:
    rows = {f.name: row(f.name, f.published, f.shape) for f in FAMILIES}
    # As `transformers` counts them (tied embeddings once).
    assert rows["senri"].parameters == 134_515_008
    assert rows["mamba"].parameters == 129_135_360
    # A state of one size: 24 layers of (1536, 4 − 1) and (1536, 16) floats, and the counters.
    assert rows["mamba"].state_bytes == 24 * 1536 * (3 + 16) * 4 + 2 * 8 + 24 * 8


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:7]] == [family.name for family in FAMILIES]
    assert out.count("remembers") == len(FAMILIES)
    folder = tiny_checkpoint(tmp_path / "tiny")
    assert main(["models", str(folder), "--window", "16"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    loaded = load_model(folder, choose_ops("ref"), sliding_window_size=16)
    assert loaded.architecture == line.split()[0] == "senri"
    assert "0.1 M" in line
    assert main(["models", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("perennial models: ")
