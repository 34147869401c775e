"""The compiled state space operations against the references, and their promise about bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.kernels.cpu import CpuOps
from model.kernels.ref import RefOps
from model.selective_scan import Selective, causal_conv_ref, selective_scan_ref

ROWS, T = 3, 70
LENGTHS = torch.tensor([70, 0, 41])
CUTS = (1, 7, 32, 33, 70)


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


def pool_of(leaf: Tensor) -> Tensor:
    """The same rows, two apart in a pool whose other rows are zero."""
    pool = torch.zeros(len(leaf), 2, *leaf.shape[1:])
    pool[:, 0] = leaf
    return pool


def conv_inputs(C: int, K: int, bias: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """x is half of a wider product, as it is in a layer."""
    g = torch.Generator().manual_seed(C + K)
    wide = torch.randn(ROWS * T, 2 * C, generator=g)
    taps, state = torch.randn(K, C, generator=g), torch.randn(ROWS, K - 1, C, generator=g)
    return wide[:, C:], taps, torch.randn(C, generator=g) if bias else None, state


@pytest.mark.parametrize(
    ("C", "K", "bias"), [(16, 4, True), (40, 4, False), (24, 2, True), (12, 4, True), (5, 3, True)]
)
def test_convolution_is_the_references(ops: CpuOps, C: int, K: int, bias: bool) -> None:
    x, taps, b, state = conv_inputs(C, K, bias)
    for backend in (ops, RefOps()):
        pool = pool_of(state)
        got = backend.causal_conv(x, taps, b, state=pool[:, 0], lengths=LENGTHS).view(ROWS, T, C)
        for row, n in enumerate(LENGTHS.tolist()):
            own = x.view(ROWS, T, C)[row, :n].double()
            out, tail = causal_conv_ref(own, taps.double(), None if b is None else b.double(), state[row].double())
            torch.testing.assert_close(got[row, :n].double(), out, rtol=1e-5, atol=1e-5)
            assert torch.equal(pool[row, 0].double(), tail)
            assert not got[row, n:].any()
        assert torch.equal(pool[1, 0], state[1])
        assert not pool[:, 1].any()


@pytest.mark.parametrize("C", [16, 12])
def test_convolutions_bits_depend_on_neither_batch_nor_chunk(ops: CpuOps, C: int) -> None:
    x, taps, b, state = conv_inputs(C, 4, True)
    whole = state.clone()
    together = ops.causal_conv(x, taps, b, state=whole, lengths=LENGTHS).view(ROWS, T, C)
    alone, start = state[:1].clone(), 0
    for cut in CUTS:
        part = x.view(ROWS, T, C)[0, start:cut]
        got = ops.causal_conv(part, taps, b, state=alone, lengths=torch.tensor([cut - start]))
        assert torch.equal(got, together[0, start:cut])
        start = cut
    assert torch.equal(alone[0], whole[0])


def scan_inputs(d: int, N: int, gate: bool) -> tuple[list[Tensor], Tensor | None, Selective, Tensor]:
    """Steps from 0.001 to 20, decays from none to all; x and z halves of one product, B and C parts of another."""
    g = torch.Generator().manual_seed(d + N)
    xz, low = torch.randn(ROWS * T, 2 * d, generator=g), torch.randn(ROWS * T, 3 + 2 * N, generator=g)
    dt = 3 * torch.randn(ROWS * T, d, generator=g)
    dt[::17] += 40  # a step so long that nothing of the state is left
    A = -torch.exp(2 * torch.randn(N, d, generator=g))
    fixed = Selective(A, torch.randn(d, generator=g), torch.randn(d, generator=g) - 3)
    state = torch.randn(ROWS, N, d, generator=g)
    return [xz[:, :d], dt, low[:, 3 : 3 + N], low[:, 3 + N :]], xz[:, d:] if gate else None, fixed, state


@pytest.mark.parametrize(
    ("d", "N", "gate"), [(16, 16, True), (24, 4, False), (40, 16, True), (12, 5, True), (48, 1, True)]
)
def test_scan_is_the_references(ops: CpuOps, d: int, N: int, gate: bool) -> None:
    inputs, z, fixed, state = scan_inputs(d, N, gate)
    exact = Selective(fixed.A.double(), fixed.D.double(), fixed.dt_bias.double())
    for backend in (ops, RefOps()):
        pool = pool_of(state)
        x, dt, B, C = inputs
        got = backend.selective_scan(x, dt, B, C, z, fixed, state=pool[:, 0], lengths=LENGTHS).view(ROWS, T, d)
        for row, n in enumerate(LENGTHS.tolist()):
            own = [u.reshape(ROWS, T, -1)[row, :n].double() for u in inputs]
            gated = None if z is None else z.reshape(ROWS, T, -1)[row, :n].double()
            out, after = selective_scan_ref(own[0], own[1], own[2], own[3], gated, exact, state[row].double())
            torch.testing.assert_close(got[row, :n].double(), out, rtol=2e-5, atol=2e-4)
            torch.testing.assert_close(pool[row, 0].double(), after, rtol=2e-5, atol=2e-4)
            assert not got[row, n:].any()
        assert torch.equal(pool[1, 0], state[1])
        assert not pool[:, 1].any()


@pytest.mark.parametrize("d", [40, 12])
def test_scans_bits_depend_on_neither_batch_nor_chunk(ops: CpuOps, d: int) -> None:
    inputs, z, fixed, state = scan_inputs(d, 16, True)
    assert z is not None
    whole = state.clone()
    x, dt, B, C = inputs
    together = ops.selective_scan(x, dt, B, C, z, fixed, state=whole, lengths=LENGTHS).view(ROWS, T, d)
    alone, start = state[:1].clone(), 0
    for cut in CUTS:
        x, dt, B, C, gate = (u.reshape(ROWS, T, -1)[0, start:cut] for u in (*inputs, z))
        got = ops.selective_scan(x, dt, B, C, gate, fixed, state=alone, lengths=torch.tensor([cut - start]))
        assert torch.equal(got, together[0, start:cut])
        start = cut
    assert torch.equal(alone[0], whole[0])


def test_no_tokens_are_no_work(ops: CpuOps) -> None:
    none = torch.zeros(2, dtype=torch.int64)
    x, state = torch.zeros(0, 16), torch.ones(2, 3, 16)
    assert ops.causal_conv(x, torch.ones(4, 16), None, state=state, lengths=none).shape == (0, 16)
    assert torch.equal(state, torch.ones(2, 3, 16))


def test_what_does_not_fit_is_refused(ops: CpuOps) -> None:
    x, taps, b, state = conv_inputs(16, 4, True)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.causal_conv(x.double(), taps, b, state=state, lengths=LENGTHS)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.causal_conv(x, taps, b, state=state.mT, lengths=LENGTHS)
    with pytest.raises(ValueError, match="contiguous float32"):
        ops.causal_conv(x, taps.T.contiguous().T, b, state=state, lengths=LENGTHS)
