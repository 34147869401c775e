"""The selective scan of Mamba, and the convolution in front of it, as plain loops (Gu and Dao 2023, arXiv 2312.00752).

Per channel of d, with a state of N numbers, for token t (eq. 2a, 2b; Δ by the softplus of algorithm 2, B by Euler's
rule as in the authors' code):

    Δ_t = softplus(dt_t + dt_bias)
    h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t x_t
    y_t = C_t · h_t + D x_t,   then y_t ← y_t · silu(z_t)

These are the references of `Ops.causal_conv` and `Ops.selective_scan`: one row, one token after the other, any float.

Symbols are the paper's: here B is the input matrix, not the rows of a batch. Deliberate difference: h and A are kept
(N, d), transposed, so that a state reads as a memory matrix, key side N × value side d, and channels lie side by side.
It knows nothing of layers or weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


@dataclass(frozen=True, slots=True)
class Selective:
    """What does not depend on the token. A (N, d), negative; D (d,); dt_bias (d,); contiguous, all of one dtype."""

    A: Tensor
    D: Tensor
    dt_bias: Tensor


def causal_conv_ref(x: Tensor, taps: Tensor, bias: Tensor | None, tail: Tensor) -> tuple[Tensor, Tensor]:
    """silu(bias + Σ_j taps[j] · x_{t − (K−1) + j}) of each token t, (T, C); and the tail after the last.

    x (T, C); taps (K, C): the last meets the token itself, the one before it the token before; bias (C,);
    tail (K−1, C): what was read before x, oldest first, zeros at the beginning.
    """
    seen = torch.cat((tail, x))  # (K−1+T, C)
    out = torch.zeros_like(x)
    for t in range(len(x)):
        y = (taps * seen[t : t + len(taps)]).sum(dim=0)
        out[t] = silu(y if bias is None else y + bias)
    return out, seen[len(x) :]


def selective_scan_ref(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, z: Tensor | None, fixed: Selective, h: Tensor
) -> tuple[Tensor, Tensor]:
    """y (T, d) and the state after the last token, (N, d).

    x, dt, z (T, d): dt before its bias and softplus; z None: no gate. B, C (T, N). h (N, d).
    """
    y = torch.zeros_like(x)
    for t in range(len(x)):
        delta = softplus(dt[t] + fixed.dt_bias)  # (d,)
        h = torch.exp(delta * fixed.A) * h + torch.outer(B[t], delta * x[t])  # (N, d)
        y[t] = (C[t].unsqueeze(-1) * h).sum(dim=0) + fixed.D * x[t]
        if z is not None:
            y[t] *= silu(z[t])
    return y, h
