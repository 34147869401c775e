"""The compiled gated delta rule against the reference, and its promise about bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.gated_delta import gated_delta_ref
from model.kernels.cpu import CpuOps
from model.kernels.ref import RefOps

B, T, H = 3, 9, 2
LENGTHS, WRITES = torch.tensor([9, 0, 4]), torch.tensor([1, 1, 1])


@pytest.fixture(scope="module")
def ops() -> CpuOps:
    return CpuOps(threads=2)


def inputs(d_k: int, d_v: int, decays: bool) -> tuple[list[Tensor], tuple[Tensor, Tensor] | None, Tensor]:
    g = torch.Generator().manual_seed(d_k + d_v)
    q, k = (torch.nn.functional.normalize(torch.randn(B, T, H, d_k, generator=g), dim=-1) for _ in range(2))
    v, b = torch.randn(B, T, H, d_v, generator=g), 2 * torch.randn(B, T, H, generator=g)
    decay = (10 * torch.randn(B, T, H, generator=g), torch.rand(H, generator=g)) if decays else None
    return [q, k, v, b], decay, torch.randn(B, H, d_k, d_v, generator=g)


@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize(("d_k", "d_v"), [(16, 16), (64, 64), (5, 24), (128, 8), (8, 5)])
def test_is_the_references(ops: CpuOps, d_k: int, d_v: int, decays: bool) -> None:
    """M of a pool, its rows apart; a row without tokens and one that ends early; float32 against float64."""
    (q, k, v, b), decay, M = inputs(d_k, d_v, decays)
    pool = torch.zeros(B, 2, H, d_k, d_v)
    pool[:, 0] = M
    got = ops.gated_delta(q, k, v, b, decay, M=pool[:, 0], lengths=LENGTHS, writes=WRITES)
    plain = M.clone()
    also = RefOps().gated_delta(q, k, v, b, decay, M=plain, lengths=LENGTHS, writes=WRITES)
    for row, n in enumerate(LENGTHS.tolist()):
        beta, alpha = torch.sigmoid(b.double()), None
        if decay is not None:
            alpha = torch.exp(-torch.nn.functional.softplus(decay[0].double()) * decay[1].double())[row : row + 1, :n]
        own = [x.double()[row : row + 1, :n] for x in (q, k, v, beta)]
        out, after = gated_delta_ref(own[0], own[1], own[2], own[3], alpha, M.double()[row : row + 1])
        for read, matrix in ((got, pool[:, 0]), (also, plain)):
            torch.testing.assert_close(read[row : row + 1, :n].double(), out, rtol=0, atol=2e-5)
            torch.testing.assert_close(matrix[row : row + 1].double(), after, rtol=0, atol=2e-5)
    assert not pool[:, 1].any()
    assert torch.equal(pool[1, 0], M[1])
    assert torch.equal(plain[1], M[1])


@pytest.mark.parametrize("d_v", [16, 5])
def test_bits_depend_on_neither_batch_nor_chunk(ops: CpuOps, d_v: int) -> None:
    (q, k, v, b), decay, M = inputs(16, d_v, True)
    assert decay is not None
    together = M.clone()
    got = ops.gated_delta(q, k, v, b, decay, M=together, lengths=LENGTHS, writes=WRITES)
    for row, n in enumerate(LENGTHS.tolist()):
        alone = M[row : row + 1].clone()
        for t in range(n):
            part = [x[row : row + 1, t : t + 1].contiguous() for x in (q, k, v, b, decay[0])]
            one = torch.ones(1, dtype=torch.int64)
            read = ops.gated_delta(
                part[0], part[1], part[2], part[3], (part[4], decay[1]), M=alone, lengths=one, writes=one
            )
            assert torch.equal(read[0, 0], got[row, t])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("d_v", [16, 5])
def test_a_row_that_does_not_write_reads_what_is_there(ops: CpuOps, d_v: int) -> None:
    (q, k, v, b), decay, M = inputs(16, d_v, True)
    held = M.clone()
    got = ops.gated_delta(q, k, v, b, decay, M=held, lengths=LENGTHS, writes=torch.tensor([0, 0, 1]))
    assert torch.equal(held[:2], M[:2])
    assert not torch.equal(held[2], M[2])
    expected = torch.einsum("thk,hkv->thv", q[0], M[0])
    torch.testing.assert_close(got[0], expected, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused(ops: CpuOps) -> None:
    (q, k, v, b), _, M = inputs(16, 16, False)
    with pytest.raises(ValueError, match="contiguous float32"):
        ops.gated_delta(q.double(), k, v, b, None, M=M, lengths=LENGTHS, writes=WRITES)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.gated_delta(q, k, v, b, None, M=M.mT, lengths=LENGTHS, writes=WRITES)
    with pytest.raises(ValueError, match="contiguous rows"):
        ops.gated_delta(q, k, v, b, None, M=M[:, :, :8], lengths=LENGTHS, writes=WRITES)
