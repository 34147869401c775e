"""What a memory layer does between its products: the gated delta rule with all that stands around it, plainly.

Of what a token's products give (`Fixed.widths`), their bias added, per head of h:

    q = l2norm(φ(conv(q))),  k = l2norm(φ(conv(k))),  v = conv(v),  φ: `feature_map` of the memory's degree
    β = sigmoid(b),  α = exp(−softplus(a + dt_bias)·rate)
    o of the rule (`model.gated_delta`), or RMSNorm(o)·g of it;  silu(gate)·o where there is a gate

Where there is a ring `waiting`, what is written (inputs of k and v, b and a) is that of the token read W tokens before,
which the ring gives for this token's; where there was none, nothing is written. A token that is padding, or would be
written while the memory is frozen, writes nothing; convolutions and ring go on over frozen tokens.

`recall_ref` is what the compiled kernel (`model.kernels.cpu_recall`) is compared with. It knows nothing of products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from model.gated_delta import chunkwise, conv, feature_map, l2norm, tail_after

NOTHING = -1e4  # the logit of a β that is 0 and an α that is 1


@dataclass(frozen=True, slots=True)
class Fixed:
    """What does not depend on the token, contiguous float32. K = h·d_k, V = h·d_v.

    bias (P,): added to the products side by side. taps (width, 2K+V): the three convolutions side by side, the last tap
    meets the token itself. decays: dt_bias and rate (h,), None where nothing decays. norm: g (d_v,) or None, with eps.
    gated: there is a gate. own_values: v is among the products, not given apart. degree: of φ.
    """

    heads: int
    key_dim: int
    value_dim: int
    bias: Tensor
    taps: Tensor
    decays: tuple[Tensor, Tensor] | None
    norm: Tensor | None
    eps: float
    gated: bool
    own_values: bool
    degree: int = 1

    @property
    def widths(self) -> tuple[int, int, int, int, int, int]:
        """Columns of q, k, v, b, a and gate among the products, in this order; 0 where there is none."""
        h, K = self.heads, self.heads * self.key_dim
        V = self.heads * self.value_dim if self.own_values else 0
        return K, K, V, h, h if self.decays is not None else 0, h if self.gated else 0


class Leaves(NamedTuple):
    """A layer's part of the state, B rows; all but `frozen` are written.

    M (B, h, d_k, d_v), conv_q, conv_k (B, width−1, K), conv_v (B, width−1, V) float32. waiting (B, h, W, d_k+d_v+3)
    float32 or bfloat16, or None: inputs of key and value, logit b with its bias, logit a without dt_bias (0 where
    nothing decays), 1; position p at p mod W; a place never read is all 0. writes (B,) int64; frozen (B,) uint8.
    """

    M: Tensor
    conv_q: Tensor
    conv_k: Tensor
    conv_v: Tensor
    waiting: Tensor | None
    writes: Tensor
    frozen: Tensor

    def row(self, b: int) -> Leaves:
        """Row b alone, sharing memory."""
        return Leaves(*(None if leaf is None else leaf[b : b + 1] for leaf in self))  # type: ignore[arg-type]  # mypy takes a tuple's fields for one type


def recall_ref(
    x: Tensor, values: Tensor | None, fixed: Fixed, *, leaves: Leaves, place: Tensor, lengths: Tensor
) -> Tensor:  # fmt: skip
    """See `Ops.recall`."""
    B, h, d_k, d_v = len(lengths), fixed.heads, fixed.key_dim, fixed.value_dim
    K, V = h * d_k, h * d_v
    parts = (x + fixed.bias).view(B, -1, x.shape[1]).split(fixed.widths, dim=-1)
    q, k, v, b, a, gate = parts  # (B, T, ·)
    T = q.shape[1]
    if values is not None:
        v = values.view(B, T, V)
    there = live = torch.arange(T) < lengths[:, None]  # (B, T): where there is something to write
    if leaves.waiting is not None:
        each = [u.view(B, T, h, -1) for u in (k, v, b, a if a.shape[-1] else torch.zeros_like(b), torch.ones_like(b))]
        left = exchange(leaves.waiting, torch.cat(each, dim=-1).transpose(1, 2), place, lengths).transpose(1, 2)
        k, v, b, a, read = (u.reshape(B, T, -1) for u in left.split((d_k, d_v, 1, 1, 1), dim=-1))
        b, a = b.masked_fill(read == 0, NOTHING), a.masked_fill(read == 0, NOTHING)  # β = 0, α = 1
        there = there & (read[..., 0] != 0)
    there = there & (leaves.frozen == 0)[:, None]
    inputs, tails = torch.cat((q, k, v), dim=-1), leaves[1:4]
    tail = torch.cat(tails, dim=-1)  # (B, width−1, 2K+V)
    q, k, v = conv(inputs, fixed.taps.T, tail).split((K, K, V), dim=-1)
    for old, new in zip(tails, tail_after(inputs, tail, lengths).split((K, K, V), dim=-1), strict=True):
        old.copy_(new)
    q, k = (l2norm(feature_map(u.reshape(B, T, h, d_k), fixed.degree)) for u in (q, k))
    v = v.reshape(B, T, h, d_v)
    beta, alpha = torch.sigmoid(b) * there.unsqueeze(-1), None
    if fixed.decays is not None:
        bias, rate = fixed.decays
        alpha = torch.where(there.unsqueeze(-1), torch.exp(-softplus(a + bias) * rate), 1.0)
    out, after = chunkwise(q, k, v, beta, alpha, leaves.M)
    leaves.M.copy_(torch.where(there.any(dim=1)[:, None, None, None], after, leaves.M))
    leaves.writes.add_(there.sum(dim=1))
    if fixed.norm is not None:
        out = out * torch.rsqrt(out.square().mean(dim=-1, keepdim=True) + fixed.eps) * fixed.norm
    if fixed.gated:
        out = silu(gate).unsqueeze(-1) * out
    return torch.where(live[..., None, None], out, 0.0).reshape(-1, V)


def exchange(ring: Tensor, x: Tensor, place: Tensor, lengths: Tensor) -> Tensor:
    """x (B, h, T, C), read from position place[b] on, takes the place of what was read W tokens before, which is
    returned, as float32 (B, h, T, C), 0 after lengths[b] tokens. ring (B, h, W, C): position p is at index p mod W."""
    W, left = ring.shape[2], torch.zeros_like(x)
    for b, (at, n) in enumerate(zip(place.tolist(), lengths.tolist(), strict=True)):
        row = torch.cat((ring[b].roll(-(at % W), 1), x[b, :, :n].to(ring.dtype)), dim=1)  # oldest first
        left[b, :, :n] = row[:, :n]
        ring[b] = row[:, n:].roll((at + n) % W, 1)
    return left
