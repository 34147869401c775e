"""Models on a device that is not the CPU, from the command line and behind the engine: as on the CPU, bit for bit.

The device pretends (`support.pretend_device`) and the kernels are stand-ins; what is real is everything around them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.kernels.cuda import CudaOps
from model.registry import load_model
from server.cli import main
from support.device_play import play
from support.families import family_checkpoint
from support.gpu_standins import STANDINS
from support.pretend_device import CPU, GPU, There, pretend_gpu
from support.tiny import one_thread

__all__ = ["one_thread"]


@pytest.fixture(autouse=True)
def _elsewhere(one_thread: None) -> Iterator[None]:
    with pretend_gpu():
        yield


@pytest.fixture(params=["mamba", "mamba2"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return family_checkpoint(request.param, tmp_path / "model")


def use(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on "cuda" is this device, with kernels."""
    monkeypatch.setattr("model.kernels.cuda.missing", lambda: None)
    monkeypatch.setattr("model.registry.missing", lambda: None)
    monkeypatch.setattr("model.kernels.cuda.CudaOps", lambda: CudaOps(kernels=STANDINS, device=device))


def test_the_device_pretends_well_enough() -> None:
    x = torch.arange(6.0, device=GPU).view(2, 3)
    assert isinstance(x, There)
    assert x.device == GPU
    x[1].add_(torch.ones(3, device=GPU))  # through a view
    assert (x * torch.tensor(2.0)).cpu().tolist() == [[0, 2, 4], [8, 10, 12]]
    for mixed in (
        lambda: x + torch.ones(3),
        lambda: torch.where(torch.ones(3) > 0, x, x),
        lambda: x[torch.tensor([0])],
    ):
        with pytest.raises(RuntimeError, match="expected all on the same device"):
            mixed()
    with pytest.raises((TypeError, RuntimeError)):
        x.numpy()


def test_the_engine_says_and_keeps_what_it_does_on_the_cpu(checkpoint: Path) -> None:
    there, here = (load_model(checkpoint, CudaOps(kernels=STANDINS, device=on)).model for on in (GPU, CPU))
    assert (there.device, here.device) == (GPU, CPU)
    got, expected = play(there), play(here)
    assert got.said == expected.said
    for turn, state in expected.states.items():
        assert got.states[turn].device == CPU
        assert got.states[turn].equal(state), turn
    assert torch.equal(got.before, expected.before)
    assert torch.equal(got.after, expected.after)
    assert not torch.equal(got.before, got.after)


def test_generate(checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for device in (GPU, CPU):
        use(device, monkeypatch)
        flags = ["--ops", "cuda", "--model", str(checkpoint), "--cache-dir", str(checkpoint), "--max-tokens", "20"]
        assert main(["generate", "abc", *flags, "--temperature", "0.7", "--seed", "5"]) == 0
        said.append(capsys.readouterr().out)
    assert len(said[0]) > 10
    assert said[0] == said[1]


@pytest.mark.parametrize("checkpoint", ["mamba2"], indirect=True)
def test_evaluate(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recall, with the memory as it is, emptied and cleaned, and perplexity."""
    flags = ["--parts", "recall,perplexity,clean", "--distances", "1", "--facts", "2", "--fillers", "varied"]
    flags += ["--forms", "plain", "--stories", "2", "--rows", "2", "--cuts", "1:1", "--corpus", "made", "--no-plots"]
    flags += ["--perplexity-tokens", "100", "--perplexity-judged", "8", "--perplexity-texts", "1"]
    flags += ["--sliding-window", "32", "--threads", "1", "--ops", "cuda", "--model", str(checkpoint)]
    found = []
    for device in (GPU, CPU):
        use(device, monkeypatch)
        out = checkpoint.parent / str(device)
        assert main(["evaluate", *flags, "--out", str(out), "--cache-dir", str(checkpoint)]) == 0
        found.append(json.loads((out / "results.json").read_text()))
    assert found[0]["model"]["kernels"] == "cuda"
    assert {record["part"] for record in found[0]["records"]} == {"recall", "perplexity"}
    assert found[0]["records"] == found[1]["records"]
