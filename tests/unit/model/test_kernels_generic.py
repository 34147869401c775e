"""The kernels as they are compiled for a CPU of which nothing is known: the same results as this one's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.kernels import WindowSpec, rope_frequencies
from model.kernels.cpu import CpuOps
from model.kernels.emit import cpu_features
from model.selective_scan import Selective
from model.ssd import Dual
from model.weights import Q4_1, Q8_0


def results() -> list[torch.Tensor]:
    """A little of everything."""
    ops, g = CpuOps(threads=2), torch.Generator().manual_seed(0)
    d = (torch.rand(40, 3, generator=g) * 0.01).half()
    q4 = Q4_1(torch.randint(0, 16, (40, 96), dtype=torch.uint8, generator=g), d, (-7 * d.float()).half())
    q8 = Q8_0(torch.randint(-128, 128, (40, 96), dtype=torch.int8, generator=g), d)
    plain = torch.randn(40, 96, generator=g)
    x = torch.randn(7, 96, generator=g)
    products = [ops.linear([w])(x) for w in (q4, q8, plain, plain.bfloat16())]
    spec = WindowSpec(3, 1, 32, 8, 2, rope_frequencies(1e4, 32))
    rope = ops.rope(spec, torch.tensor([0, 100]), torch.tensor([20, 3]), 20)
    leaves = {name: torch.zeros(2, 1, 8, 32).bfloat16() for name in ("ring_k", "ring_v")}
    sinks = {name: torch.zeros(2, 1, 2, 32).bfloat16() for name in ("sink_k", "sink_v")}
    attended = ops.window_attention(torch.randn(40, spec.qkv_width, generator=g), rope, **leaves, **sinks)
    rows = [ops.swiglu(x), ops.add_norm(x.clone(), x, torch.ones(96), 1e-5)]
    return [*products, attended, *rows, *(leaf.float() for leaf in (leaves | sinks).values()), *state_spaces(ops, g)]


def state_spaces(ops: CpuOps, g: torch.Generator) -> list[torch.Tensor]:
    """The recurrences of Mamba and Mamba-2, what stands around them, and the states they end in."""
    lengths, n, d, H, N, P = torch.tensor([6, 3]), 12, 24, 2, 5, 16
    conv, h, S = torch.zeros(2, 3, d), torch.zeros(2, N, d), torch.zeros(2, H, N, P)
    x, z, dt, B, C = (torch.randn(n, width, generator=g) for width in (d, d, d, N, N))
    selective = Selective(-torch.rand(N, d, generator=g), torch.ones(d), torch.zeros(d))
    dual = Dual(-torch.rand(H, generator=g), torch.ones(H), torch.zeros(H))
    u, w = torch.randn(2, n, H * P, generator=g)
    y = ops.ssd(u, dt[:, :H], B, C, dual, state=S, lengths=lengths)
    return [
        ops.causal_conv(x, torch.randn(4, d, generator=g), None, state=conv, lengths=lengths),
        ops.selective_scan(x, dt, B, C, z, selective, state=h, lengths=lengths),
        y,
        ops.gated_norm(y, w, torch.ones(H * P), 1e-5, 2, False),
        *(conv, h, S),
    ]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_cpu_of_which_nothing_is_known(tmp_path: Path) -> None:
    told = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    file = tmp_path / "results.pt"
    subprocess.run([sys.executable, __file__, str(file)], env={**os.environ, **told}, check=True)
    for there, here in zip(torch.load(file), results(), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    assert not cpu_features()
    torch.save(results(), sys.argv[1])
