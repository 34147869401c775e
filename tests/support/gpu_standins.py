"""Plain functions with the signatures and layouts of the GPU kernels that `model.kernels.cuda` calls, for any device.

Written from those packages' documentation of arguments and shapes; they check shapes as the kernels do.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu

from model.kernels.cuda import Kernels
from model.ssd import ssd_blocked


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
) -> Tensor:
    """state (b, d, n) with x, dt, z (b, d), A (d, n), B, C (b, n), D, dt_bias (d,); or with heads: state (b, h, d, n),
    x, dt, z (b, h, d), A (h, d, n), B, C (b, g, n), D, dt_bias (h, d). Updates state, returns y as x.

    The kernel's caller reads dt_bias's strides whether there is one or not, so that it fails without.
    """
    assert dt_bias is not None
    assert dt_bias.shape == A.shape[:-1]
    if A.stride()[-2:] == (0, 0) and dt.stride(-1) == 0:
        assert dt_bias.stride(-1) == 0  # or every column's decay is read
    dt = dt + dt_bias
    if state.dim() == 3:
        with_heads = [None if u is None else u.unsqueeze(1) for u in (state, x, dt, B, C, z)]
        s, u, step, b, c, gate = with_heads
        a, skip = A.unsqueeze(0), None if D is None else D.unsqueeze(0)
    else:
        s, u, step, a, b, c, skip, gate = state, x, dt, A, B, C, D, z
    assert s is not None
    assert u is not None
    assert step is not None
    assert b is not None
    assert c is not None
    rows, H, d, n = s.shape
    assert u.shape == step.shape == (rows, H, d)
    assert a.shape == (H, d, n)
    assert b.shape == c.shape == (rows, b.shape[1], n)
    b, c = (v.repeat_interleave(H // v.shape[1], dim=1) for v in (b, c))
    s.copy_(s * torch.exp(step.unsqueeze(-1) * a) + (step * u).unsqueeze(-1) * b.unsqueeze(-2))
    y = (s * c.unsqueeze(-2)).sum(-1)
    if skip is not None:
        assert skip.shape == (H, d)
        y = y + skip * u
    if gate is not None:
        y = y * silu(gate)
    return y.view(x.shape)


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor,
    initial_states: Tensor,
    return_final_states: bool,
) -> tuple[Tensor, Tensor]:
    """x (b, l, h, p), dt (b, l, h), A, D (h,), B, C (b, l, g, n), states (b, h, p, n): y as x, and the last states."""
    assert return_final_states
    assert initial_states.shape == (len(x), x.shape[2], x.shape[3], B.shape[3])
    rows = [ssd_blocked(x[i], dt[i], B[i], C[i], A, D, initial_states[i].mT, chunk_size) for i in range(len(x))]
    return torch.stack([y for y, _ in rows]), torch.stack([s.mT for _, s in rows])


def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, initial_states: Tensor, activation: str
) -> Tensor:
    """x (b, c, l) and states (b, c, width − 1), channels side by side; weight (c, width)."""
    assert x.stride(1) == initial_states.stride(1) == 1
    assert activation == "silu"
    seen = torch.cat((initial_states, x), dim=2)
    return silu(conv1d(seen, weight.unsqueeze(1), bias, groups=len(weight)))


STANDINS = Kernels(selective_state_update, mamba_chunk_scan_combined, causal_conv1d_fn)
