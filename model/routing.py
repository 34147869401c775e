"""Several memories in one layer, each with a direction of its own: which one is written, and how reads are weighed.

With r_1 … r_N orthonormal in the D dimensions of a key, per key/value head:

    write   a segment that has ended goes whole to the memory n* = argmax_n r_n · k̄, k̄ the mean of its keys
    read    A_mem = Σ_n w_n A_n,   w = softmax_n(r_n · q) over the memories that hold anything, A_n = memory n's read

So texts whose keys point different ways are kept apart, and filler of one kind does not wear out what is remembered of
another. Keys and queries as they come from their projections, without positional encoding and before σ, which would
turn all of them towards the same corner. Nothing is trained: the directions are given, or those of `basis`.

Invariants: a function of one row's own segment and query, so nothing depends on what shares a batch; while at most one
memory holds anything, reading is reading that one. It knows nothing of what a memory is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def basis(n: int, dim: int) -> Tensor:
    """n < dim orthonormal directions, (n, dim) float32: rows 1 … n of the discrete cosine transform (type II).

    Row 0 is left out: it is the mean of a key's entries, which mostly says nothing.
    """
    angle = torch.outer(torch.arange(1, n + 1), torch.arange(dim) + 0.5).double() * (math.pi / dim)
    return (angle.cos() * math.sqrt(2 / dim)).float()


def is_orthonormal(router: Tensor) -> bool:
    """Whether the rows of router (N, D) are orthonormal, as far as 16-bit weights can be."""
    product = router.double() @ router.double().T
    return bool((product - torch.eye(len(router), dtype=torch.float64)).abs().amax() < 0.02)


def choose(router: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Where a segment goes: (G,) int64. router (N, D), k (G, C, D), mask (C,): 1 for the tokens that count."""
    total = (k * mask.unsqueeze(-1)).sum(dim=-2)  # (G, D); of the mean only the direction matters
    return (total @ router.T).argmax(dim=-1)


def weigh(router: Tensor, q: Tensor, written: Tensor) -> Tensor:
    """w: (T, H, N), zeros where a head's memories are all empty. router (N, D), q (T, H, D), written (H, N) bool."""
    logits = (q @ router.T).masked_fill(~written, float("-inf"))  # (T, H, N)
    return torch.where(written.any(dim=-1, keepdim=True), torch.softmax(logits, dim=-1), 0.0)
