"""Filters and the draw, in plain torch for any device: the reference of `draw_cpu.py`, and what a GPU runs.

Tokens are ranked by logit, ties by lower id. top-k, top-p and min-p each keep the beginning of that ranking, so
together they keep its first n tokens. One of these is drawn by Gumbel-max: the greatest of
(logit − peak)/temperature + noise is a sample of their softmax, and needs neither a sum nor a sorted list
(Gumbel 1954; Maddison, Tarlow and Minka, "A* sampling", 2014).

Invariants: nothing is summed across rows, and sums within a row are of integers; so a row's token is the same in any
batch, at any place in it, and on any device.

It knows nothing of penalties, histories or log probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.noise import bits_at, bits_of_all, gumbel, mass

if TYPE_CHECKING:
    from model.sampling import SamplingParams

FIRST_LOOK = 256  # ranks looked at before more are asked for; a usual nucleus is smaller


def as_int64(value: int) -> int:
    """The signed 64-bit number with the low 64 bits of `value`."""
    return (value + 2**63) % 2**64 - 2**63


def draw(logits: Tensor, params: Sequence[SamplingParams], positions: Sequence[int]) -> list[int]:
    """One token of each row, none of them greedy.

    logits (R, V) float32 without NaN or +inf and with a finite peak in each row; temperatures above 0.
    """
    R, V = logits.shape
    filtered = [r for r in range(R) if params[r].filters(V)]
    tokens = [0] * R
    for rows, pick in ((filtered, _pick_filtered), ([r for r in range(R) if r not in set(filtered)], _pick_open)):
        if rows:
            x = logits if len(rows) == R else logits[torch.tensor(rows, device=logits.device)]
            seeds = _column([as_int64(params[r].seed) for r in rows], torch.int64, x.device)[:, 0]
            at = _column([as_int64(positions[r]) for r in rows], torch.int64, x.device)[:, 0]
            for r, token in zip(rows, pick(x, [params[r] for r in rows], seeds, at).tolist(), strict=True):
                tokens[r] = token
    return tokens


def _column(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)[:, None]


def _heated(x: Tensor, peak: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """(x − peak)/temperature in float64, 0 at the peak: no temperature over- or underflows there."""
    return (x.double() - peak.double()) / _column([p.temperature for p in params], torch.float64, x.device)


def _winner(score: Tensor, ids: Tensor) -> Tensor:
    """The id of each row's greatest score, the lower one of two: score (R, K) float64, ids (R, K) or (K,) → (R,)."""
    best = score.amax(1, keepdim=True)
    return torch.where(score == best, ids, torch.iinfo(torch.int64).max).amin(1)


def _pick_open(x: Tensor, params: Sequence[SamplingParams], seeds: Tensor, positions: Tensor) -> Tensor:
    """Draw from the whole vocabulary: x (R, V) → (R,) int64."""
    V = x.shape[1]
    noise = gumbel(bits_of_all(seeds, positions, V))
    return _winner(_heated(x, x.amax(1, keepdim=True), params) + noise, torch.arange(V, device=x.device))


def _pick_filtered(x: Tensor, params: Sequence[SamplingParams], seeds: Tensor, positions: Tensor) -> Tensor:
    """Draw from each row's first n tokens: x (R, V) → (R,) int64."""
    V = x.shape[1]
    peak = x.amax(1, keepdim=True)
    limits = [min(p.top_k or V, V) for p in params]
    k = _column(limits, torch.int64, x.device)
    top_p = _column([p.top_p for p in params], torch.float64, x.device)
    least = _column([math.log(p.min_p) if p.min_p else -math.inf for p in params], torch.float64, x.device)
    total = torch.zeros_like(k)  # mass of the row's first k
    if any(p.top_p < 1 and limit == V for p, limit in zip(params, limits, strict=True)):
        total = mass(_heated(x, peak, params)).sum(1, keepdim=True)

    K = min(V, max([FIRST_LOOK, *(limit + 1 for limit in limits if limit < V)]))
    while True:
        values, ids = _ranked(x, K)  # (R, K)
        d = _heated(values, peak, params)
        within = torch.arange(K, device=x.device) < k
        masses = mass(d).masked_fill(~within, 0)
        whole = torch.where(k < V, masses.sum(1, keepdim=True), total)
        before = (masses.cumsum(1) - masses).double()
        keep = within & ((before < top_p * whole.double()) | (top_p >= 1)) & (d >= least)
        keep[:, 0] = True
        n = keep.sum(1, keepdim=True)
        # The lowest value seen may go on beyond what was looked at, with lower ids: then the last kept is not known.
        if K == V or bool((values.gather(1, n - 1) > values[:, -1:]).all()):
            break
        K = min(V, 8 * K)
    score = d + gumbel(bits_at(seeds, positions, ids))
    return _winner(score.masked_fill(~keep, -math.inf), ids)


def _ranked(x: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """Each row's K greatest values, falling, ties by rising id; of those equal to the last, any may be missing."""
    ids = x.topk(K, dim=1).indices.sort(dim=1).values
    values, order = x.gather(1, ids).sort(dim=1, descending=True, stable=True)
    return values, ids.gather(1, order)
