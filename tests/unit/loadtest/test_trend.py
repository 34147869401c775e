"""What a long conversation and a comparison come to."""

from __future__ import annotations

import pytest

from loadtest.compare import MEASURES, compared
from loadtest.long import trend
from loadtest.stats import Outcome, Slo, Summary, summarise


def said(*times: float | str) -> list[Outcome]:
    """Turns by their first-token times, or by what went wrong."""
    return [
        Outcome(0, n, 0.0, 1.0, ttft_s=None, error=one) if isinstance(one, str) else Outcome(0, n, 0.0, 1.0, one)
        for n, one in enumerate(times)
    ]


def test_a_trend_is_the_last_tenth_to_the_first() -> None:
    found = trend(said(*(0.1 + 0.01 * n for n in range(40))))
    assert (found.whole, found.failed) == (40, None)
    assert found.early_s == pytest.approx(0.115)
    assert found.late_s == pytest.approx(0.475)
    assert found.ratio == pytest.approx(0.475 / 0.115)


def test_a_trend_names_the_first_failure_and_passes_it_over() -> None:
    found = trend(said(0.1, "timeout", 0.3, "400 context_length"))
    assert (found.whole, found.failed) == (2, (2, "timeout"))
    assert (found.early_s, found.late_s) == (0.1, 0.3)
    assert trend(said("timeout")).ratio is None
    assert trend([]).failed is None


def test_what_is_skipped_counts_as_answered_but_not_as_a_time() -> None:
    found = trend(said(0.01, 0.01, 0.2, "timeout", 0.4), skip=2)
    assert (found.whole, found.early_s, found.late_s) == (4, 0.2, 0.4)
    assert found.failed == (4, "timeout")


def rounds(*times: float | None) -> list[Summary]:
    return [
        summarise([] if time is None else [Outcome(0, 0, 0.0, time, ttft_s=time)], seconds=1.0, slo=Slo())
        for time in times
    ]


def test_ratios_are_taken_within_each_round() -> None:
    found = compared({"a": rounds(1.0, 10.0, 4.0), "b": rounds(2.0, 5.0, 4.0)}, MEASURES["end to end p50, s"])
    assert (found["a"].median, found["a"].ratio, found["a"].least, found["a"].most) == (4.0, 1.0, 1.0, 1.0)
    assert (found["b"].median, found["b"].ratio, found["b"].least, found["b"].most) == (4.0, 1.0, 0.5, 2.0)


def test_a_round_without_an_answer_has_no_ratio() -> None:
    found = compared({"a": rounds(None, 1.0), "b": rounds(2.0, None)}, MEASURES["end to end p50, s"])
    assert found["b"].median == 2.0
    assert found["b"].ratio is None
