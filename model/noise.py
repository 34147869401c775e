"""What chance is made of here: counter-based noise and exact weights, the same bits on every device.

    noise(seed, position, token) = −log(−log(1 − v)),   v = (bits + ½) / 2³²            a Gumbel variate
    bits = a word of Philox4x32-10 with the counter (block, position low, position high, 0) and the key (seed low, high)

A block has four words. 256 blocks make the noise of 1,024 tokens: the first words that of the first 256 tokens, the
second words that of the next 256, and so on, which keeps a vector unit on consecutive memory.

Philox4x32-10 is from Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11); it passes
BigCrush, and its published test vectors are in the tests. The noise is a function of its three numbers only: no
generator has a state, so neither a batch, a row's place in it, a restart nor another worker can change a draw.

`log` and `mass` use nothing but IEEE additions, products, quotients and integer operations, in a fixed order. A
library's logarithm differs in its last bit between machines and devices; these do not, so a token does not either.
`model/draw_cpu.py` holds the same functions compiled, and a test that holds them together.

Resolution: v has 32 bits, so the noise ends at log 2³³ ≈ 22.9, and a token's probability is met to about 1e-10.

It knows nothing of logits, parameters or text.
"""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
LANE = 256  # tokens that share a word number, in a row
ROUND_A, ROUND_B = 0xD2511F53, 0xCD9E8D57  # Philox's multipliers
WEYL_A, WEYL_B = 0x9E3779B9, 0xBB67AE85  # and what its key grows by in each of the ten rounds

LN2 = 0.6931471805599453
LN2_HIGH = 0.6931471803691238  # the first 32 bits of ln 2: k · LN2_HIGH is exact for the k that occur
LN2_LOW = 1.9082149292705877e-10
LOG2_E = 1.4426950408889634
SQRT_HALF = 0.7071067811865476
# atanh(s)/s = Σ s²ⁿ/(2n+1), to s = 0.172: the first term left out is below 1e-17.
ATANH = tuple(1.0 / (2 * n + 1) for n in range(11))
# exp(r) = Σ rⁿ/n!, to |r| = 0.347: the first term left out is below 1e-17.
EXP = (
    1.0,
    1.0,
    1 / 2,
    1 / 6,
    1 / 24,
    1 / 120,
    1 / 720,
    1 / 5040,
    1 / 40320,
    1 / 362880,
    1 / 3628800,
    1 / 39916800,
    1 / 479001600,
    1 / 6227020800,
)
MASS_BITS = 44
MASS_ONE = 1 << MASS_BITS
DEEPEST = -40.0  # e⁻⁴⁰ is far below half a unit of mass


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four words of output for four words of counter and two of key, all int64 in 0 … 2³²−1."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        p, q = a * ROUND_A, c * ROUND_B  # 64-bit products; the sign bit is only a bit
        a, b, c, d = (q >> 32) & WORD ^ b ^ k0, q & WORD, (p >> 32) & WORD ^ d ^ k1, p & WORD
        k0, k1 = (k0 + WEYL_A) & WORD, (k1 + WEYL_B) & WORD
    return a, b, c, d


def _words(seeds: Tensor, positions: Tensor, blocks: Tensor) -> Tensor:
    """The four words of each block: seeds, positions (R,), blocks (R, n) or (n,) int64 → (R, 4, n) int64."""
    seed, position = seeds[:, None], positions[:, None]
    blocks = blocks.expand(len(seeds), -1)
    counter = (blocks, position & WORD, (position >> 32) & WORD, torch.zeros_like(blocks))
    return torch.stack(philox(counter, (seed & WORD, (seed >> 32) & WORD)), dim=1)  # (R, 4, n)


def bits_at(seeds: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """32 random bits for each token: seeds, positions (R,), tokens (R, K), int64 → (R, K) int64 in 0 … 2³²−1."""
    words = _words(seeds, positions, tokens // (4 * LANE) * LANE + tokens % LANE)  # (R, 4, K)
    return words.gather(1, (tokens // LANE % 4)[:, None])[:, 0]


def bits_of_all(seeds: Tensor, positions: Tensor, V: int) -> Tensor:
    """32 random bits for every token of the vocabulary: seeds, positions (R,) int64 → (R, V) int64."""
    chunks = -(-V // (4 * LANE))
    words = _words(seeds, positions, torch.arange(chunks * LANE, device=seeds.device))  # (R, 4, chunks · 256)
    return words.view(-1, 4, chunks, LANE).transpose(1, 2).flatten(1)[:, :V]


def log(x: Tensor) -> Tensor:
    """Natural logarithm of normal positive float64, to about 1e-16 relative, the same bits on every device.

    x = m · 2ᵉ with m in [√½, √2); log m = 2 atanh((m − 1)/(m + 1)). Where x is near 1, e is 0 and nothing cancels.
    """
    m, e = torch.frexp(x)  # m in [½, 1)
    low = m < SQRT_HALF
    m = torch.where(low, m * 2.0, m)
    e = torch.where(low, e - 1, e).to(torch.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = torch.full_like(z, ATANH[-1])
    for coefficient in reversed(ATANH[:-1]):
        series = series * z + coefficient
    return e * LN2_HIGH + (2.0 * s * series + e * LN2_LOW)


def gumbel(bits: Tensor) -> Tensor:
    """Gumbel variates (float64, −3.2 … 22.9) of 32 random bits each (int64): few leading bits set, great noise."""
    v = (bits.to(torch.float64) + 0.5) * 2.0**-32
    return -log(-log(1.0 - v))


def mass(d: Tensor) -> Tensor:
    """Weights exp(d), d ≤ 0 in float64, as int64 in units of 2⁻⁴⁴ of the greatest, truncated.

    Integers, because their sum is the same in whatever order it is taken: a nucleus cannot depend on how a device
    reduces. The sum of 2¹⁸ of them fits.
    """
    d = d.clamp(min=DEEPEST)
    k = torch.round(d * LOG2_E)
    r = (d - k * LN2_HIGH) - k * LN2_LOW
    series = torch.full_like(r, EXP[-1])
    for coefficient in reversed(EXP[:-1]):
        series = series * r + coefficient
    return torch.round(series * MASS_ONE).to(torch.int64) >> (-k).to(torch.int64)
