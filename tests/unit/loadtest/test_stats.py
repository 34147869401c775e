"""Percentiles against the standard library's, and what a summary counts."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from typing import Any

import pytest

from loadtest.stats import Outcome, Slo, percentile, spread, summarise


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_percentiles_are_the_standard_librarys(count: int) -> None:
    values = sorted(random.Random(count).uniform(0, 10) for _ in range(count))
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for share in (1, 50, 95, 99):
        assert percentile(values, share / 100) == pytest.approx(cuts[share - 1])


def test_a_spread_of_one_and_of_none() -> None:
    assert spread([]) is None
    one = spread([3.0])
    assert one is not None
    assert (one.count, one.mean, one.p50, one.p99, one.most) == (1, 3.0, 3.0, 3.0, 3.0)
    some = spread([4.0, 1.0, 2.0, 3.0])
    assert some is not None
    assert (some.p50, some.mean, some.most) == (2.5, 2.5, 4.0)


def outcome(**more: Any) -> Outcome:
    return replace(Outcome(conversation=0, number=0, began=0.0, e2e_s=1.0, ttft_s=0.5), **more)


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        (Slo(), True),
        (Slo(ttft_s=0.5, gap_s=0.2, e2e_s=1.0), True),
        (Slo(ttft_s=0.49), False),
        (Slo(gap_s=0.19), False),  # the mean of the gaps is 0.2
        (Slo(e2e_s=0.9), False),
    ],
)
def test_an_answer_is_good_when_it_keeps_to_all_of_the_level(slo: Slo, good: bool) -> None:
    found = outcome(gaps_s=(0.1, 0.3))
    assert slo.meets(found) is good
    assert not slo.meets(outcome(gaps_s=(0.1, 0.3), error="timeout"))
    assert slo.meets(outcome(ttft_s=None, e2e_s=0.1))


def test_a_summary_counts_every_turn_once() -> None:
    found = summarise(
        [
            outcome(ttft_s=0.2, gaps_s=(0.1, 0.1), e2e_s=1.0, tokens=3, read_tokens=5, cached_tokens=7),
            outcome(ttft_s=2.0, gaps_s=(0.3,), e2e_s=3.0, tokens=2, read_tokens=6),
            outcome(ttft_s=0.1, gaps_s=(9.0,), tokens=9, error="timeout"),
            outcome(ttft_s=None, error="429 queue_full"),
            outcome(ttft_s=None, error="timeout"),
        ],
        seconds=2.0,
        slo=Slo(ttft_s=1.0),
        unfinished=2,
    )
    assert (found.asked, found.whole, found.good, found.unfinished) == (7, 2, 1, 2)
    assert found.errors == {"timeout": 2, "429 queue_full": 1}
    assert list(found.errors) == ["timeout", "429 queue_full"], "the most frequent first"
    assert (found.tokens, found.read_tokens, found.cached_tokens) == (5, 11, 7)
    assert (found.requests_per_s, found.tokens_per_s, found.goodput_per_s) == (1.0, 2.5, 0.5)
    assert found.gap_s is not None
    assert (found.gap_s.count, found.gap_s.most) == (3, 0.3), "of whole answers only"
