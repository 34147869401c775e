"""Infini-attention's compressive memory (Munkhdalai et al. 2024, arXiv 2404.07143, section 2.1).

Per memory head, with σ(x) = ELU(x) + 1 and no positional encoding, for segment s of C tokens:

    retrieve  A_mem = σ(Q) M_{s−1} / (σ(Q) z_{s−1})                                          (eq. 3)
    update    M_s = M_{s−1} + σ(K)ᵀ V                              rule `linear`              (eq. 4)
              M_s = M_{s−1} + σ(K)ᵀ (V − σ(K) M_{s−1} / (σ(K) z_{s−1}))   rule `delta`        (eq. 5)
              z_s = z_{s−1} + Σ_t σ(K_t)                                                      (eq. 4)
    combine   A = g · A_mem + (1 − g) · A_local,   g = sigmoid(gate), one gate per query head (eq. 6)

Invariants: a token reads the memory of *earlier* segments only (retrieve before update); a segment that is not full yet
waits in `seg_k`, `seg_v`, so any split of the text gives the same state; nothing is summed over rows; while z = 0
nothing was ever written, A_mem is exactly zero and the gate is not applied.

One memory may be shared by several layers: all read what earlier segments left, and when a segment has ended, and the
last of them has read, each writes its own keys and values of it, in the order of the layers (`end_segments`). A layer
may have several memories: `model.routing`.

Deliberate differences from the paper: query heads that share a key/value head would keep identical copies of M and z
(their keys and values are the same), so they are kept once per key/value head (G of them, not H); the denominators
σ(·)z are clamped from below by `EPS`.

It knows nothing of windows, layers or where the tensors live.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import elu

from model.routing import choose, weigh
from model.state import LeafSpec

EPS = 1e-6


class Rule(StrEnum):
    """How a memory is written: a segment at a time (linear, delta), or at every token (`model.gated_delta`)."""

    LINEAR = "linear"
    DELTA = "delta"
    GATED_DELTA = "gated_delta"


def sigma(x: Tensor) -> Tensor:
    """σ(x) = ELU(x) + 1 > 0."""
    return elu(x) + 1.0


def leaf_specs(heads: int, dim: int, segment: int, memories: int = 1) -> dict[str, LeafSpec]:
    """The leaves of one memory layer: G = `heads`, D = `dim`, C = `segment`.

    memories: how many it has, with an axis of their own in front where they are several; 0: it writes to another's.
    """
    shape = (heads, dim) if memories == 1 else (memories, heads, dim)
    own = {
        "M": LeafSpec((*shape, dim), torch.float32, "memory matrix, key side × value side, per key/value head"),
        "z": LeafSpec(shape, torch.float32, "normaliser: sum of the keys written"),
        "writes": LeafSpec((), torch.int64, "segments written since the memory was last emptied or cleaned"),
    }
    return (own if memories else {}) | {
        "seg_k": LeafSpec((heads, segment, dim), torch.float32, "keys of the segment being filled"),
        "seg_v": LeafSpec((heads, segment, dim), torch.float32, "values of the segment being filled"),
        "seg_mask": LeafSpec((segment,), torch.uint8, "1 where the segment being filled holds a token to be written"),
    }


@dataclass(frozen=True, slots=True)
class Memory:
    """One layer's memory of B rows, views into the state.

    M (B, G, D, D), z (B, G, D), seg_k and seg_v (B, G, C, D), all float32; seg_mask (B, C) uint8; frozen (B,) uint8:
    1 reads without writing: no segment that ends while frozen is written, and tokens read while frozen never are.
    writes (B,) int64: segments written. router (N, D): where there are several memories, M is (B, N, G, D, D) and z
    (B, N, G, D). shared: other layers have the same M, z and writes, so a full segment waits for `end_segments`.
    """

    M: Tensor
    z: Tensor
    seg_k: Tensor
    seg_v: Tensor
    seg_mask: Tensor
    frozen: Tensor
    writes: Tensor
    router: Tensor | None = None
    shared: bool = False

    @property
    def segment(self) -> int:
        """C, the tokens of a segment."""
        return self.seg_k.shape[2]


def retrieve(M: Tensor, z: Tensor, q: Tensor) -> Tensor:
    """A_mem (eq. 3). M (G, D, D), z (G, D), q (T, H, D) → (T, H, D); zero where z is."""
    T, H, D = q.shape
    G = M.shape[0]
    sq = (
        sigma(q).view(T, G, H // G, D).permute(1, 2, 0, 3).reshape(G, -1, D)
    )  # (G, H/G·T, D): heads h of group h // (H/G)
    denominator = (sq @ z.unsqueeze(-1)).clamp(min=EPS)  # (G, H/G·T, 1)
    read = (sq @ M) / denominator
    return read.view(G, H // G, T, D).permute(2, 0, 1, 3).reshape(T, H, D)


def update(M: Tensor, z: Tensor, k: Tensor, v: Tensor, mask: Tensor, rule: Rule) -> None:
    """Write one whole segment, in place (eq. 4, 5). M (G, D, D), z (G, D), k and v (G, C, D), mask (C,)."""
    sk = sigma(k) * mask.unsqueeze(-1)  # a masked token adds nothing to M nor z
    if rule is Rule.DELTA:
        v = v - (sk @ M) / (sk @ z.unsqueeze(-1)).clamp(min=EPS)
    M += sk.transpose(-1, -2) @ v
    z += sk.sum(dim=-2)


def combine(local: Tensor, read: Tensor, written: bool, gate: Tensor) -> Tensor:
    """Eq. 6. local and read (T, H, D), gate (H,) logits (−inf: closed). Untouched while nothing was written."""
    if not written:
        return local
    g = torch.sigmoid(gate).unsqueeze(-1)  # (H, 1)
    return torch.where(g > 0, g * read + (1.0 - g) * local, local)


def attend(
    memory: Memory,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    local: Tensor,
    gate: Tensor | None,
    rule: Rule,
    position: list[int],
    lengths: list[int],
    *,
    singly: bool = False,
) -> Tensor:
    """Read, then write, segment by segment, in place.

    q and local (B, T, H, D), k and v (B, T, G, D) before RoPE; gate (H,), or None where every head's is closed (nothing
    is read then, but writing goes on). Row b's tokens stand at position[b] … position[b] + lengths[b] − 1.
    singly: read for one token at a time, so that the bits do not depend on how the text was cut in chunks.
    A shared memory's text must not go beyond the segment it begins in: what follows would read too early.
    Returns the combined attention, (B, T, H, D) in local's dtype; with gate None, `local` itself.
    """
    if gate is None and q.shape[1] == 1:
        _write_one(memory, k, v, rule, position, lengths)
        return local
    out = local if gate is None else local.clone()
    for b, (p, n) in enumerate(zip(position, lengths, strict=True)):
        t = 0
        while t < n:
            stop = min(n, t + memory.segment - (p + t) % memory.segment)  # the end of this segment, or of the text
            if gate is not None:
                M, z = memory.M[b], memory.z[b]
                written, step = bool(z.any()), 1 if singly else stop - t
                for u in range(t, stop, step):
                    read = _retrieve(memory.router, M, z, q[b, u : u + step].float())
                    out[b, u : u + step] = combine(local[b, u : u + step].float(), read, written, gate).to(out.dtype)
            _write(memory, b, k[b, t:stop], v[b, t:stop], (p + t) % memory.segment, rule)
            t = stop
    return out


def _write_one(memory: Memory, k: Tensor, v: Tensor, rule: Rule, position: list[int], lengths: list[int]) -> None:
    """`_write` of one token in every row that has one, all rows at once: this is in every decode step."""
    rows = torch.tensor([b for b, n in enumerate(lengths) if n])
    if len(rows) == 0:
        return
    place = torch.tensor([p % memory.segment for p, n in zip(position, lengths, strict=True) if n])
    memory.seg_k[rows, :, place] = k[rows, 0]
    memory.seg_v[rows, :, place] = v[rows, 0]
    memory.seg_mask[rows, place] = 1 - memory.frozen[rows]
    if not memory.shared:
        end_segments([memory], rows[place == memory.segment - 1].tolist(), rule)


def _write(memory: Memory, b: int, k: Tensor, v: Tensor, start: int, rule: Rule) -> None:
    """Put k and v (t, G, D) in row b's segment from place `start`; a segment that is full is written to the memory."""
    end = start + k.shape[0]
    memory.seg_k[b, :, start:end] = k.transpose(0, 1)
    memory.seg_v[b, :, start:end] = v.transpose(0, 1)
    memory.seg_mask[b, start:end] = 1 - memory.frozen[b]
    if end == memory.segment and not memory.shared:
        end_segments([memory], [b], rule)


def end_segments(memories: Sequence[Memory], rows: Sequence[int], rule: Rule) -> None:
    """These rows' segments are full: write them, one memory after the other, unless frozen or without a token."""
    for b in rows:
        for memory in memories:
            mask = memory.seg_mask[b]
            if memory.frozen[b] or not mask.any():
                continue
            if memory.router is None:
                update(memory.M[b], memory.z[b], memory.seg_k[b], memory.seg_v[b], mask, rule)
            else:
                _update_one_of(memory.router, memory.M[b], memory.z[b], memory.seg_k[b], memory.seg_v[b], mask, rule)
            memory.writes[b] += 1


def _retrieve(router: Tensor | None, M: Tensor, z: Tensor, q: Tensor) -> Tensor:
    """`retrieve` from one memory, or from several as `model.routing` weighs them: M (N, G, D, D), z (N, G, D)."""
    if router is None:
        return retrieve(M, z, q)
    written = z.any(dim=-1).T.repeat_interleave(q.shape[1] // z.shape[1], dim=0)  # (H, N)
    w = weigh(router, q, written)  # (T, H, N)
    read = torch.zeros_like(q)
    for n in range(len(router)):
        read = read + w[..., n, None] * retrieve(M[n], z[n], q)
    return read


def _update_one_of(router: Tensor, M: Tensor, z: Tensor, k: Tensor, v: Tensor, mask: Tensor, rule: Rule) -> None:
    """`update` of the memory that each head's segment belongs to, in place. M (N, G, D, D), z (N, G, D)."""
    n, g = choose(router, k, mask), torch.arange(k.shape[0])
    M_n, z_n = M[n, g], z[n, g]  # copies: (G, D, D), (G, D)
    update(M_n, z_n, k, v, mask, rule)
    M[n, g], z[n, g] = M_n, z_n
