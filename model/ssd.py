"""State space duality: one sum in three forms (Dao and Gu 2024, "Transformers are SSMs", arXiv 2405.21060).

Per head, a state S of N × P, a scalar decay, for token t with Δ_t > 0 and A < 0 (eq. 2a, 2b with A scalar; Δ as the
authors' code has it):

    S_t = exp(Δ_t A) S_{t−1} + Δ_t B_t x_tᵀ
    y_t = S_tᵀ C_t + D x_t

- `ssd_ref`: this loop.
- `ssd_quadratic`: y = (L ∘ C Bᵀ)(Δ x) with L[t, s] = exp(A Σ_{s<r≤t} Δ_r), a masked attention (sect. 3.3), and what
  the first state adds.
- `ssd_blocked`: quadratic within blocks, the recurrence between them (sect. 6, listing 1).

All take a state to begin from and return the one they end in; float32 or float64, differentiable. Also here: the steps
`steps`, and the norm behind, `gated_norm_ref`.

Shapes: x (T, H, P), dt (T, H), B and C (T, G, N): head h reads group h // (H/G). A and D (H,). S (H, N, P), the paper's
transposed: as a memory matrix, key side N × value side P. The second and the third form take axes in front of these,
the same for all but A and D: rows of a batch, each with its own state. A token of Δ = 0 (padding) leaves S as it is.
Symbols are the paper's: B is no batch here. It knows nothing of layers or weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus


@dataclass(frozen=True, slots=True)
class Dual:
    """What does not depend on the token. A (H,), negative; D (H,); dt_bias (H,); dt_limit: Δ's least and greatest."""

    A: Tensor
    D: Tensor
    dt_bias: Tensor
    dt_limit: tuple[float, float] = (0.0, float("inf"))


def steps(dt: Tensor, fixed: Dual) -> Tensor:
    """Δ = softplus(dt + dt_bias) within dt_limit, as dt (…, H)."""
    return softplus(dt + fixed.dt_bias).clamp(*fixed.dt_limit)


def ssd_ref(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor, S: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y (T, H, P) and the last state, token by token. dt: Δ, see `steps`."""
    per_group, y = x.shape[1] // B.shape[1], []
    for t in range(len(x)):
        b, c = (u[t].repeat_interleave(per_group, dim=0) for u in (B, C))  # (H, N)
        u = dt[t].unsqueeze(-1) * x[t]  # (H, P)
        S = torch.exp(dt[t] * A)[:, None, None] * S + b.unsqueeze(-1) * u.unsqueeze(-2)
        y.append((c.unsqueeze(-2) @ S).squeeze(-2) + D.unsqueeze(-1) * x[t])
    return (torch.stack(y) if y else x.clone()), S


def ssd_quadratic(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor, S: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same as one masked product: work O(T²), memory (…, H, T, T)."""
    per_group = x.shape[-2] // B.shape[-2]
    B, C = B.transpose(-3, -2), C.transpose(-3, -2)  # (…, G, T, N)
    scores = (C @ B.mT).repeat_interleave(per_group, dim=-3)  # (…, H, T, T)
    B_, C_ = (u.repeat_interleave(per_group, dim=-3) for u in (B, C))  # (…, H, T, N)
    L, gamma, rest = _decays((dt * A).mT)  # (…, H, T, T), (…, H, T), (…, H, T)
    u = (dt.unsqueeze(-1) * x).transpose(-3, -2)  # (…, H, T, P)
    y = (L * scores) @ u + gamma.unsqueeze(-1) * (C_ @ S)
    last = gamma[..., -1] if x.shape[-3] else torch.ones_like(A)
    after = last[..., None, None] * S + (rest.unsqueeze(-1) * B_).mT @ u
    return y.transpose(-3, -2) + D.unsqueeze(-1) * x, after


def ssd_blocked(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, D: Tensor, S: Tensor, block: int = 64
) -> tuple[Tensor, Tensor]:
    """The same by blocks of tokens: work O(T·block), memory one block's. Raises ValueError where block < 1."""
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1")
    y = []
    blocks = x.split(block, -3), dt.split(block, -2), B.split(block, -3), C.split(block, -3)
    for x_, dt_, B_, C_ in zip(*blocks, strict=True):
        out, S = ssd_quadratic(x_, dt_, B_, C_, A, D, S)
        y.append(out)
    return torch.cat(y, dim=-3), S


def _decays(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of logarithms a (…, H, T): L (…, H, T, T) with L[t, s] = exp(a_{s+1} + … + a_t), 0 above the diagonal; from the
    first state to each token (…, H, T); from each token to the last (…, H, T).

    Sums of what lies between, never differences of sums from the beginning, which cancel.
    """
    T = a.shape[-1]
    below = torch.ones(T, T, dtype=torch.bool, device=a.device).tril(-1)
    between = torch.where(below, a.unsqueeze(-1), 0.0).cumsum(dim=-2)  # (…, H, t, s): row t holds a_t where s < t
    L = torch.exp(between).tril()
    return L, torch.exp(a.cumsum(dim=-1)), L[..., -1, :] if T else torch.exp(a)


def gated_norm_ref(y: Tensor, z: Tensor, weight: Tensor, eps: float, groups: int, norm_first: bool = False) -> Tensor:
    """RMSNorm over each of `groups` equal parts of y·silu(z), times weight; or, norm_first, RMSNorm(y)·weight·silu(z).

    y, z (N, d), weight (d,).
    """
    gate = silu(z)
    u = y if norm_first else y * gate
    parts = u.view(len(u), groups, -1)
    u = (parts * torch.rsqrt(parts.square().mean(dim=-1, keepdim=True) + eps)).view(y.shape) * weight
    return u * gate if norm_first else u
