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

Deliberate differences from the paper: query heads that share a key/value head would keep identical copies of M and z
(their keys and values are the same), so they are kept once per key/value head (G of them, not H); the denominators
σ(·)z are clamped from below by `EPS`.

It knows nothing of windows, layers or where the tensors live.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import elu

from model.state import LeafSpec

EPS = 1e-6


class Rule(StrEnum):
    """How a segment is written."""

    LINEAR = "linear"
    DELTA = "delta"


def sigma(x: Tensor) -> Tensor:
    """σ(x) = ELU(x) + 1 > 0."""
    return elu(x) + 1.0


def leaf_specs(heads: int, dim: int, segment: int) -> dict[str, LeafSpec]:
    """The leaves of one memory layer: G = `heads`, D = `dim`, C = `segment`."""
    return {
        "M": LeafSpec((heads, dim, dim), torch.float32, "memory matrix, key side × value side, per key/value head"),
        "z": LeafSpec((heads, dim), torch.float32, "normaliser: sum of the keys written"),
        "seg_k": LeafSpec((heads, segment, dim), torch.float32, "keys of the segment being filled"),
        "seg_v": LeafSpec((heads, segment, dim), torch.float32, "values of the segment being filled"),
        "seg_mask": LeafSpec((segment,), torch.uint8, "1 where the segment being filled holds a token to be written"),
    }


@dataclass(frozen=True, slots=True)
class Memory:
    """One layer's memory of B rows, views into the state.

    M (B, G, D, D), z (B, G, D), seg_k and seg_v (B, G, C, D), all float32; seg_mask (B, C) uint8; frozen (B,) uint8:
    1 reads without writing: no segment that ends while frozen is written, and tokens read while frozen never are.
    """

    M: Tensor
    z: Tensor
    seg_k: Tensor
    seg_v: Tensor
    seg_mask: Tensor
    frozen: Tensor

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
                    read = retrieve(M, z, q[b, u : u + step].float())
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
    for b in rows[place == memory.segment - 1].tolist():
        _end_segment(memory, b, rule)


def _write(memory: Memory, b: int, k: Tensor, v: Tensor, start: int, rule: Rule) -> None:
    """Put k and v (t, G, D) in row b's segment from place `start`; a segment that is full is written to the memory."""
    end = start + k.shape[0]
    memory.seg_k[b, :, start:end] = k.transpose(0, 1)
    memory.seg_v[b, :, start:end] = v.transpose(0, 1)
    memory.seg_mask[b, start:end] = 1 - memory.frozen[b]
    if end == memory.segment:
        _end_segment(memory, b, rule)


def _end_segment(memory: Memory, b: int, rule: Rule) -> None:
    """Row b's segment is full: write it to the memory, unless that is frozen."""
    if not memory.frozen[b]:
        update(memory.M[b], memory.z[b], memory.seg_k[b], memory.seg_v[b], memory.seg_mask[b], rule)
