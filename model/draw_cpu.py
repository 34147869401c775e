"""Filters and the draw on a CPU: the same tokens as `draw.py`, bit for bit, some hundred times sooner.

Row by row. The filters become one cut in the ranking (a logit, and the last id admitted at that logit), found by
selection, never by sorting ids. The race then computes a logarithm only for the few tokens that may still win: the
position of the first set bit of the random word bounds the noise, and so the score, from above.

Invariants: as `draw.py`; the compiled functions repeat `noise.py` operation by operation (no fast-math), so every
score they compute has the same bits. They all live in this file, since a compiled cache knows its own file only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from model.noise import (
    ATANH,
    DEEPEST,
    EXP,
    LANE,
    LN2,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    MASS_ONE,
    ROUND_A,
    ROUND_B,
    SQRT_HALF,
    WEYL_A,
    WEYL_B,
)

if TYPE_CHECKING:
    from model.sampling import SamplingParams

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


_WORD, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUND_A, _ROUND_B = np.uint64(ROUND_A), np.uint64(ROUND_B)
_WEYL_A, _WEYL_B = np.uint64(WEYL_A), np.uint64(WEYL_B)
_ROUNDER = 1.5 * 2.0**52  # x + this − this is x rounded to an integer, half to even, which vectorises
_ROUNDER_BITS = int(np.float64(_ROUNDER).view(np.int64))
_TWO_52 = np.uint64(0x433 << 52)  # the bits of 2⁵²: or-ed with an integer below it, the bits of their sum
_MOST_NOISE = 33 * LN2
_BUCKETS = 2048


@_compiled
def _round(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """One of Philox's ten rounds."""
    p, q = (a & _WORD) * _ROUND_A, (c & _WORD) * _ROUND_B
    return (q >> _HALF) ^ b ^ k0, q & _WORD, (p >> _HALF) ^ d ^ k1, p & _WORD


@_compiled
def philox_block(seed: np.uint64, position: np.uint64, block: np.uint64) -> tuple[np.uint64, ...]:
    """The four words of one block of `noise.py`'s counter."""
    a, b, c, d = block, position & _WORD, position >> _HALF, np.uint64(0)
    k0, k1 = seed & _WORD, seed >> _HALF
    for _ in range(10):
        a, b, c, d = _round(a, b, c, d, k0, k1)
        k0, k1 = (k0 + _WEYL_A) & _WORD, (k1 + _WEYL_B) & _WORD
    return a, b, c, d


@_compiled
def bits_of(seed: np.uint64, position: np.uint64, token: int) -> np.uint64:
    """The 32 random bits of one token: `noise.bits_at`."""
    block = token // (4 * LANE) * LANE + token % LANE
    return philox_block(seed, position, np.uint64(block))[token // LANE % 4]


@_compiled
def log(x: float) -> float:
    """`noise.log`."""
    m, e = math.frexp(x)
    if m < SQRT_HALF:
        m, e = m * 2.0, e - 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = ATANH[-1]
    for n in range(len(ATANH) - 2, -1, -1):
        series = series * z + ATANH[n]
    return e * LN2_HIGH + (2.0 * s * series + e * LN2_LOW)


@_compiled
def gumbel(bits: np.uint64) -> float:
    """`noise.gumbel`."""
    return -log(-log(1.0 - (np.float64(bits) + 0.5) * 2.0**-32))


@_compiled
def _mass(d: float) -> int:
    d = max(d, DEEPEST)
    shifted = d * LOG2_E + _ROUNDER
    k = shifted - _ROUNDER
    r = (d - k * LN2_HIGH) - k * LN2_LOW
    series = EXP[-1]
    for n in range(len(EXP) - 2, -1, -1):
        series = series * r + EXP[n]
    whole = np.float64(series * MASS_ONE + _ROUNDER).view(np.int64) - _ROUNDER_BITS
    return int(whole >> (_ROUNDER_BITS - np.float64(shifted).view(np.int64)))


@_compiled
def masses(values: NDArray[np.float32], peak: float, temperature: float) -> NDArray[np.int64]:
    """`noise.mass` of (values − peak)/temperature: float32 (n,) → int64 (n,)."""
    out = np.empty(values.size, np.int64)
    for i in range(values.size):
        out[i] = _mass((np.float64(values[i]) - peak) / temperature)
    return out


@_compiled
def _weigh(
    row: NDArray[np.float32], peak: float, temperature: float, steps: float
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Each token's mass, and which of `_BUCKETS` equal intervals of the logits it lies in, the greatest in 0."""
    weights, buckets = np.empty(row.size, np.int64), np.empty(row.size, np.int32)
    for i in range(row.size):
        d = max((np.float64(row[i]) - peak) / temperature, DEEPEST)
        weights[i] = _mass(d)
        buckets[i] = np.int32(min(-d * steps, _BUCKETS - 1.0))
    return weights, buckets


@_compiled
def _gather(weights: NDArray[np.int64], buckets: NDArray[np.int32]) -> NDArray[np.int64]:
    """The mass in each bucket."""
    sums = np.zeros(_BUCKETS, np.int64)
    for i in range(weights.size):
        sums[buckets[i]] += weights[i]
    return sums


@_compiled
def total_mass(values: NDArray[np.float32], peak: float, temperature: float) -> int:
    """The sum of `masses`, without the array."""
    total = 0
    for i in range(values.size):
        total += _mass((np.float64(values[i]) - peak) / temperature)
    return total


# The next three are functions of their own, and `fill` goes two rounds at a time over all its blocks, because only
# then does the compiler vectorise them: three times the speed.


@_compiled
def fill(bits: NDArray[np.uint64], seed: np.uint64, position: np.uint64, block: int) -> None:
    """The noise of 1,024 tokens: bits (4, 256), the words of 256 blocks."""
    w, x, y, z = bits[0], bits[1], bits[2], bits[3]
    for j in range(LANE):
        w[j], x[j], y[j], z[j] = np.uint64(block + j), position & _WORD, position >> _HALF, np.uint64(0)
    k0, k1 = seed & _WORD, seed >> _HALF
    for _ in range(5):
        l0, l1 = (k0 + _WEYL_A) & _WORD, (k1 + _WEYL_B) & _WORD
        for j in range(LANE):
            a, b, c, d = _round(w[j], x[j], y[j], z[j], k0, k1)
            w[j], x[j], y[j], z[j] = _round(a, b, c, d, l0, l1)
        k0, k1 = (l0 + _WEYL_A) & _WORD, (l1 + _WEYL_B) & _WORD


@_compiled
def _bound(
    part: NDArray[np.float32],
    peak: float,
    temperature: float,
    words: NDArray[np.uint64],
    scores: NDArray[np.float64],
    bounds: NDArray[np.float64],
) -> None:
    """Each token's score without noise, and the most it can be with it.

    v ≥ 2^(e − 32) with e the exponent of bits + ½, and −log(1 − v) ≥ v, so the noise is at most (32 − e) ln 2.
    """
    for i in range(part.size):
        scores[i] = (np.float64(part[i]) - peak) / temperature
        bits_and_half = np.int64(words[i] | _TWO_52).view(np.float64) - (2.0**52 - 0.5)
        e = (np.float64(bits_and_half).view(np.int64) >> 52) - 1023
        bounds[i] = scores[i] + ((32 - e) * LN2 + 1e-9)


@_compiled
def _reaching(values: NDArray[Any], least: float) -> int:
    """How many values are at least so great."""
    count = 0
    for i in range(values.size):
        count += int(np.float64(values[i]) >= least)
    return count


@_compiled
def _race(
    row: NDArray[np.float32],
    first: int,
    temperature: float,
    cut: np.float32,
    last_id: int,
    least: float,
    seed: np.uint64,
    position: np.uint64,
) -> int:
    """The id of the greatest score among the tokens above the cut, at it up to `last_id`, and not below `least`."""
    V = row.size
    peak = np.float64(row[first])
    best, best_id = gumbel(bits_of(seed, position, first)), first
    bits = np.empty((4, LANE), np.uint64)
    words = bits.reshape(4 * LANE)
    scores = np.empty(4 * LANE, np.float64)
    bounds = np.empty(4 * LANE, np.float64)
    for start in range(0, V, 4 * LANE):
        part = row[start : start + 4 * LANE]
        n = part.size
        # Below this logit the greatest noise there is does not reach the best score; the slack covers the rounding.
        needed = peak + temperature * (best - _MOST_NOISE)
        needed = max(needed - 1e-9 * (abs(peak) + temperature * 64.0), np.float64(cut))
        if _reaching(part, needed) == 0:
            continue
        fill(bits, seed, position, start >> 2)
        _bound(part, peak, temperature, words, scores, bounds)
        if _reaching(bounds[:n], best) == 0:
            continue
        for i in range(n):
            value, token = part[i], start + i
            if bounds[i] < best or scores[i] < least or value < cut or (value == cut and token > last_id):
                continue
            score = scores[i] + gumbel(words[i])
            if score > best or (score == best and token < best_id):
                best, best_id = score, token
    return best_id


def draw_row(row: NDArray[np.float32], params: SamplingParams, position: int) -> int:
    """One token of one row (V,) float32, contiguous; as `draw.draw`."""
    V = row.size
    first = int(row.argmax())
    cut, last_id = np.float32(-np.inf), V
    if params.filters(V):
        cut, last_id = _cut(row, float(row[first]), params)
    least = math.log(params.min_p) if params.min_p else -math.inf
    seed, at = np.uint64(params.seed % 2**64), np.uint64(position % 2**64)
    return int(_race(row, first, params.temperature, cut, last_id, least, seed, at))


def _cut(row: NDArray[np.float32], peak: float, params: SamplingParams) -> tuple[np.float32, int]:
    """Where top-k and top-p end in the ranking: the last logit kept, and the last id kept of those equal to it."""
    V, T = row.size, params.temperature
    if 0 < params.top_k < V:
        kth = np.partition(row, V - params.top_k)[V - params.top_k]
        above = row[row > kth]
        # The values of the first k, falling; what was partitioned is in no order among its equals, but they are equal.
        kept = np.concatenate([np.sort(above)[::-1], np.full(params.top_k - above.size, kth)])
        if params.top_p < 1:
            weights = masses(kept, peak, T)
            kept = kept[: _reach(weights, 0, params.top_p * float(weights.sum()))]
    elif params.top_p < 1:
        deepest = max((float(row.min()) - peak) / T, DEEPEST)
        weights, buckets = _weigh(row, peak, T, (_BUCKETS - 1) / -deepest if deepest < -1e-9 else 0.0)
        sums = _gather(weights, buckets)
        target = params.top_p * float(sums.sum())
        last = _reach(sums, 0, target) - 1
        kept = np.sort(row[buckets == last])[::-1]  # of the last bucket only: it holds all that equals the last kept
        kept = kept[: _reach(masses(kept, peak, T), int(sums[:last].sum()), target)]
    else:
        return np.float32(-np.inf), V
    ties = int((kept == kept[-1]).sum())
    return kept[-1], int(np.flatnonzero(row == kept[-1])[ties - 1])


def _reach(weights: NDArray[np.int64], before: int, target: float) -> int:
    """How many weights, the first at least, it takes for `before` and their sum to reach the target."""
    return min(1 + int(((before + weights.cumsum()).astype(np.float64) < target).sum()), weights.size)
