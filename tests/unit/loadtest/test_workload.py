"""Texts and arrivals: functions of a seed, within their bounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from loadtest.workload import WORDS, Range, Workload, arrivals

ONE = Workload(turns=3, words=Range(2, 6), tokens=Range(8, 16), seed=5)


def test_a_turn_depends_on_seed_conversation_and_number_alone() -> None:
    backwards = {(c, n): ONE.turn(c, n) for c in (3, 1, 0) for n in (2, 0)}
    assert all(replace(ONE).turn(c, n) == turn for (c, n), turn in backwards.items())
    texts = {ONE.turn(c, n).text for c in range(20) for n in range(3)}
    assert len(texts) == 60
    assert replace(ONE, seed=6).turn(0, 0) != ONE.turn(0, 0)


def test_lengths_are_within_their_bounds_and_reach_them() -> None:
    turns = [ONE.turn(c, 0) for c in range(300)]
    assert {len(turn.text.split()) for turn in turns} == {2, 3, 4, 5, 6}
    assert {turn.max_tokens for turn in turns} == set(range(8, 17))
    assert {word for turn in turns for word in turn.text.rstrip(".").split()} <= set(WORDS)


def test_arrivals_are_a_poisson_process_that_ends() -> None:
    times = list(arrivals(rate=50.0, duration_s=40.0, seed=1))
    assert times == list(arrivals(rate=50.0, duration_s=40.0, seed=1))
    assert times != list(arrivals(rate=50.0, duration_s=40.0, seed=2))
    assert all(0 < a < b < 40.0 for a, b in pairwise(times))
    # 2,000 are expected, give or take 45 each standard deviation.
    assert len(times) == pytest.approx(2000, abs=5 * 45)
    gaps = [b - a for a, b in pairwise(times)]
    longer = sum(gap > 0.02 for gap in gaps) / len(gaps)
    assert longer == pytest.approx(0.3679, abs=0.06), "the share of gaps above the mean is 1/e"
