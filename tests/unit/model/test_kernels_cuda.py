"""What surrounds the GPU's kernels: layouts, padding, states in place.

The kernels themselves are stand-ins here, on the CPU; `tests/gpu/` runs the real ones where there is a GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import Tensor

from model.kernels import choose_ops
from model.kernels.cuda import CudaOps, OnDevice, load_kernels
from model.kernels.ref import RefOps
from model.mamba import Mamba
from model.mamba2 import Mamba2
from model.selective_scan import Selective
from model.ssd import Dual
from model.state import Model, State, as_rows
from support.gpu_standins import STANDINS
from support.tiny import one_thread
from support.tiny_ssm import MAMBA, MAMBA2, mamba2_tensors, mamba_tensors

__all__ = ["one_thread"]

ROWS, T = 3, 70
LENGTHS = torch.tensor([70, 0, 41])
REF, CUDA = RefOps(), CudaOps(kernels=STANDINS)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


def pool_of(leaf: Tensor) -> Tensor:
    """The same rows, two apart in a pool whose other rows are zero."""
    pool = torch.zeros(len(leaf), 2, *leaf.shape[1:])
    pool[:, 0] = leaf
    return pool


def rand(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hold(got: Tensor, expected: Tensor, pool: Tensor, plain: Tensor, state: Tensor) -> None:
    """Outputs and states agree; the row without tokens and the rows between are as they were, bit for bit."""
    torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-4)
    torch.testing.assert_close(pool[:, 0], plain, rtol=2e-5, atol=2e-4)
    assert torch.equal(pool[1, 0], state[1])
    assert not pool[:, 1].any()


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(installed: bool, bias: bool) -> None:
    ops = CUDA if installed else CudaOps(kernels=STANDINS._replace(conv=None))
    x, taps, state = rand(ROWS * T, 48, seed=1)[:, 24:], rand(4, 24, seed=2), rand(ROWS, 3, 24, seed=3)
    b = rand(24, seed=4) if bias else None
    pool, plain = pool_of(state), state.clone()
    expected = REF.causal_conv(x, taps, b, state=plain, lengths=LENGTHS)
    got = ops.causal_conv(x, taps, b, state=pool[:, 0], lengths=LENGTHS)
    hold(got, expected, pool, plain, state)


@pytest.mark.parametrize("gate", [True, False])
def test_selective_scan(gate: bool) -> None:
    d, N = 12, 5
    x, dt, z = rand(ROWS * T, d, seed=1), rand(ROWS * T, d, seed=2), rand(ROWS * T, d, seed=3) if gate else None
    low = rand(ROWS * T, 2 * N, seed=4)
    fixed = Selective(-torch.exp(rand(N, d, seed=5)), rand(d, seed=6), rand(d, seed=7) - 2)
    state = rand(ROWS, N, d, seed=8)
    pool, plain = pool_of(state), state.clone()
    expected = REF.selective_scan(x, dt, low[:, :N], low[:, N:], z, fixed, state=plain, lengths=LENGTHS)
    got = CUDA.selective_scan(x, dt, low[:, :N], low[:, N:], z, fixed, state=pool[:, 0], lengths=LENGTHS)
    hold(got, expected, pool, plain, state)


@pytest.mark.parametrize("tokens", [T, 1])
def test_ssd(tokens: int) -> None:
    """A chunk by blocks, and a step by an update."""
    H, P, G, N = 4, 6, 2, 5
    lengths = LENGTHS.clamp(max=tokens)
    xBC, wide = rand(ROWS * tokens, H * P + 2 * G * N, seed=1), rand(ROWS * tokens, 3 + H, seed=2)
    x, B, C = xBC.split((H * P, G * N, G * N), dim=1)
    fixed = Dual(-torch.exp(rand(H, seed=3)), rand(H, seed=4), rand(H, seed=5), (0.01, 1.0))
    state = rand(ROWS, H, N, P, seed=6)
    pool, plain = pool_of(state), state.clone()
    expected = REF.ssd(x, wide[:, 3:], B, C, fixed, state=plain, lengths=lengths)
    got = CUDA.ssd(x, wide[:, 3:], B, C, fixed, state=pool[:, 0], lengths=lengths)
    hold(got, expected, pool, plain, state)


def test_gated_norm() -> None:
    y, z, weight = rand(5, 12, seed=1), rand(5, 12, seed=2), rand(12, seed=3)
    got = CUDA.gated_norm(y, z, weight, 1e-5, 3, False)
    torch.testing.assert_close(got, REF.gated_norm(y, z, weight, 1e-5, 3, False))


def models(family: str) -> tuple[Model, Model]:
    """The same weights on the reference and on these operations."""
    if family == "mamba":
        weights = mamba_tensors(MAMBA)
        return Mamba(MAMBA, weights, REF), Mamba(MAMBA, OnDevice(weights, "cpu"), CUDA)
    config = replace(MAMBA2, tie_word_embeddings=False)
    weights = mamba2_tensors(config)
    return Mamba2(config, weights, REF), Mamba2(config, OnDevice(weights, "cpu"), CUDA)


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_a_model_reads_and_steps_as_on_the_reference(family: str) -> None:
    plain, model = models(family)
    text = torch.randint(0, plain.vocab_size, (40,), generator=torch.Generator().manual_seed(3)).tolist()
    states = State.zeros(plain.spec, 2), State.zeros(model.spec, 2)
    for rows in ([text[:30], text[5:12]], [text[30:31], text[12:13]], [text[31:40], []]):
        expected, _ = plain.advance(*as_rows(rows), states[0])
        got, _ = model.advance(*as_rows(rows), states[1])
        live = [i for i, row in enumerate(rows) if row]
        torch.testing.assert_close(got[live], expected[live], rtol=0, atol=1e-3)
    for name, leaf in states[0].items():
        torch.testing.assert_close(states[1][name], leaf, rtol=1e-3, atol=1e-3)


def test_what_it_has_no_kernels_for_is_refused() -> None:
    for operation in (CUDA.rope, CUDA.stack, CUDA.recall):
        with pytest.raises(ValueError, match="it serves Mamba and Mamba-2"):
            operation()


def test_without_a_device_or_the_extra_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a CUDA device, and torch finds none: set ops to auto or cpu"):
        choose_ops("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("model.kernels.cuda.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the extra `cuda`"):
        load_kernels()
    with pytest.raises(ValueError, match='the "cuda" backend is not batch-invariant'):
        choose_ops("cuda", batch_invariant=True)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device, and of the extra all but the Triton kernels, which are there for who puts them there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("model.kernels.cuda.find_spec", lambda name: True if name == "mamba_ssm" else find_spec(name))
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    yield
    sys.modules.pop("selective_scan_cuda", None)  # what loading leaves


def test_installed_kernels_are_found_as_often_as_asked(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kernel in (("selective_state_update", STANDINS.state_update), ("ssd_combined", STANDINS.chunk_scan)):
        module = ModuleType(name)
        setattr(module, kernel.__name__, kernel)
        monkeypatch.setitem(sys.modules, f"mamba_ssm.ops.triton.{name}", module)
    for _ in range(2):
        assert load_kernels() == STANDINS._replace(conv=None)


def test_an_extra_that_cannot_be_imported_is_one_line(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.triton.selective_state_update", None)
    with pytest.raises(ValueError, match=r"is installed and cannot be imported \(.*set ops to cpu"):
        load_kernels()
