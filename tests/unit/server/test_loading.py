"""Which kernels a model is loaded with, and what is said where they cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.kernels import choose_ops
from model.kernels.cuda import CudaOps
from model.registry import ARCHITECTURES, load_model
from model.weights import WeightsError
from server.cli import main
from server.loading import load_ops, memory_of
from server.settings import load_settings
from support.families import FAMILIES, family_checkpoint
from support.gpu_standins import STANDINS

ON_GPU = {"mamba", "mamba2"}


def chosen(model: Path, **settings: str) -> str:
    """The backend's name."""
    return load_ops(load_settings({"model": str(model), **settings}, env_file=None)).name


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with all that the backend takes, as far as anybody asks."""
    monkeypatch.setattr("model.registry.missing", lambda: None)
    monkeypatch.setattr("model.kernels.cuda.CudaOps", lambda: CudaOps(kernels=STANDINS))


@pytest.mark.parametrize("family", FAMILIES)
def test_auto_is_the_gpu_where_it_serves_the_family(gpu: None, family: str, tmp_path: Path) -> None:
    model = family_checkpoint(family, tmp_path / "model")
    assert (chosen(model) == "cuda") is (family in ON_GPU) is ARCHITECTURES[family].on_gpu
    assert chosen(model, batch_invariant="true").startswith("cpu")
    assert chosen(model, ops="cpu").startswith("cpu")


def test_auto_is_the_cpu_where_something_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_checkpoint("mamba2", tmp_path / "model")
    monkeypatch.setattr("model.registry.missing", lambda: "a CUDA device")
    assert chosen(model).startswith("cpu")


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - ON_GPU))
def test_a_family_without_kernels_is_refused_by_name(gpu: None, family: str, tmp_path: Path) -> None:
    model = family_checkpoint(family, tmp_path / "model")
    expected = f"model is a {family}, and the GPU's kernels serve mamba and mamba2 only: set ops to auto or cpu"
    with pytest.raises(ValueError, match=expected):
        load_model(model, choose_ops("cuda"))


@pytest.mark.parametrize("command", ["generate", "worker"])
@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (False, "needs a CUDA device, and torch finds none: set ops to auto or cpu"),
        (True, "needs the extra `cuda`, which is not installed (docs/operating.md says how): set ops to auto or cpu"),
    ],
)
def test_asking_for_what_is_not_there_is_one_line(
    command: str,
    device: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
    monkeypatch.setattr("model.kernels.cuda.find_spec", lambda name: None)
    assert main(line_of(command, family_checkpoint("mamba2", tmp_path / "model"))) == 1
    assert f'perennial {command}: the "cuda" backend {expected}' in last_line(capsys)


@pytest.mark.parametrize("command", ["generate", "worker"])
def test_a_family_without_kernels_is_one_line(
    command: str, gpu: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line_of(command, family_checkpoint("senri", tmp_path / "model"))) == 1
    assert "is a senri, and the GPU's kernels serve mamba and mamba2 only: set ops to auto or cpu" in last_line(capsys)


def line_of(command: str, model: Path) -> list[str]:
    """A command line that loads a model on to the GPU."""
    flags = ["--ops", "cuda", "--model", str(model), "--cache-dir", str(model)]
    # Nobody listens at the address: the model comes first.
    return [command, *(["abc"] if command == "generate" else ["--redis-url", "redis://127.0.0.1:1"]), *flags]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Of all that was said; no traceback is in it."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


def test_the_memory_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    def memory(**settings: str) -> Path | None:
        return memory_of(load_settings(settings, env_file=None))

    shipped = memory(memory="Shipped")
    assert shipped is not None
    assert shipped.is_file()
    assert memory() == memory(memory="") == memory(memory="auto") == shipped  # of the default model
    assert memory(memory="none") is memory(model=str(tmp_path)) is None
    assert memory(memory=str(tmp_path / "m.safetensors"), model=str(tmp_path)) == tmp_path / "m.safetensors"
    assert memory(memory="m.safetensors") == Path.cwd() / "m.safetensors"
    with pytest.raises(WeightsError, match="no memory comes with"):
        memory(memory="shipped", model=str(tmp_path))
