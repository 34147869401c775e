"""The gated delta rule: an associative memory that corrects what it holds instead of adding to it.

Per head, key side d_k × value side d_v (Yang et al. 2024, "Gated Delta Networks", arXiv 2412.06464, eq. 10; our M is
their Sᵀ), for token t with key k, value v, write strength β and decay α:

    M ← α_t M;   M ← M + β_t k_t (v_t − Mᵀ k_t)ᵀ;   o_t = Mᵀ q_t

Three forms of the same sum, pure and differentiable: `gated_delta_ref` reads like the equation, `step` is one token,
`chunkwise` does C tokens with a triangular solve. Here too are what stands around the rule in a layer: `l2norm`, the
causal convolution `conv` with its tail, and the decay `decay`.

Invariants: a token reads what it wrote itself, never what comes later; a token with β = 0 and α = 1 (padding, or a
frozen memory) leaves M as it is; nothing is summed over rows or heads. 16-bit inputs are computed in float32; what is
returned has the dtype of v, and M' that of M.

Shapes everywhere: q, k (B, T, h, d_k), v (B, T, h, d_v), beta and alpha (B, T, h), M (B, h, d_k, d_v). alpha may be
None: nothing decays. It knows nothing of layers, weights or states.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

# Added to Σx² under the root: a zero vector stays zero, and its gradient finite.
L2_EPS = 1e-6
APART = 8  # channels between those that `feature_map` multiplies: whole vectors of them


def gated_delta_ref(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, alpha: Tensor | None, M: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference: out (B, T, h, d_v) and M', token by token, row by row, head by head."""
    B, T, h, d_v = v.shape
    after = [[M[b, i] for i in range(h)] for b in range(B)]
    out = [[[torch.zeros_like(v[b, t, i]) for i in range(h)] for t in range(T)] for b in range(B)]
    for b in range(B):
        for i in range(h):
            for t in range(T):
                m = after[b][i] if alpha is None else alpha[b, t, i] * after[b][i]  # (d_k, d_v)
                error = v[b, t, i] - m.T @ k[b, t, i]  # (d_v,)
                m = m + beta[b, t, i] * torch.outer(k[b, t, i], error)
                after[b][i] = m
                out[b][t][i] = m.T @ q[b, t, i]
    if T == 0:
        return v.clone(), M.clone()
    read = torch.stack([torch.stack([torch.stack(heads) for heads in row]) for row in out])
    return read.view(B, T, h, d_v), torch.stack([torch.stack(heads) for heads in after])


def step(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, alpha: Tensor | None, M: Tensor) -> tuple[Tensor, Tensor]:
    """One token, T = 1: out (B, 1, h, d_v) and M'. Raises ValueError for any other T."""
    if q.shape[1] != 1:
        raise ValueError(f"step takes one token, not {q.shape[1]}")
    q_, k_, v_, m = (x.to(_accurate(x)) for x in (q[:, 0], k[:, 0], v[:, 0], M))
    if alpha is not None:
        m = m * alpha[:, 0, :, None, None]
    error = v_ - (k_.unsqueeze(-2) @ m).squeeze(-2)  # (B, h, d_v)
    m = m + k_.unsqueeze(-1) * (beta[:, 0, :, None] * error).unsqueeze(-2)
    out = (q_.unsqueeze(-2) @ m).squeeze(-2)  # (B, h, d_v)
    return out.unsqueeze(1).to(v.dtype), m.to(M.dtype)


def chunkwise(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, alpha: Tensor | None, M: Tensor, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """`chunk` tokens at a time: out (B, T, h, d_v) and M'. Work O(T·(chunk + d_k·d_v)), memory of T/chunk matrices.

    Within a chunk that begins with M_0, let D[t, s] = α_{s+1} ⋯ α_t and Γ_t = α_1 ⋯ α_t. With u_s the correction that
    token s writes, M_t = Γ_t M_0 + Σ_{s≤t} D[t, s] k_s u_sᵀ, and so (the WY form, with decays)

        u_t + β_t Σ_{s<t} D[t, s] (k_t·k_s) u_s = β_t v_t − β_t Γ_t M_0ᵀ k_t,

    a unit lower triangular system, solved for all chunks at once before M goes from chunk to chunk. Raises ValueError
    where chunk < 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1")
    B, T, h, d_k = k.shape
    if T == 0:
        return v.clone(), M.clone()
    C = min(chunk, T)
    n = -(-T // C)

    def cut(x: Tensor, value: float = 0.0) -> Tensor:
        """(B, T, h, d) → (B, h, n, C, d), the last chunk filled up with `value`."""
        x = pad(x.to(_accurate(x)), (0, 0, 0, 0, 0, n * C - T), value=value)
        return x.view(B, n, C, h, -1).permute(0, 3, 1, 2, 4)

    q_, k_, v_, b_ = cut(q), cut(k), cut(v), cut(beta.unsqueeze(-1))  # b_ (B, h, n, C, 1)
    kk, qk = (k_ @ k_.mT).tril(-1), (q_ @ k_.mT).tril()  # (B, h, n, C, C)
    k_b, q_in, k_out = b_ * k_, q_, k_  # without decay every Γ and D is 1
    end = None
    if alpha is not None:
        a_ = cut(alpha.unsqueeze(-1), 1.0)  # (B, h, n, C, 1)
        # Column s of row t: α_t where t > s, else 1, so that the running product down a column is D[t, s] (t ≥ s). A
        # product, not a difference of logarithms: exact where α is 0, and as precise as the loop.
        below = torch.ones(C, C, dtype=torch.bool, device=k.device).tril(-1)
        D = torch.where(below, a_, 1.0).cumprod(dim=-2)  # (B, h, n, C, C)
        gamma = a_.cumprod(dim=-2)  # (B, h, n, C, 1)
        kk, qk = kk * D, qk * D
        k_b, q_in, k_out = gamma * k_b, gamma * q_, D[..., -1, :, None] * k_
        end = gamma[..., -1:, :]  # (B, h, n, 1, 1)
    identity = torch.eye(C, dtype=kk.dtype, device=kk.device)
    both = torch.linalg.solve_triangular(
        identity + b_ * kk, torch.cat((b_ * v_, k_b), dim=-1), upper=False, unitriangular=True
    )
    u, w = both.split((v.shape[-1], d_k), dim=-1)  # (B, h, n, C, d_v), (B, h, n, C, d_k)
    m, out = M.to(_accurate(M)), []
    ends = [None] * n if end is None else end.unbind(2)
    # Unbound, not indexed: an index's gradient is a whole tensor of zeros for each chunk.
    for end_, u_, w_, q_, qk_, k_ in zip(ends, *(x.unbind(2) for x in (u, w, q_in, qk, k_out)), strict=True):
        new = u_ - w_ @ m  # (B, h, C, d_v): what each token writes
        out.append(q_ @ m + qk_ @ new)
        m = (m if end_ is None else end_ * m) + k_.mT @ new
    read = torch.stack(out, dim=2).permute(0, 2, 3, 1, 4).reshape(B, n * C, h, -1)[:, :T]
    return read.to(v.dtype), m.to(M.dtype)


def feature_map(x: Tensor, degree: int) -> Tensor:
    """Π_{j < degree} x_{i + j·APART} over the last axis, which goes round; x itself at degree 1.

    Two keys whose cosine is c then have one of about c^degree: what resembles each other is told apart, and one part of
    a key can be tied to another, a name to what is said of it. Compare DPFP (Schlag, Irie and Schmidhuber 2021, "Linear
    Transformers Are Secretly Fast Weight Programmers", arXiv 2102.11174, section 5.3), which also rectifies.
    """
    y = x
    for j in range(1, degree):
        y = y * x.roll(-APART * j, dims=-1)
    return y


def l2norm(x: Tensor) -> Tensor:
    """x / √(Σx² + ε) over the last axis."""
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + L2_EPS)


def conv(x: Tensor, weight: Tensor, tail: Tensor) -> Tensor:
    """Depthwise causal convolution, no bias: y_t = Σ_j weight[:, j] · x_{t − (width−1) + j}.

    x (B, T, C), weight (C, width): its last tap is the token itself, the one before it the token before; tail (B,
    width−1, C): what was read before x, oldest first, zeros at the beginning. Returns (B, T, C).
    """
    T, width = x.shape[1], weight.shape[1]
    before = torch.cat((tail.to(x.dtype), x), dim=1)  # (B, width−1+T, C)
    y = weight[:, 0] * before[:, :T]
    for j in range(1, width):
        y = y + weight[:, j] * before[:, j : j + T]
    return y


def tail_after(x: Tensor, tail: Tensor, lengths: Tensor) -> Tensor:
    """The tail (B, width−1, C) that `conv` needs after the first lengths[b] tokens of row b of x (B, T, C)."""
    before = torch.cat((tail, x.to(tail.dtype)), dim=1)
    if x.shape[1] == 1:  # the same, without an index for every channel
        return torch.where((lengths > 0)[:, None, None], before[:, 1:], tail)
    last = lengths[:, None] + torch.arange(tail.shape[1], device=x.device)  # (B, width−1)
    return before.gather(1, last.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def decay(a: Tensor, dt_bias: Tensor, A_log: Tensor) -> Tensor:
    """α = exp(−softplus(a + dt_bias) · exp(A_log)), in (0, 1]. a (…, h), dt_bias and A_log (h,)."""
    return torch.exp(-softplus(a + dt_bias) * torch.exp(A_log))


def _accurate(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
