"""The memories' recurrences out of place, batched over rows and over the tokens of a piece: `model.infini` and
`model.gated_delta` for training.

Rows of a batch may stand at different places of their segments. `attend` therefore lays a piece's tokens out by
segment, each row shifted by its own phase, and goes from segment to segment: all rows read, then those whose segment is
full write. It knows nothing of projections into the residual stream nor of attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.infini import EPS, Rule, sigma
from model.unroll.window import take


@dataclass(frozen=True, slots=True)
class Segments:
    """Infini-attention's memory of B rows: the leaves of `model.infini.leaf_specs`, out of place."""

    M: Tensor
    z: Tensor
    seg_k: Tensor
    seg_v: Tensor
    seg_mask: Tensor
    writes: Tensor


def attend(
    memory: Segments,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rule: Rule,
    position: list[int],
    lengths: list[int],
    frozen: Tensor,
    *,
    reads: bool,
    shared: bool = False,
) -> tuple[tuple[Tensor, Tensor] | None, Segments]:
    """Read, then write, segment by segment (eq. 3 to 5 of `model.infini`).

    q (B, P, H, D), k and v (B, P, G, D) before RoPE. Row b's real tokens stand at position[b] … position[b] +
    lengths[b] − 1; frozen (B,) bool. Returns A_mem (B, P, H, D) and where anything had been written, (B, P) bool; None
    without `reads`. Nothing is read or written where a token is padding. shared: a full segment waits for
    `end_segments`; the text must not go beyond the segment it begins in.
    """
    B, P = q.shape[:2]
    C = memory.seg_k.shape[2]
    device = q.device
    phase = [p % C for p in position]
    count = -(-(max(phase) + P) // C)  # of segments that any row's tokens lie in
    shift = torch.tensor(phase, device=device)[:, None]
    token = torch.arange(count * C, device=device) - shift  # (B, count·C): which token lies at each place
    real = (token >= 0) & (token < torch.tensor(lengths, device=device)[:, None])
    token = token.clamp(0, P - 1)
    keys, values = (take(x, token, dim=1).to(memory.M.dtype).transpose(1, 2) for x in (k, v))  # (B, G, count·C, D)
    queries = take(q, token, dim=1).to(memory.M.dtype) if reads else None  # (B, count·C, H, D)
    read, written = [], []
    for s in range(count):
        places = slice(s * C, (s + 1) * C)
        if queries is not None:
            read.append(retrieve(memory.M, memory.z, queries[:, places]))
            written.append((memory.z != 0).flatten(1).any(dim=1)[:, None].expand(B, C))
        here = real[:, places]
        memory = _filled(memory, keys[:, :, places], values[:, :, places], here, frozen)
        full = [0 <= (s + 1) * C - 1 - r < n for r, n in zip(phase, lengths, strict=True)]
        if any(full) and not shared:
            memory = _written(memory, torch.tensor(full, device=device) & ~frozen, rule)
    if not reads:
        return None, memory
    place = torch.arange(P, device=device) + shift  # (B, P)
    return (take(torch.cat(read, dim=1), place, dim=1), take(torch.cat(written, dim=1), place, dim=1)), memory


def end_segments(
    memories: Sequence[Segments], rule: Rule, position: list[int], lengths: list[int], frozen: Tensor
) -> list[Segments]:
    """Of the layers that share a memory, after the last has read: where a segment is full, each writes its own keys and
    values, in the order of the layers. The first holds the memory; M, z and writes of all are what it holds then."""
    C = memories[0].seg_k.shape[2]
    full = [n > 0 and (p + n) % C == 0 for p, n in zip(position, lengths, strict=True)]
    held = memories[0]
    if any(full):
        rows = torch.tensor(full, device=frozen.device) & ~frozen
        for memory in memories:
            held = _written(replace(memory, M=held.M, z=held.z, writes=held.writes), rows, rule)
    return [replace(memory, M=held.M, z=held.z, writes=held.writes) for memory in memories]


def retrieve(M: Tensor, z: Tensor, q: Tensor) -> Tensor:
    """A_mem (eq. 3). M (B, G, D, D), z (B, G, D), q (B, T, H, D) → (B, T, H, D); zero where z is."""
    B, T, H, D = q.shape
    G = M.shape[1]
    sq = sigma(q).view(B, T, G, H // G, D).permute(0, 2, 3, 1, 4).reshape(B, G, -1, D)  # head h of group h // (H/G)
    read = (sq @ M) / (sq @ z.unsqueeze(-1)).clamp(min=EPS)
    return read.view(B, G, H // G, T, D).permute(0, 3, 1, 2, 4).reshape(B, T, H, D)


def _filled(memory: Segments, k: Tensor, v: Tensor, here: Tensor, frozen: Tensor) -> Segments:
    """k and v (B, G, C, D) put in the segment where `here` (B, C)."""
    put = here[:, None, :, None]
    return replace(
        memory,
        seg_k=torch.where(put, k, memory.seg_k),
        seg_v=torch.where(put, v, memory.seg_v),
        seg_mask=torch.where(here, (~frozen).to(memory.seg_mask.dtype)[:, None], memory.seg_mask),
    )


def _written(memory: Segments, rows: Tensor, rule: Rule) -> Segments:
    """The segments of `rows` (B,) bool written to their memories, but for those in which nothing is to be written."""
    rows = rows & memory.seg_mask.bool().any(dim=1)
    sk = sigma(memory.seg_k) * memory.seg_mask[:, None, :, None]  # a masked token adds nothing to M nor z
    v = memory.seg_v
    if rule is Rule.DELTA:
        v = v - (sk @ memory.M) / (sk @ memory.z.unsqueeze(-1)).clamp(min=EPS)
    return replace(
        memory,
        M=torch.where(rows[:, None, None, None], memory.M + sk.mT @ v, memory.M),
        z=torch.where(rows[:, None, None], memory.z + sk.sum(dim=-2), memory.z),
        writes=memory.writes + rows,
    )
