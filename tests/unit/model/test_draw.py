"""The filters and the draw: both implementations against an oracle written from the definitions, and each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import draw, draw_cpu
from model.noise import bits_at
from model.sampling import SamplingParams

Row = NDArray[np.float32]
Drawer = Callable[[Row, SamplingParams, Sequence[int]], list[int]]  # one draw of the row at each position


def by_torch(row: Row, params: SamplingParams, positions: Sequence[int]) -> list[int]:
    return draw.draw(torch.from_numpy(row).repeat(len(positions), 1), [params] * len(positions), positions)


def by_numba(row: Row, params: SamplingParams, positions: Sequence[int]) -> list[int]:
    return [draw_cpu.draw_row(row, params, position) for position in positions]


DRAWERS: dict[str, Drawer] = {"torch": by_torch, "cpu": by_numba}


def kept(row: Row, params: SamplingParams) -> list[int]:
    """The ids the filters leave, best first: a full sort and the three definitions, one after the other."""
    ids = sorted(range(len(row)), key=lambda i: (-row[i], i))
    x = row.astype(np.float64)[ids] / params.temperature
    p = np.exp(x - x[0])
    if params.top_k:
        ids, p = ids[: params.top_k], p[: params.top_k]
    if params.top_p < 1:
        mass = np.cumsum(p / p.sum())
        n = int(np.argmax(mass >= params.top_p)) + 1
        ids, p = ids[:n], p[:n]
    return [i for i, w in zip(ids, p, strict=True) if w >= params.min_p * p[0]]


def oracle(row: Row, params: SamplingParams, position: int) -> int:
    """Gumbel-max over what is kept."""
    ids = kept(row, params)
    seed = torch.tensor([draw.as_int64(params.seed)])
    bits = bits_at(seed, torch.tensor([draw.as_int64(position)]), torch.tensor([ids]))[0].numpy()
    noise = -np.log(-np.log1p(-(bits + 0.5) / 2**32))
    return ids[int(np.argmax(row[ids].astype(np.float64) / params.temperature + noise))]


def gaussian(V: int, seed: int, scale: float = 3.0) -> Row:
    return (np.random.default_rng(seed).standard_normal(V) * scale).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small rows only: waking threads for them takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


FILTERS = [
    SamplingParams(),
    SamplingParams(temperature=0.6),
    SamplingParams(top_k=1),
    SamplingParams(top_k=20),
    SamplingParams(top_k=10**9),
    SamplingParams(top_p=0.9),
    SamplingParams(top_p=0.3, temperature=2.0),
    SamplingParams(top_p=1e-9),
    SamplingParams(top_p=0.0),
    SamplingParams(min_p=0.05),
    SamplingParams(min_p=1.0),
    SamplingParams(top_k=30, top_p=0.8, min_p=0.02, temperature=1.3),
    SamplingParams(top_k=300, top_p=0.999),
]


@pytest.mark.parametrize("drawer", DRAWERS.values(), ids=DRAWERS)
@pytest.mark.parametrize("params", FILTERS, ids=repr)
def test_each_filter_draws_what_the_oracle_draws(params: SamplingParams, drawer: Drawer) -> None:
    for V in (1, 3, 300, 2500):
        row = gaussian(V, seed=V)
        positions = [*range(25), 10**9, 2**32 + 1, 2**63 + 5]
        assert drawer(row, params, positions) == [oracle(row, params, position) for position in positions]


@pytest.mark.parametrize("params", FILTERS, ids=repr)
@pytest.mark.parametrize("scale", [0.01, 3.0], ids=["flat", "peaked"])
def test_both_draw_the_same_from_a_real_vocabulary(params: SamplingParams, scale: float) -> None:
    row = gaussian(49152, 5, scale)
    assert by_torch(row, params, range(2)) == by_numba(row, params, range(2))


def from_probabilities(*p: float) -> Row:
    return np.array([math.log(x) for x in p], np.float32)


# Each case is one where another order of the filters, or of the temperature, keeps other tokens.
ORDERS = {
    "top-p of what top-k leaves": (from_probabilities(0.4, 0.3, 0.2, 0.1), SamplingParams(top_k=2, top_p=0.55), {0}),
    "min-p after top-p": (
        from_probabilities(0.5, 0.2, 0.2, 0.1),
        SamplingParams(top_p=0.75, min_p=0.3),
        {0, 1, 2},
    ),
    "temperature before top-p": (
        from_probabilities(0.7, 0.2, 0.1),
        SamplingParams(temperature=4.0, top_p=0.65),
        {0, 1},
    ),
    "temperature before min-p": (
        from_probabilities(0.7, 0.2, 0.1),
        SamplingParams(temperature=4.0, min_p=0.65),
        {0, 1},
    ),
    "top-p includes the token that reaches it": (from_probabilities(0.5, 0.3, 0.2), SamplingParams(top_p=0.6), {0, 1}),
    "top-k of ties: the lower ids": (from_probabilities(0.2, 0.2, 0.2, 0.4), SamplingParams(top_k=3), {0, 1, 3}),
    "top-p of ties: the lower ids": (from_probabilities(0.2, 0.2, 0.2, 0.4), SamplingParams(top_p=0.7), {0, 1, 3}),
    "top-p among near equals": (
        np.array([-0.0005 * i for i in range(20)] + [-30.0], np.float32),
        SamplingParams(top_p=0.3),
        set(range(6)),
    ),
    "min-p 1 keeps the best and its equals": (from_probabilities(0.4, 0.2, 0.4), SamplingParams(min_p=1.0), {0, 2}),
}


@pytest.mark.parametrize("drawer", DRAWERS.values(), ids=DRAWERS)
@pytest.mark.parametrize(("row", "params", "expected"), ORDERS.values(), ids=ORDERS)
def test_exactly_the_tokens_of_the_definition_occur(
    row: Row, params: SamplingParams, expected: set[int], drawer: Drawer
) -> None:
    assert set(drawer(row, params, range(200))) == expected


@pytest.mark.parametrize("drawer", DRAWERS.values(), ids=DRAWERS)
def test_a_nucleus_wider_than_the_first_look_and_cut_inside_a_long_tie(drawer: Drawer) -> None:
    row = np.zeros(5000, np.float32)
    row[4000:] = 1.0  # 1,000 at e, 4,000 at 1: the first 0.45 of the mass end inside the second group
    p = SamplingParams(top_p=0.45)
    last = max(i for i in kept(row, p) if i < 4000)
    assert 100 < last < 1000
    drawn = set(drawer(row, p, range(150)))
    assert max(i for i in drawn if i < 4000) <= last
    assert min(drawn) < last < 4000 < max(drawn)


@pytest.mark.parametrize("drawer", DRAWERS.values(), ids=DRAWERS)
@pytest.mark.parametrize("params", FILTERS, ids=repr)
def test_minus_infinity_is_never_drawn(params: SamplingParams, drawer: Drawer) -> None:
    row = np.full(600, -np.inf, np.float32)
    row[431] = -7.0
    assert set(drawer(row, params, range(5))) == {431}
    row[::7] = 1.0
    assert (row[drawer(row, params, range(40))] > -np.inf).all()


@pytest.mark.parametrize("drawer", DRAWERS.values(), ids=DRAWERS)
def test_extreme_temperatures_and_logits(drawer: Drawer) -> None:
    row = gaussian(500, 3)
    best = int(row.argmax())
    for cold in (1e-6, 5e-324):
        assert set(drawer(row, SamplingParams(temperature=cold), range(50))) == {best}
    hot = drawer(row, SamplingParams(temperature=1e308), range(300))
    assert len(set(hot)) > 150  # all but uniform: 226 of 500 are expected
    assert hot == drawer(np.zeros(500, np.float32), SamplingParams(), range(300))
    huge = np.array([-3.4e38, 3.4e38, 3.3e38], np.float32)
    assert drawer(huge, SamplingParams(top_p=0.9), [1]) == [1]
    assert drawer(huge, SamplingParams(temperature=1e-3), [1]) == [1]


parameters = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 20),
    top_k=st.integers(0, 60),
    top_p=st.one_of(st.just(1.0), st.floats(0, 1)),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1)),
    seed=st.integers(-(2**63), 2**64 - 1),
)
logits = st.lists(
    st.one_of(st.integers(-4, 4).map(float), st.floats(-30, 30, width=32), st.just(-math.inf)), min_size=1, max_size=50
).filter(lambda row: max(row) > -math.inf)


@settings(derandomize=True, max_examples=250)
@given(logits, parameters, st.integers(0, 2**64 - 1))
def test_both_draw_the_same_and_never_what_a_filter_took(x: list[float], params: SamplingParams, position: int) -> None:
    row = np.array(x, np.float32)
    (token,) = by_torch(row, params, [position])
    assert by_numba(row, params, [position]) == [token]
    # Half a unit in 10⁹ beside the parameters: the oracle's sums are not exact, ours are to 2⁻⁴⁴.
    slack = SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=min(1.0, params.top_p + 1e-9) if params.top_p < 1 else 1.0,
        min_p=max(0.0, params.min_p - 1e-9),
    )
    assert token in kept(row, slack)


def test_rows_of_a_batch_do_not_know_of_each_other() -> None:
    rows = torch.from_numpy(np.stack([gaussian(700, r, 0.5 + r) for r in range(len(FILTERS))]))
    positions = [3**r for r in range(len(FILTERS))]
    together = draw.draw(rows, FILTERS, positions)
    alone = [draw.draw(rows[r : r + 1], [FILTERS[r]], [positions[r]])[0] for r in range(len(FILTERS))]
    assert together == alone
    assert together[::-1] == draw.draw(rows.flip(0), FILTERS[::-1], positions[::-1])
