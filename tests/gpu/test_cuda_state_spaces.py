"""The GPU's kernels against the reference: operations and whole models.

Not run yet: no machine with a GPU was at hand when this was written. What surrounds the kernels is tested without one
in `tests/unit/model/test_kernels_cuda.py`; what these would show first is whether the installed `mamba_ssm` takes the
arguments as they are given, and how far its blocked products (which may use TF32) are from float32.

    make test-gpu   # mamba-ssm first: docs/operating.md has its build flags
"""

from __future__ import annotations

import pytest
import torch

from model.kernels.cuda import CudaOps, OnDevice, load_kernels
from model.kernels.ref import RefOps
from model.mamba import Mamba
from model.mamba2 import Mamba2
from model.ssd import Dual
from model.state import Model, State, as_rows
from support.tiny_ssm import MAMBA, MAMBA2, mamba2_tensors, mamba_tensors

pytestmark = pytest.mark.gpu

LENGTHS = torch.tensor([200, 0, 77])


@pytest.fixture(scope="module")
def ops() -> CudaOps:
    try:
        return CudaOps(kernels=load_kernels())
    except ValueError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("tokens", [200, 1])
def test_ssd_is_the_references(ops: CudaOps, tokens: int) -> None:
    g = torch.Generator().manual_seed(1)
    H, P, N, rows = 4, 64, 128, len(LENGTHS)
    lengths = LENGTHS.clamp(max=tokens)
    x, dt = torch.randn(rows * tokens, H * P, generator=g), torch.randn(rows * tokens, H, generator=g)
    B, C = torch.randn(2, rows * tokens, N, generator=g) * N**-0.5
    fixed = Dual(-torch.exp(torch.randn(H, generator=g)), torch.randn(H, generator=g), torch.zeros(H))
    state = torch.randn(rows, H, N, P, generator=g)
    there = state.cuda()
    expected = RefOps().ssd(x, dt, B, C, fixed, state=state, lengths=lengths)
    on_device = Dual(fixed.A.cuda(), fixed.D.cuda(), fixed.dt_bias.cuda())
    got = ops.ssd(x.cuda(), dt.cuda(), B.cuda(), C.cuda(), on_device, state=there, lengths=lengths.cuda())
    # 10 bits of TF32's mantissa in products of some hundred terms
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-2, atol=5e-2)
    torch.testing.assert_close(there.cpu(), state, rtol=1e-2, atol=5e-2)
    assert torch.equal(there[1].cpu(), state[1])


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_a_model_reads_and_steps_as_on_the_reference(ops: CudaOps, family: str) -> None:
    plain: Model
    model: Model
    if family == "mamba":
        weights = mamba_tensors(MAMBA)
        plain, model = Mamba(MAMBA, weights, RefOps()), Mamba(MAMBA, OnDevice(weights, "cuda"), ops)
    else:
        weights = mamba2_tensors(MAMBA2)
        plain, model = Mamba2(MAMBA2, weights, RefOps()), Mamba2(MAMBA2, OnDevice(weights, "cuda"), ops)
    text = torch.randint(0, plain.vocab_size, (40,), generator=torch.Generator().manual_seed(3)).tolist()
    states = State.zeros(plain.spec, 2), State.zeros(model.spec, 2, "cuda")
    for rows in ([text[:30], text[5:12]], [text[30:31], text[12:13]], [text[31:40], []]):
        tokens, lengths = as_rows(rows)
        expected, _ = plain.advance(tokens, lengths, states[0])
        got, _ = model.advance(tokens.cuda(), lengths.cuda(), states[1])
        live = [i for i, row in enumerate(rows) if row]
        torch.testing.assert_close(got.cpu()[live], expected[live], rtol=0, atol=0.1)  # of a standard deviation of 6
    for name, leaf in states[0].items():
        torch.testing.assert_close(states[1][name].cpu(), leaf, rtol=1e-2, atol=5e-2)
