"""The compiled recurrence of Mamba-2 and its gated norm against the references, and their promise about bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.kernels.cpu import CpuOps
from model.kernels.ref import RefOps
from model.ssd import Dual, gated_norm_ref, ssd_blocked, steps

ROWS, T = 3, 40
LENGTHS = torch.tensor([40, 0, 23])
CUTS = (1, 2, 9, 32, 40)


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


def inputs(H: int, P: int, G: int, N: int) -> tuple[list[Tensor], Dual, Tensor]:
    """x, B and C side by side as the convolution leaves them, dt at the end of another product."""
    g = torch.Generator().manual_seed(H + P + N)
    xBC = torch.randn(ROWS * T, H * P + 2 * G * N, generator=g)
    wide = torch.randn(ROWS * T, 5 + H, generator=g)
    A, D, bias = -torch.exp(torch.randn(H, generator=g)), torch.randn(H, generator=g), torch.randn(H, generator=g)
    state = torch.randn(ROWS, H, N, P, generator=g)
    x, B, C = xBC.split((H * P, G * N, G * N), dim=1)
    return [x, 3 * wide[:, 5:] if H == 1 else wide[:, 5:], B, C], Dual(A, D, bias - 1, (0.001, 1.5)), state


SHAPES = [(2, 32, 1, 16), (4, 8, 2, 5), (3, 24, 3, 8), (1, 48, 1, 4), (4, 5, 2, 3)]


@pytest.mark.parametrize(("H", "P", "G", "N"), SHAPES)
def test_recurrence_is_the_blocked_algorithm(ops: CpuOps, H: int, P: int, G: int, N: int) -> None:
    """float32 against float64, from states of a pool; a row without tokens and one that ends early."""
    (x, dt, B, C), fixed, state = inputs(H, P, G, N)
    for backend in (ops, RefOps()):
        pool = torch.zeros(ROWS, 2, H, N, P)
        pool[:, 0] = state
        got = backend.ssd(x, dt, B, C, fixed, state=pool[:, 0], lengths=LENGTHS).view(ROWS, T, H, P)
        for row, n in enumerate(LENGTHS.tolist()):
            own = [u.reshape(ROWS, T, -1)[row, :n].double() for u in (x, dt, B, C)]
            exact = Dual(fixed.A.double(), fixed.D.double(), fixed.dt_bias.double(), fixed.dt_limit)
            out, after = ssd_blocked(
                own[0].view(n, H, P),
                steps(own[1], exact),
                own[2].view(n, G, N),
                own[3].view(n, G, N),
                exact.A,
                exact.D,
                state[row].double(),
                block=16,
            )
            torch.testing.assert_close(got[row, :n].double(), out, rtol=2e-5, atol=5e-5)
            torch.testing.assert_close(pool[row, 0].double(), after, rtol=2e-5, atol=5e-5)
            assert not got[row, n:].any()
        assert torch.equal(pool[1, 0], state[1])
        assert not pool[:, 1].any()


@pytest.mark.parametrize(("H", "P", "G", "N"), [SHAPES[0], SHAPES[2], SHAPES[4]])
def test_recurrences_bits_depend_on_neither_batch_nor_chunk(ops: CpuOps, H: int, P: int, G: int, N: int) -> None:
    args, fixed, state = inputs(H, P, G, N)
    whole = state.clone()
    x, dt, B, C = args
    together = ops.ssd(x, dt, B, C, fixed, state=whole, lengths=LENGTHS).view(ROWS, T, -1)
    alone, start = state[:1].clone(), 0
    for cut in CUTS:
        x, dt, B, C = (u.reshape(ROWS, T, -1)[0, start:cut] for u in args)
        got = ops.ssd(x, dt, B, C, fixed, state=alone, lengths=torch.tensor([cut - start]))
        assert torch.equal(got, together[0, start:cut])
        start = cut
    assert torch.equal(alone[0], whole[0])


@pytest.mark.parametrize(("d", "groups"), [(48, 1), (48, 3), (64, 2), (20, 2)])
@pytest.mark.parametrize("norm_first", [False, True])
def test_gated_norm_is_the_references(ops: CpuOps, d: int, groups: int, norm_first: bool) -> None:
    """And a row's bits do not depend on the other rows."""
    g = torch.Generator().manual_seed(d)
    y, wide, weight = (torch.randn(*shape, generator=g) for shape in ((37, d), (37, d + 3), (d,)))
    z = 4 * wide[:, 3:]
    exact = gated_norm_ref(y.double(), z.double(), weight.double(), 1e-5, groups, norm_first)
    for backend in (ops, RefOps()):
        got = backend.gated_norm(y, z, weight, 1e-5, groups, norm_first)
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)
        for n in (0, 36):
            one = backend.gated_norm(y[n : n + 1], z[n : n + 1], weight, 1e-5, groups, norm_first)
            assert torch.equal(one[0], got[n])


def test_what_does_not_fit_is_refused(ops: CpuOps) -> None:
    (x, dt, B, C), fixed, state = inputs(2, 32, 1, 16)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.ssd(x.double(), dt, B, C, fixed, state=state, lengths=LENGTHS)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.ssd(x, dt, B, C, fixed, state=state.transpose(1, 3).contiguous().transpose(1, 3), lengths=LENGTHS)
    with pytest.raises(ValueError, match="share 2 heads evenly"):
        ops.ssd(x, dt, B[:, :8], C, fixed, state=state, lengths=LENGTHS)
