"""SVD-clean against `numpy.linalg.svd`, and against every other matrix of its rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.infini import sigma
from model.svd_clean import Cleaned, CleanError, Cut, clean, effective_rank, singular_values


def matrix(seed: int, keys: int = 12, values: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """A memory that 40 positive keys were written to: M (K, V), z (K,)."""
    g = torch.Generator().manual_seed(seed)
    k, v = sigma(torch.randn(40, keys, generator=g)), torch.randn(40, values, generator=g)
    return k.T @ v, k.sum(0)


def svd(M: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    U, s, Vh = np.linalg.svd(M.double().numpy(), full_matrices=False)
    return U, s, Vh


cuts = st.builds(
    Cut,
    energy_threshold=st.floats(0.05, 1.0),
    max_rank=st.none() | st.integers(1, 12),
    drop_top=st.integers(0, 10),
)


@given(seed=st.integers(0, 50), cut=cuts)
def test_what_stays_is_what_numpy_says(seed: int, cut: Cut) -> None:
    M, z = matrix(seed)
    got = clean(M, z, cut)
    U, s, Vh = svd(M)
    first = min(cut.drop_top, 8)
    rank = next(
        (
            r
            for r in range(1, 9 - first)
            if (s[first : first + r] ** 2).sum() >= cut.energy_threshold * (s[first:] ** 2).sum() - 1e-9
        ),
        8 - first,
    )
    rank = min(rank, cut.max_rank or 8)
    kept = slice(first, first + rank)
    assert (got.rank_before, got.rank) == (8, rank)
    np.testing.assert_allclose(got.singular_values.numpy(), s, rtol=1e-9)
    np.testing.assert_allclose(got.M.numpy(), (U[:, kept] * s[kept]) @ Vh[kept], atol=1e-4)
    assert got.energy == pytest.approx((s[kept] ** 2).sum() / (s**2).sum(), abs=1e-9)
    assert got.z is not None
    projected = U[:, kept] @ (U[:, kept].T @ z.double().numpy())
    np.testing.assert_allclose(got.z.numpy(), np.maximum(projected, 0.0), atol=1e-3)


@given(seed=st.integers(0, 50), rank=st.integers(1, 7), rival=st.integers(0, 50))
def test_no_matrix_of_that_rank_is_nearer(seed: int, rank: int, rival: int) -> None:
    """Eckart and Young: the distance is what the dropped singular values make, and a random rival of that rank, even
    at its best scale, is farther."""
    M, z = matrix(seed)
    got = clean(M, z, Cut(energy_threshold=1.0, max_rank=rank))
    distance = torch.linalg.norm(M - got.M).item()
    s = singular_values(M)
    assert distance == pytest.approx(s[rank:].square().sum().sqrt().item(), rel=1e-3)
    g = torch.Generator().manual_seed(1000 + rival)
    near = got.M + 0.01 * torch.randn(12, rank, generator=g) @ torch.randn(rank, 8, generator=g)
    U, t, Vh = torch.linalg.svd(near, full_matrices=False)
    other = (U[:, :rank] * t[:rank]) @ Vh[:rank]
    other = other * ((M * other).sum() / other.square().sum())
    assert torch.linalg.norm(M - other).item() >= distance * (1 - 1e-6)


def test_cleaning_twice_changes_nothing_more() -> None:
    M, z = matrix(3)
    once = clean(M, z, Cut(max_rank=4, energy_threshold=1.0))
    again = clean(once.M, once.z, Cut(max_rank=4, energy_threshold=1.0))
    torch.testing.assert_close(again.M, once.M, rtol=1e-4, atol=1e-4)
    assert again.rank_before == again.rank == 4
    assert again.energy == pytest.approx(1.0)


def test_the_same_cut_can_be_made_again_of_a_matrix_that_was_rounded_otherwise() -> None:
    M, z = matrix(5)
    first = clean(M, z, Cut(0.6))
    again = clean(M * (1 + 1e-6), z, first.kept)
    assert again.kept == first.kept == (0, first.rank)
    torch.testing.assert_close(again.M, first.M, rtol=1e-4, atol=1e-4)


def test_everything_stays_at_threshold_one() -> None:
    M, z = matrix(4)
    got = clean(M, z, Cut(energy_threshold=1.0))
    torch.testing.assert_close(got.M, M, rtol=1e-5, atol=1e-4)
    assert got.z is not None
    assert got.rank == 8
    # z lies in the key-side space only as far as the eight kept directions of twelve reach.
    assert torch.linalg.norm(got.z) <= torch.linalg.norm(z) * (1 + 1e-5)


def test_what_was_told_last_is_read_better_without_the_top_component() -> None:
    """The docstring's test: filler fills the top directions. 512 pairs, D = 64."""
    g = torch.Generator().manual_seed(0)
    k, v = sigma(torch.randn(512, 64, generator=g)), torch.randn(512, 64, generator=g)
    M, z = k.T @ v, k.sum(0)

    def cosine(got: Cleaned | None) -> float:
        m, n = (M, z) if got is None else (got.M, got.z)
        assert n is not None
        read = (k @ m) / (k @ n).clamp(min=1e-6).unsqueeze(-1)
        return float(torch.nn.functional.cosine_similarity(read, v, dim=-1).mean())

    raw, cut = cosine(None), cosine(clean(M, z, Cut(0.95)))
    dropped = cosine(clean(M, z, Cut(1.0, drop_top=1)))
    assert cut <= raw < 0.15
    assert dropped > 2 * raw


def test_an_empty_memory_stays_empty() -> None:
    got = clean(torch.zeros(6, 4), torch.zeros(6), Cut())
    assert (got.rank_before, got.rank, got.energy) == (0, 0, 1.0)
    assert not got.M.any()
    assert got.z is not None
    assert not got.z.any()
    assert effective_rank(got.singular_values) == 0.0


def test_one_direction_has_effective_rank_one_and_equal_ones_their_number() -> None:
    assert effective_rank(singular_values(torch.outer(torch.ones(5), torch.arange(1.0, 4.0)))) == pytest.approx(1.0)
    assert effective_rank(singular_values(torch.eye(5))) == pytest.approx(5.0)


@pytest.mark.parametrize(
    "wrong", [{"energy_threshold": 0.0}, {"energy_threshold": 1.5}, {"max_rank": 0}, {"drop_top": -1}]
)
def test_a_cut_that_makes_no_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(CleanError, match=next(iter(wrong))):
        Cut(**wrong)  # type: ignore[arg-type]  # the point of it
