"""Sampling as its callers see it: parameters, penalties, order, log probabilities, errors, statistics, rows apart."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.sampling import History, LogitsError, Sampled, SamplingParams, draw_seed, fold_seed, sample

GREEDY = SamplingParams(temperature=0)


def gaussian(B: int, V: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(B, V, generator=torch.Generator().manual_seed(seed)) * scale


def one(logits: list[float], params: SamplingParams, position: int = 0, history: History | None = None) -> Sampled:
    return sample(torch.tensor([logits]), [params], [position], [history or History([])])[0]


def many(logits: list[float], params: SamplingParams, count: int, history: History | None = None) -> list[int]:
    """Tokens drawn from the same logits at `count` positions."""
    rows = torch.tensor([logits]).repeat(count, 1)
    drawn = sample(rows, [params] * count, range(count), [history or History([])] * count)
    return [s.token for s in drawn]


def test_parameters_out_of_range_are_named() -> None:
    bad: dict[str, list[Any]] = {
        "temperature": [-0.1, math.nan, math.inf, 10**400],
        "top_k": [-1],
        "top_p": [-0.01, 1.01, math.nan],
        "min_p": [-0.01, 1.01, math.nan],
        "repetition_penalty": [0, -1, math.nan, math.inf],
        "presence_penalty": [-2.1, 2.1, math.nan],
        "frequency_penalty": [-2.1, 2.1, math.nan],
        "logit_bias": [{-1: 1.0}, {3: math.nan}, {3: math.inf}, {2**31: 0.0}],
        "banned": [{-1}],
        "seed": [2**64, -(2**63) - 1],
        "logprobs": [-1, 21],
    }
    for name, values in bad.items():
        for value in values:
            with pytest.raises(ValueError, match=f"^{name}"):
                SamplingParams(**{name: value})


def test_parameters_at_the_ends_of_their_ranges_are_taken() -> None:
    SamplingParams(0.0, 0, 0.0, 0.0, 0.01, -2, -2, {0: -1e300}, -(2**63), 0, frozenset({0}))
    SamplingParams(1e308, 2**63 - 1, 1.0, 1.0, 100, 2, 2, {2**31 - 1: 1e300}, 2**64 - 1, 20)


def test_parameters_are_hashable_and_keep_their_own_copy_of_the_bias() -> None:
    bias = {3: 1.0}
    params = SamplingParams(logit_bias=bias)
    bias[4] = 2.0
    assert params.logit_bias == {3: 1.0}
    assert hash(params) == hash(SamplingParams(logit_bias={3: 1.0}))


def test_greedy_takes_the_greatest_and_of_equals_the_lowest_id() -> None:
    assert one([1.0, 3.0, 3.0, 2.0], GREEDY).token == 1
    assert one([0.0] * 100, GREEDY).token == 0
    logits = gaussian(20, 49152)
    drawn = sample(logits, [GREEDY] * 20, range(20), [History([])] * 20)
    assert [s.token for s in drawn] == [row.tolist().index(max(row.tolist())) for row in logits]


# Greedy between token 0, which is adjusted to `expected`, and token 1 just below or just above that: a penalty or a
# bias missed, counted twice or applied in another order is off by far more.
ADJUSTED: dict[str, tuple[float, dict[str, Any], list[int], list[int], float]] = {
    "repetition divides what is positive": (3.0, {"repetition_penalty": 1.5}, [0], [], 2.0),
    "repetition multiplies what is negative": (-1.0, {"repetition_penalty": 1.5}, [0], [], -1.5),
    "repetition counts once for prompt and generated": (3.0, {"repetition_penalty": 1.5}, [0, 0], [0, 0], 2.0),
    "repetition counts what was generated": (3.0, {"repetition_penalty": 1.5}, [], [0], 2.0),
    "repetition below 1 encourages": (3.0, {"repetition_penalty": 0.5}, [0], [], 6.0),
    "presence counts once": (2.0, {"presence_penalty": 0.5}, [], [0, 0, 0], 1.5),
    "presence does not count the prompt": (2.0, {"presence_penalty": 0.5}, [0, 0], [], 2.0),
    "presence may be negative": (2.0, {"presence_penalty": -0.5}, [], [0], 2.5),
    "frequency counts each": (2.0, {"frequency_penalty": 0.25}, [], [0, 0, 0], 1.25),
    "frequency does not count the prompt": (2.0, {"frequency_penalty": 0.25}, [0, 0], [0], 1.75),
    "repetition comes before the others": (
        3.0,
        {"repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": 0.25},
        [],
        [0, 0],
        1.0,
    ),
    "bias is added": (1.0, {"logit_bias": {0: 1.5}}, [], [], 2.5),
    "bias comes before repetition": (1.0, {"logit_bias": {0: 1.0}, "repetition_penalty": 2.0}, [0], [], 1.0),
    "nothing counts for what was not met": (2.0, {"repetition_penalty": 2.0, "presence_penalty": 1}, [2], [2], 2.0),
}


@pytest.mark.parametrize(("logit", "fields", "prompt", "generated", "expected"), ADJUSTED.values(), ids=ADJUSTED)
def test_penalties_and_bias(
    logit: float, fields: dict[str, Any], prompt: list[int], generated: list[int], expected: float
) -> None:
    history = History(prompt)
    for token in generated:
        history.push(token)
    params = SamplingParams(temperature=0, **fields)
    assert one([logit, expected - 0.01, -50.0], params, history=history).token == 0
    assert one([logit, expected + 0.01, -50.0], params, history=history).token == 1


def test_a_history_built_again_from_the_log_is_the_same() -> None:
    rng = np.random.default_rng(1)
    prompt, generated = rng.integers(0, 300, 200).tolist(), rng.integers(0, 400, 900).tolist()
    history = History(iter(prompt))
    for token in generated:
        history.push(token)
    counted = dict(zip(history.ids.tolist(), history.counts.tolist(), strict=True))
    assert counted == {token: generated.count(token) for token in {*prompt, *generated}}
    assert len(history.ids) == len(counted)


def test_a_bias_past_every_float_makes_certain_or_impossible_and_never_nan() -> None:
    assert one([0.0, 5.0], SamplingParams(logit_bias={0: 1e300})).token == 0
    assert set(many([0.0, 5.0], SamplingParams(logit_bias={1: -1e300}), 50)) == {0}
    assert one([3e38, 0.0], SamplingParams(repetition_penalty=0.01, temperature=0), history=History([0])).token == 0


def test_banned_tokens_stay_banned_against_any_bias_and_penalty() -> None:
    params = SamplingParams(banned=frozenset({1}), logit_bias={1: 100.0}, presence_penalty=-2)
    history = History([1])
    history.push(1)
    assert set(many([0.0, 9.0, 0.0], params, 60, history)) == {0, 2}
    assert one([0.0, 9.0, 1.0], replace(params, temperature=0)).token == 2


def test_logits_and_history_are_left_as_they_were() -> None:
    logits = gaussian(2, 50)
    before, history = logits.clone(), History([1, 2])
    history.push(3)
    sample(
        logits,
        [SamplingParams(logit_bias={1: 5}, repetition_penalty=2, banned=frozenset({3}))] * 2,
        [0, 0],
        [history] * 2,
    )
    assert torch.equal(logits, before)
    assert dict(zip(history.ids.tolist(), history.counts.tolist(), strict=True)) == {1: 0, 2: 0, 3: 1}


def test_logits_of_any_layout_are_taken() -> None:
    logits = gaussian(3, 80)
    params, at, histories = [SamplingParams(logprobs=2)] * 3, [0, 1, 2], [History([])] * 3
    expected = sample(logits, params, at, histories)
    assert sample(logits.t().contiguous().t(), params, at, histories) == expected
    assert sample(torch.cat([logits, logits], 1)[:, :80], params, at, histories) == expected
    assert sample(logits.clone().requires_grad_(), params, at, histories) == expected
    assert sample(torch.zeros(0, 80), [], [], []) == []


MIXED = [
    GREEDY,
    SamplingParams(seed=1),
    SamplingParams(seed=-5, temperature=0.7, top_k=40),
    SamplingParams(seed=2**64 - 1, top_p=0.9, logprobs=3),
    SamplingParams(min_p=0.1, logit_bias={3: 2.0, 9: -1.0}, logprobs=0),
    SamplingParams(top_k=50, top_p=0.95, min_p=0.01, temperature=1.4, repetition_penalty=1.2),
    SamplingParams(temperature=0, presence_penalty=1.0, frequency_penalty=0.5, logprobs=20),
    SamplingParams(banned=frozenset({0, 1, 2}), temperature=3.0, top_p=0.999),
]


@pytest.mark.parametrize("V", [37, 49152])
def test_a_row_draws_the_same_alone_and_in_any_batch(V: int) -> None:
    B = len(MIXED)
    logits = gaussian(B, V, seed=V)
    positions = [7, 0, 10**9, 2**32, 2**32 + 1, 5, 6, 2**40]
    histories = [History(range(r, 30)) for r in range(B)]
    for r, history in enumerate(histories):
        history.push(int(logits[r].argmax()))
    together = sample(logits, MIXED, positions, histories)
    for r in range(B):
        assert sample(logits[r : r + 1], [MIXED[r]], [positions[r]], [histories[r]]) == [together[r]]
    for order in ([3, 1, 0, 2, 7, 6, 5, 4], [5, 5, 2], list(range(B))[::-1]):
        got = sample(
            logits[order], [MIXED[r] for r in order], [positions[r] for r in order], [histories[r] for r in order]
        )
        assert got == [together[r] for r in order]


def test_the_draw_depends_on_seed_and_position_and_on_all_their_bits() -> None:
    flat = [0.0] * 50_000
    seeds = [0, 1, -1, 2**32, 2**63]
    positions = [0, 1, 2**32, 10**9, 10**9 + 2**32]
    tokens = {(s, p): one(flat, SamplingParams(seed=s), p).token for s in seeds for p in positions}
    assert len(set(tokens.values())) == len(tokens)  # 25 among 50,000
    assert one(flat, SamplingParams(seed=2**64 - 1), 1).token == tokens[-1, 1]  # one seed, signed or not
    assert one(flat, SamplingParams(seed=0), 2**32).token == tokens[0, 2**32]


def probabilities(logits: list[float], params: SamplingParams, history: History) -> np.ndarray:
    """The exact distribution of the next token, from the definitions in their order."""
    x = np.array(logits)
    for token, bias in params.logit_bias.items():
        x[token] += bias
    for token, count in zip(history.ids.tolist(), history.counts.tolist(), strict=True):
        x[token] = x[token] / params.repetition_penalty if x[token] > 0 else x[token] * params.repetition_penalty
        x[token] -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
    x[list(params.banned)] = -np.inf
    p = np.exp((x - x.max()) / params.temperature)
    order = np.argsort(-p, kind="stable")
    p[order[params.top_k or len(p) :]] = 0
    before = np.cumsum(p[order] / p.sum()) - p[order] / p.sum()
    p[order[before >= params.top_p]] = 0
    p[p < params.min_p * p.max()] = 0
    return np.asarray(p / p.sum())


DISTRIBUTIONS = {
    "as it is": SamplingParams(),
    "another seed": SamplingParams(seed=0x0123456789ABCDEF),
    "cold": SamplingParams(temperature=0.5, seed=3),
    "hot": SamplingParams(temperature=3.0, seed=4),
    "top-k": SamplingParams(top_k=7, seed=5),
    "top-p": SamplingParams(top_p=0.8, seed=6),
    "min-p": SamplingParams(min_p=0.1, seed=7),
    "adjusted": SamplingParams(
        repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3, logit_bias={2: 1.0}, temperature=0.8
    ),
    "everything": SamplingParams(
        temperature=1.5,
        top_k=25,
        top_p=0.9,
        min_p=0.03,
        repetition_penalty=1.2,
        presence_penalty=-0.5,
        logit_bias={4: 0.7, 5: -0.7},
        banned=frozenset({1, 6}),
        seed=8,
    ),
}


@pytest.mark.parametrize("params", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_frequencies_over_positions_are_the_exact_probabilities(params: SamplingParams) -> None:
    logits = gaussian(1, 40, seed=11, scale=1.5)[0].tolist()
    history = History([0, 1, 2, 3])
    for token in (2, 2, 7, 8, 8, 8):
        history.push(token)
    n = 10_000
    counts = np.bincount(many(logits, params, n, history), minlength=40)
    p = probabilities(logits, params, history)
    assert counts[p == 0].sum() == 0
    rare = (p > 0) & (p * n < 10)  # pooled, so that the statistic keeps its distribution
    observed = np.append(counts[p * n >= 10], counts[rare].sum())
    expected = np.append(p[p * n >= 10], p[rare].sum()) * n
    observed, expected = observed[expected > 0], expected[expected > 0]
    df = len(observed) - 1
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic < df + 4 * math.sqrt(2 * df) + 4
    assert df >= 2


def test_draws_at_neighbouring_positions_and_seeds_are_independent() -> None:
    n = 20_000
    rows, none = torch.zeros(n, 4), [History([])] * n
    along = sample(rows, [SamplingParams(seed=9)] * n, range(n), none)
    across = sample(rows, [SamplingParams(seed=s) for s in range(n)], [9] * n, none)
    for drawn in (along, across):
        tokens = np.array([s.token for s in drawn])
        for lag in (1, 2, 7):
            pairs = np.bincount(tokens[:-lag] * 4 + tokens[lag:], minlength=16)
            expected = (n - lag) / 16
            assert ((pairs - expected) ** 2 / expected).sum() < 15 + 4 * math.sqrt(30)


def test_logprobs_are_of_the_raw_logits() -> None:
    logits = gaussian(1, 49152, seed=2)
    reference = torch.log_softmax(logits.double(), -1)[0]
    params = SamplingParams(temperature=0.3, logit_bias={17: 50.0}, banned=frozenset({5}), top_k=3, logprobs=20)
    (drawn,) = sample(logits, [params], [0], [History([])])
    assert drawn.token == 17
    assert drawn.logprob == pytest.approx(reference[17].item(), abs=1e-8)
    values, ids = reference.topk(20)
    assert [i for i, _ in drawn.top] == ids.tolist()
    assert [p for _, p in drawn.top] == pytest.approx(values.tolist(), abs=1e-8)


def test_logprobs_none_zero_ties_and_small_vocabularies() -> None:
    assert one([0.0, 1.0], GREEDY) == Sampled(1)
    zero = one([0.0, 0.0], replace(GREEDY, logprobs=0))
    assert zero.top == ()
    assert zero.logprob == pytest.approx(-math.log(2))
    tied = one([1.0, 2.0, 1.0, 1.0, 2.0], replace(GREEDY, logprobs=3))
    assert [i for i, _ in tied.top] == [1, 4, 0]
    assert len(one([0.0, 1.0], replace(GREEDY, logprobs=20)).top) == 2
    sparse = one([-math.inf, 1.0, -math.inf], replace(GREEDY, logprobs=2))
    assert sparse.top == ((1, 0.0),)  # a probability of 0 has no number in JSON
    assert sparse.logprob == 0


@pytest.mark.parametrize("params", [GREEDY, SamplingParams(), SamplingParams(top_p=0.5, logit_bias={0: 1.0})], ids=repr)
def test_logits_that_cannot_be_drawn_from_name_their_rows(params: SamplingParams) -> None:
    logits = gaussian(5, 30)
    logits[1, 7], logits[3], logits[4, 0] = math.nan, -math.inf, math.inf
    with pytest.raises(LogitsError, match=r"row 1: .*NaN; row 3: every logit is −inf.*; row 4: .*\+inf") as error:
        sample(logits, [params] * 5, [0] * 5, [History([])] * 5)
    assert error.value.rows == (1, 3, 4)
    good = [0, 2]
    assert len(sample(logits[good], [params] * 2, [0] * 2, [History([])] * 2)) == 2


def test_banning_every_token_is_an_error_that_names_the_row() -> None:
    with pytest.raises(LogitsError, match="row 1: every logit is −inf") as error:
        sample(gaussian(2, 3), [GREEDY, replace(GREEDY, banned=frozenset({0, 1, 2}))], [0, 0], [History([])] * 2)
    assert error.value.rows == (1,)


def test_arguments_that_do_not_fit_are_named() -> None:
    logits, none = gaussian(1, 10), [History([])]
    with pytest.raises(ValueError, match="1 rows of logits with 2 parameters"):
        sample(logits, [GREEDY] * 2, [0], none)
    with pytest.raises(ValueError, match="float32"):
        sample(logits.double(), [GREEDY], [0], none)
    with pytest.raises(ValueError, match="position"):
        sample(logits, [GREEDY], [-1], none)
    for name, params in (
        ("logit_bias", SamplingParams(logit_bias={1: 0.0, 10: 1.0})),
        ("banned", SamplingParams(banned=frozenset({10}))),
    ):
        with pytest.raises(ValueError, match=f"row 0: {name} names token 10, the vocabulary has 10"):
            sample(logits, [params], [0], none)
    with pytest.raises(ValueError, match="row 0: the history names token 11"):
        sample(logits, [SamplingParams(presence_penalty=1)], [0], [History([11])])


@settings(derandomize=True, max_examples=150)
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=30),
    st.sets(st.integers(0, 29), max_size=10),
    st.integers(0, 8),
    st.floats(0, 1),
    st.floats(0, 5),
    st.integers(0, 2**62),
)
def test_never_a_banned_token_nor_one_outside_top_k(
    x: list[float], banned: set[int], top_k: int, top_p: float, temperature: float, position: int
) -> None:
    banned = {i for i in banned if i < len(x)}
    allowed = sorted((i for i in range(len(x)) if i not in banned), key=lambda i: (-x[i], i))
    params = SamplingParams(temperature, top_k, top_p, banned=frozenset(banned))
    if not allowed:
        with pytest.raises(LogitsError):
            one(x, params, position)
        return
    assert one(x, params, position).token in allowed[: top_k or None]


def test_drawn_seeds_differ_and_survive_json_in_any_language() -> None:
    seeds = [draw_seed() for _ in range(200)]
    assert len(set(seeds)) == 200
    assert all(0 <= s < 2**53 and int(float(json.dumps(s))) == s for s in seeds)
    assert max(seeds) > 2**50


def test_folded_seeds() -> None:
    assert [fold_seed(s, 0) for s in (0, -7, 2**64 - 1)] == [0, -7, 2**64 - 1]
    folded = {(s, i): fold_seed(s, i) for s in range(50) for i in range(50)}
    assert len(set(folded.values())) == 2500
    assert all(SamplingParams(seed=s).seed == s for s in folded.values())
    assert fold_seed(-1, 3) == fold_seed(2**64 - 1, 3)
    # SplitMix64 from state 0: its first two published outputs.
    assert [fold_seed(0, i) % 2**64 for i in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    with pytest.raises(ValueError, match="choice"):
        fold_seed(1, -1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_tokens_a_cpu_draws() -> None:
    B = len(MIXED)
    logits = gaussian(B, 49152, seed=3)
    histories = [History(range(r, 30)) for r in range(B)]
    for position in (0, 10**9, 2**33):
        expected = sample(logits, MIXED, [position] * B, histories)
        assert sample(logits.cuda(), MIXED, [position] * B, histories) == expected
