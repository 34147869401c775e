"""Attention over the window and the sinks, out of place and differentiable: what `Ops.window_attention` is in place.

A layer's keys lie on a **timeline** of W + T places: place i holds position p0 − W + i, where p0 is where the call
began. The first W places are the ring of the state unrolled, oldest first; the tokens of the call follow. On it every
token sees the W places that end with its own, whatever row it is in and wherever its row began, so that one mask
serves all rows. The timeline is kept as a tuple of pieces and joined only as far as a piece of text sees: what autograd
holds on to grows with the text, not with the window times the pieces.

Keys lie on it after RoPE, sinks before it, as in the state. It knows nothing of projections or of the memory, nor whose
layers these are: of a configuration it asks what `Windowed` names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from model.kernels import rope_frequencies


class Windowed(Protocol):
    """A configuration with windows, as Senri's and the hybrid's name the fields."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def num_key_value_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def sliding_window_size(self) -> int: ...
    @property
    def num_sink_tokens(self) -> int: ...
    @property
    def rope_theta(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What a layer's attention carries from piece to piece.

    keys, values: the timeline in pieces, (B, G, n, D) each; first: the place the first piece begins at.
    sink_k, sink_v (B, G, N, D), keys before RoPE.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    first: int
    sink_k: Tensor
    sink_v: Tensor


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens a to a + P of every row of a call: what all layers share. Angles computed in float64.

    lengths (B,) int64: how many of them are real in each row; real (B, P) bool: which. positions (B, P) int64.
    cos, sin (B, P, D/2): of the positions; far_cos, far_sin (D/2,): of W, where a query meets the sinks; sink_cos,
    sink_sin (N, D/2). lo: the first place of the timeline that any row needs. band (P, S) bool: which of the places
    lo … W + a + P − 1 a token sees; blank (B, S) bool or None: places before the first token. sinks (B, P, N) bool:
    the sinks it meets, None where no token meets any. opening: some row's sinks are among these tokens.
    """

    a: int
    P: int
    lengths: Tensor
    real: Tensor
    positions: Tensor
    cos: Tensor
    sin: Tensor
    far_cos: Tensor
    far_sin: Tensor
    sink_cos: Tensor
    sink_sin: Tensor
    lo: int
    band: Tensor
    blank: Tensor | None
    sinks: Tensor | None
    opening: bool


def make_piece(
    config: Windowed, position: Tensor, lengths: Tensor, where: list[int], a: int, P: int, dtype: torch.dtype
) -> Piece:
    """position (B,) and where: p0, where the call began; lengths (B,) int64: tokens of each row in the whole call."""
    W, N, device = config.sliding_window_size, config.num_sink_tokens, position.device
    inv_freq = torch.tensor(rope_frequencies(config.rope_theta, config.head_dim), dtype=torch.float64, device=device)
    positions = position[:, None] + torch.arange(a, a + P, device=device)  # (B, P)
    angle = positions[..., None].double() * inv_freq  # (B, P, D/2)
    sink = torch.arange(N, dtype=torch.float64, device=device)[:, None] * inv_freq  # (N, D/2)
    oldest, youngest = max(where), min(where)
    exact = torch.promote_types(dtype, torch.float32)
    count = (lengths - a).clamp(0, P)
    lo = max(a + 1, W - oldest)  # earlier places hold positions below 0 in every row
    place = torch.arange(lo, W + a + P, device=device)  # (S,)
    own = torch.arange(W + a, W + a + P, device=device)[:, None]  # (P, 1): each token's place
    return Piece(
        a=a,
        P=P,
        lengths=count,
        real=torch.arange(P, device=device) < count[:, None],
        positions=positions,
        cos=angle.cos().to(exact),
        sin=angle.sin().to(exact),
        far_cos=(W * inv_freq).cos().to(exact),
        far_sin=(W * inv_freq).sin().to(exact),
        sink_cos=sink.cos().to(exact),
        sink_sin=sink.sin().to(exact),
        lo=lo,
        band=(place <= own) & (place > own - W),
        blank=None if lo >= W - youngest else place < W - position[:, None],
        sinks=positions[..., None] - W >= torch.arange(N, device=device) if N and oldest + a + P > W else None,
        opening=youngest + a < N,
    )


def products_dtype(weight: Tensor) -> torch.dtype:
    """What products with `weight` come out in: its own dtype, or autocast's."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def begin(ring_k: Tensor, ring_v: Tensor, sink_k: Tensor, sink_v: Tensor, position: Tensor, dtype: torch.dtype) -> Kept:
    """From the leaves of a layer, (B, G, W, D) and (B, G, N, D), computing in `dtype`."""
    W = ring_k.shape[2]
    slot = (position[:, None] + torch.arange(W, device=position.device)) % W  # place i is position p0 − W + i

    def unrolled(ring: Tensor) -> Tensor:
        return take(ring, slot, dim=2).to(dtype)

    return Kept((unrolled(ring_k),), (unrolled(ring_v),), 0, sink_k.to(dtype), sink_v.to(dtype))


def end(kept: Kept, position: Tensor, lengths: Tensor, W: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The leaves after the call: ring_k, ring_v, sink_k, sink_v, in the dtype of the computation."""
    last = (position + lengths)[:, None] - 1  # (B, 1)
    held = last - (last - torch.arange(W, device=position.device)) % W  # (B, W): the position each slot holds now
    place = held - position[:, None] + W - kept.first
    keys, values = torch.cat(kept.keys, dim=2), torch.cat(kept.values, dim=2)
    return take(keys, place, dim=2), take(values, place, dim=2), kept.sink_k, kept.sink_v


def attend(config: Windowed, kept: Kept, piece: Piece, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Kept]:
    """q (B, P, H, D), k and v (B, P, G, D) before RoPE → (B, P, H, D). A padded token's is of no use."""
    B, P, H, D = q.shape
    G = k.shape[2]
    cos, sin = piece.cos.unsqueeze(2), piece.sin.unsqueeze(2)  # (B, P, 1, D/2)
    kept = _extended(config, kept, piece, k, rotate(k, cos, sin), v)
    keys, values = (torch.cat(pieces, dim=2)[:, :, piece.lo - kept.first :] for pieces in (kept.keys, kept.values))
    near = _grouped(rotate(q, cos, sin), G)  # (B, G, H/G, P, D)
    scores = near.flatten(2, 3) @ keys.mT  # (B, G, H/G·P, S)
    seen = piece.band if piece.blank is None else piece.band & ~piece.blank[:, None, None, None]
    scores = scores.view(B, G, H // G, P, -1).masked_fill(~seen, float("-inf"))
    if piece.sinks is not None:
        far = _grouped(rotate(q, piece.far_cos, piece.far_sin), G).flatten(2, 3)
        met = (far @ rotate(kept.sink_k, piece.sink_cos, piece.sink_sin).mT).view(B, G, H // G, P, -1)
        met = met.masked_fill(~piece.sinks[:, None, None], float("-inf"))  # (B, G, H/G, P, N)
        scores, values = torch.cat((met, scores), dim=-1), torch.cat((kept.sink_v, values), dim=2)
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = (scores * D**-0.5).softmax(dim=-1, dtype=exact).to(values.dtype).flatten(2, 3)
    read = (weights @ values).view(B, G, H // G, P, D)
    return read.permute(0, 3, 1, 2, 4).reshape(B, P, H, D), kept


def _extended(config: Windowed, kept: Kept, piece: Piece, k: Tensor, rotated: Tensor, v: Tensor) -> Kept:
    """The timeline with this piece's keys and values on it, and the sinks that are among them."""
    kept = replace(kept, keys=(*kept.keys, rotated.transpose(1, 2)), values=(*kept.values, v.transpose(1, 2)))
    if not piece.opening:
        return kept
    token = torch.arange(config.num_sink_tokens, device=k.device) - piece.positions[:, :1]  # (B, N): of this piece
    here = ((token >= 0) & (token < piece.lengths[:, None]))[:, None, :, None]
    token = token.clamp(0, piece.P - 1)
    return replace(
        kept,
        sink_k=torch.where(here, take(k, token, dim=1).transpose(1, 2), kept.sink_k),
        sink_v=torch.where(here, take(v, token, dim=1).transpose(1, 2), kept.sink_v),
    )


def forget(kept: Kept, place: int) -> Kept:
    """Without the pieces that end at or before `place`, which nothing needs any more."""
    keys, values, first = kept.keys, kept.values, kept.first
    while len(keys) > 1 and first + keys[0].shape[2] <= place:
        first += keys[0].shape[2]
        keys, values = keys[1:], values[1:]
    return replace(kept, keys=keys, values=values, first=first)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE in the half-split layout, in x's dtype. x (…, D); cos and sin broadcast over (…, D/2)."""
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).to(x.dtype)


def take(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Per row b, x's entries index[b] along `dim`. x (B, …), index (B, n) → (B, … n …)."""
    shape = [x.shape[0], *(1 for _ in x.shape[1:])]
    shape[dim] = index.shape[1]
    size = list(x.shape)
    size[dim] = index.shape[1]
    return x.gather(dim, index.view(shape).expand(size))


def _grouped(x: Tensor, G: int) -> Tensor:
    """(B, P, H, D) → (B, G, H/G, P, D): head h belongs to group h // (H/G)."""
    B, P, H, D = x.shape
    return x.view(B, P, G, H // G, D).permute(0, 2, 3, 1, 4)
