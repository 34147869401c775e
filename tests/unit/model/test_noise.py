"""The noise: Philox against its published vectors, its functions against their definitions, and its statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model import draw_cpu, noise

SEEDS = [0, 1, -1, 2**63 - 1, -(2**63), 0x0123456789ABCDEF]
POSITIONS = [0, 1, 10**9, 2**32 - 1, 2**32, 2**40 + 3]


def column(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# Random123's kat_vectors: counter, key, output of philox4x32 with 10 rounds.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "output"), VECTORS)
def test_philox_gives_its_published_vectors(counter: str, key: str, output: str) -> None:
    words = [[torch.tensor([int(w, 16)]) for w in text.split()] for text in (counter, key)]
    a, b, c, d = words[0]
    got = noise.philox((a, b, c, d), (words[1][0], words[1][1]))
    assert [f"{int(w):08x}" for w in got] == output.split()


def test_the_bits_of_a_token_are_the_documented_word_of_the_documented_block() -> None:
    seed, position = 0x0123456789ABCDEF, 5 * 2**32 + 7
    for token in (0, 255, 256, 1023, 1024, 49151):
        block, word = token // 1024 * 256 + token % 256, token // 256 % 4
        counter = [torch.tensor([n]) for n in (block, 7, 5, 0)]
        key = torch.tensor([0x89ABCDEF]), torch.tensor([0x01234567])
        expected = noise.philox((counter[0], counter[1], counter[2], counter[3]), key)[word]
        assert noise.bits_at(column([seed]), column([position]), column([token])[None])[0, 0] == expected


@pytest.mark.parametrize("V", [1, 255, 256, 1024, 1025, 5000])
def test_bits_agree_however_they_are_asked_for(V: int) -> None:
    seeds, positions = column(SEEDS), column(POSITIONS)
    whole = noise.bits_of_all(seeds, positions, V)
    assert whole.shape == (len(SEEDS), V)
    assert torch.equal(whole, noise.bits_at(seeds, positions, torch.arange(V).expand(len(SEEDS), V)))
    for r, (seed, position) in enumerate(zip(SEEDS, POSITIONS, strict=True)):
        words = np.uint64(seed % 2**64), np.uint64(position)
        assert [int(draw_cpu.bits_of(*words, t)) for t in range(0, V, 97)] == whole[r, ::97].tolist()
        chunk = np.empty((4, noise.LANE), np.uint64)
        draw_cpu.fill(chunk, *words, 0)
        n = min(V, 1024)
        assert chunk.reshape(-1)[:n].tolist() == whole[r, :n].tolist()


def test_every_bit_of_seed_and_position_counts() -> None:
    token = torch.zeros(64, 1, dtype=torch.int64)
    flips = column([(1 << i) - (1 << 64 if i == 63 else 0) for i in range(64)])
    base = int(noise.bits_at(column([0]), column([0]), token[:1]))
    for seeds, positions in ((flips, torch.zeros_like(flips)), (torch.zeros_like(flips), flips)):
        bits = noise.bits_at(seeds, positions, token)[:, 0].tolist()
        assert len({base, *bits}) == 65
        changed = [(bit ^ base).bit_count() for bit in bits]
        assert 14 < np.mean(changed) < 18  # half of 32: one flipped bit of input turns over half the output


def test_logarithm_is_right_to_the_last_places_and_the_same_compiled() -> None:
    x = np.concatenate([np.geomspace(1e-300, 1e300, 2000), 1 - np.geomspace(2.0**-33, 0.4, 500), [1.0]])
    got = noise.log(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, np.log(x), rtol=4e-16, atol=0)
    assert [draw_cpu.log(v) for v in x.tolist()] == got.tolist()


def test_gumbel_is_its_definition_and_the_same_compiled() -> None:
    bits = np.concatenate(
        [np.arange(50), np.geomspace(64, 2**32 - 100, 500).astype(np.int64), 2**32 - 1 - np.arange(50)]
    )
    got = noise.gumbel(torch.from_numpy(bits)).numpy()
    expected = -np.log(-np.log1p(-(bits + 0.5) / 2.0**32))
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15)
    assert [draw_cpu.gumbel(np.uint64(b)) for b in bits.tolist()] == got.tolist()
    assert got.max() <= 33 * math.log(2)  # what the race prunes by


def test_no_noise_exceeds_the_bound_the_race_prunes_by() -> None:
    for leading in range(32):  # the greatest noise of all words with this many leading zeros
        least = 1 << (31 - leading)
        assert draw_cpu.gumbel(np.uint64(least)) <= (leading + 1) * noise.LN2 + 1e-9
    assert draw_cpu.gumbel(np.uint64(0)) <= 33 * noise.LN2 + 1e-9


def test_mass_is_the_exponential_in_units_and_the_same_compiled() -> None:
    d = -np.concatenate([[0.0], np.geomspace(1e-18, 30, 3000), [31.0, 40.0, 1e9, math.inf]])
    got = noise.mass(torch.from_numpy(d)).numpy()
    assert got[0] == noise.MASS_ONE
    np.testing.assert_allclose(got / noise.MASS_ONE, np.exp(d), rtol=0, atol=1.5 / noise.MASS_ONE)
    values = d.astype(np.float32)
    heated = torch.from_numpy(values.astype(np.float64) / 0.7)
    assert draw_cpu.masses(values, 0.0, 0.7).tolist() == noise.mass(heated).tolist()
    assert draw_cpu.total_mass(values, 0.0, 0.7) == int(noise.mass(heated).sum())


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """Standard deviations between the chi-square statistic and its mean (Wilson and Hilferty's cube root)."""
    df = counts.size - 1
    ratio = (((counts - expected) ** 2 / expected).sum() / df) ** (1 / 3)
    return float((ratio - (1 - 2 / (9 * df))) / math.sqrt(2 / (9 * df)))


AXES = {
    "tokens": lambda n: (column([7]), column([3]), torch.arange(n)[None]),
    "positions": lambda n: (torch.full((n,), 7), torch.arange(n), torch.full((n, 1), 11)),
    "seeds": lambda n: (torch.arange(n), torch.full((n,), 3), torch.full((n, 1), 11)),
}


@pytest.mark.parametrize("axis", AXES)
def test_noise_is_uniform_and_uncorrelated_along_each_axis(axis: str) -> None:
    n = 1 << 16
    bits = noise.bits_at(*AXES[axis](n)).flatten().numpy()
    for shift in (0, 8, 16, 24):
        counts = np.bincount(bits >> shift & 255, minlength=256)
        assert abs(chi_square(counts, np.full(256, n / 256))) < 4
    ones = np.array([(bits >> i & 1).sum() for i in range(32)])
    assert (np.abs(ones - n / 2) < 4.5 * math.sqrt(n) / 2).all()
    u = (bits + 0.5) / 2**32 - 0.5
    for lag in (1, 2, 3, 4, 255, 256, 1024):
        r = (u[:-lag] * u[lag:]).mean() * 12
        assert abs(r) < 4.5 / math.sqrt(n - lag), lag
    pairs = np.bincount((bits[:-1] >> 28) * 16 + (bits[1:] >> 28), minlength=256)
    assert abs(chi_square(pairs, np.full(256, (n - 1) / 256))) < 4


def test_noise_of_different_seeds_and_positions_is_independent() -> None:
    n = 1 << 14
    rows = noise.bits_of_all(column([5, 6, 5, 5, 5]), column([9, 9, 10, 2**32 + 9, 9 * 2**32]), n)
    r = np.corrcoef(rows.numpy().astype(np.float64)) - np.eye(5)
    assert np.abs(r).max() < 4.5 / math.sqrt(n)


def test_gumbel_variates_follow_their_distribution() -> None:
    n = 1 << 16
    g = np.sort(noise.gumbel(noise.bits_of_all(column([42]), column([1]), n))[0].numpy())
    assert abs(g.mean() - 0.5772156649) < 4 * math.pi / math.sqrt(6 * n)
    distance = np.abs(np.exp(-np.exp(-g)) - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov's bound at 0.1 %
