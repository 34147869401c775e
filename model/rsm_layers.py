"""RSM's layers as torch modules, with parameters under the names checkpoints have them; for training.

The equations are in `model.rsm`. Each forward takes what its layer carries and returns what it carries on: nothing
mutable hangs on a module. Slots M are here whole, M₀ and what they have become.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention as attention
from torch.nn.functional import silu

from model.rsm_config import Config


@dataclass(frozen=True, slots=True)
class Carried:
    """What one layer carries of B rows: k, v (B, H, C, D) of the chunk being filled; mask (B, C) bool, where it holds a
    token to be written; M (B, S, E), less M₀; writes (B,) int64."""

    k: Tensor
    v: Tensor
    mask: Tensor
    M: Tensor
    writes: Tensor


@dataclass(frozen=True, slots=True)
class Piece:
    """Where the tokens of a piece stand. place (B, P) int64: in the chunk, C for padding; frozen (B,) bool. whole:
    every row's piece is a chunk from its beginning to its end, which is quicker to read."""

    place: Tensor
    frozen: Tensor
    chunk: int
    whole: bool

    @property
    def real(self) -> Tensor:
        """(B, P) bool: not padding."""
        return self.place < self.chunk

    @property
    def seen(self) -> Tensor:
        """(B, 1, P, C) bool: which places a token attends to, padding to all."""
        return (torch.arange(self.chunk, device=self.place.device) <= self.place.unsqueeze(-1)).unsqueeze(1)

    def put(self, kept: Tensor, new: Tensor, dim: int) -> Tensor:
        """`kept` with the tokens' `new` at their places along `dim`, a new tensor; padding is left out."""
        if self.whole:
            return new.to(kept.dtype)
        shape = [1] * kept.dim()
        shape[0], shape[dim] = self.place.shape
        spare = torch.zeros_like(kept.narrow(dim, 0, 1))
        index = self.place.view(shape).expand_as(new)
        return torch.cat((kept, spare), dim).scatter(dim, index, new.to(kept.dtype)).narrow(dim, 0, self.chunk)


class RMSNorm(nn.Module):
    """x / √(mean x² + ε) · weight over the last axis."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight
        return scaled


class Projections(nn.Module):
    """q_proj, k_proj, v_proj, o_proj, all (E, E), and the way to heads and back."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj, self.k_proj = nn.Linear(E, E, bias=False), nn.Linear(E, E, bias=False)
        self.v_proj, self.o_proj = nn.Linear(E, E, bias=False), nn.Linear(E, E, bias=False)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, E) → (B, H, N, D)."""
        apart: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return apart

    def forward(self, x: Tensor, slots: Tensor) -> Tensor:
        """x (B, N, E) attends to slots (B, S, E): (B, N, E)."""
        q, k, v = self.split(self.q_proj(x)), self.split(self.k_proj(slots)), self.split(self.v_proj(slots))
        return join(self.o_proj, attention(q, k, v))


class MLP(nn.Module):
    """W_down (silu(W_gate x) ⊙ W_up x)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E, F = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = nn.Linear(E, F, bias=False), nn.Linear(E, F, bias=False)
        self.down_proj = nn.Linear(F, E, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Write(nn.Module):
    """M₀, the queries P, and how a chunk that has ended changes M."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E, shape = config.hidden_size, (config.num_memory_slots, config.hidden_size)
        self.slots = nn.Parameter(torch.randn(shape) * 0.5)
        self.queries = nn.Parameter(torch.randn(shape))
        self.a_proj, self.b_proj = nn.Linear(E, E, bias=False), nn.Linear(E, E, bias=False)
        self.g_proj = nn.Linear(E, E)
        nn.init.constant_(self.g_proj.bias, -1.0)  # a new model keeps more than it overwrites

    def forward(self, M: Tensor, U: Tensor) -> Tensor:
        """M, U (B, S, E) → (1 − G) ⊙ M + G ⊙ tanh(A M + B U)."""
        G = torch.sigmoid(self.g_proj(U))
        after: Tensor = (1 - G) * M + G * torch.tanh(self.a_proj(M) + self.b_proj(U))
        return after


class Layer(nn.Module):
    """One layer; `write` is its own affair once a chunk has ended."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        E, eps = config.hidden_size, config.rms_norm_eps
        self.attn_norm, self.attn = RMSNorm(E, eps), Projections(config)
        self.read_norm, self.read = RMSNorm(E, eps), Projections(config)
        self.mlp_norm, self.mlp = RMSNorm(E, eps), MLP(config)
        self.write = Write(config)

    def forward(self, h: Tensor, before: Carried, piece: Piece) -> tuple[Tensor, Carried]:
        """h (B, P, E) → the same after this layer, and what it carries on."""
        attn, x = self.attn, self.attn_norm(h)
        k = piece.put(before.k, attn.split(attn.k_proj(x)), 2)
        v = piece.put(before.v, attn.split(attn.v_proj(x)), 2)
        q = attn.split(attn.q_proj(x))
        seen = {"is_causal": True} if piece.whole else {"attn_mask": piece.seen}
        h = h + join(attn.o_proj, attention(q, k.to(q.dtype), v.to(q.dtype), **seen))
        h = h + self.read(self.read_norm(h), self.write.slots + before.M)
        h = h + self.mlp(self.mlp_norm(h))
        written = (~piece.frozen).unsqueeze(1).expand_as(piece.place)
        return h, replace(before, k=k, v=v, mask=piece.put(before.mask, written, 1))

    def end(self, one: Carried, ended: Tensor) -> tuple[Carried, Tensor]:
        """Write the chunk of the rows that have ended one, (B,) bool; and which rows were written."""
        written = ended & one.mask.any(dim=1)
        P = self.attn.split(self.write.queries.expand(len(ended), -1, -1))
        seen = (one.mask | ~written.unsqueeze(1))[:, None, None]  # (B, 1, 1, C): never none, which would be no number
        U = attention(P, one.k.to(P.dtype), one.v.to(P.dtype), attn_mask=seen).transpose(1, 2).flatten(2)
        M = self.write(self.write.slots + one.M, U) - self.write.slots
        return replace(one, M=torch.where(written[:, None, None], M, one.M), writes=one.writes + written), written


class Sync(Projections):
    """GlobalSync: its own projections take slots to tokens, those of `read` the tokens to come to the slots."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        E, eps = config.hidden_size, config.rms_norm_eps
        self.norm, self.g_proj = RMSNorm(E, eps), nn.Linear(E, E)
        self.read_norm, self.read = RMSNorm(E, eps), Projections(config)
        nn.init.constant_(self.g_proj.bias, -1.0)

    def end(self, slots: Tensor, one: Carried, top: Tensor, written: Tensor) -> Carried:
        """One layer's slots, M₀ of which are `slots` (S, E), attend to the chunk's tokens `top` (B, C, E)."""
        n, M = self.norm(top), slots + one.M
        seen = (one.mask | ~written.unsqueeze(1))[:, None, None]
        q, k, v = self.split(self.q_proj(M)), self.split(self.k_proj(n)), self.split(self.v_proj(n))
        R = attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)  # (B, S, E)
        G = torch.sigmoid(self.g_proj(R))
        M = (1 - G) * M + G * torch.tanh(self.o_proj(R)) - slots
        return replace(one, M=torch.where(written[:, None, None], M, one.M))


def join(out: nn.Linear, found: Tensor) -> Tensor:
    """(B, H, N, D) → (B, N, E), through the output's product."""
    joined: Tensor = out(found.transpose(1, 2).flatten(2))
    return joined
