"""The same closed run at several servers, one after the other, round after round: medians, and ratios to the first.

A ratio is taken within each round and its median over the rounds is told with its range: what the machine does besides
moves both servers of a round, and shows in the range where it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtest.client import Target
from loadtest.run import Closed, run
from loadtest.stats import Outcome, Slo, Summary, percentile, summarise
from loadtest.workload import Workload

MEASURES: Mapping[str, Callable[[Summary], float | None]] = {
    "first token p50, s": lambda one: one.ttft_s.p50 if one.ttft_s else None,
    "first token p95, s": lambda one: one.ttft_s.p95 if one.ttft_s else None,
    "between tokens p50, s": lambda one: one.gap_s.p50 if one.gap_s else None,
    "end to end p50, s": lambda one: one.e2e_s.p50 if one.e2e_s else None,
    "tokens per second": lambda one: one.tokens_per_s or None,
    "goodput, requests per second": lambda one: one.goodput_per_s or None,
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One measure at one server: its median, and the median, least and most of its ratio to the first server's.

    None where a round had nothing to measure."""

    median: float | None
    ratio: float | None
    least: float | None
    most: float | None


async def rounds(
    targets: Mapping[str, Target],
    workload: Workload,
    how: Closed,
    slo: Slo,
    *,
    count: int,
    limit_s: float,
    stop: asyncio.Event,
    heard: Callable[[Outcome], None],
) -> dict[str, list[Summary]]:
    """Each server's summaries, a round each. limit_s: of one server's round."""
    found: dict[str, list[Summary]] = {name: [] for name in targets}
    for number in range(count):
        # Other texts in each round, the same at every server: none finds what it has read in the round before.
        said = replace(workload, seed=workload.seed + number)
        for name, target in targets.items():
            if stop.is_set():
                return found
            course = await run(target, said, how, limit_s=limit_s, stop=stop, heard=heard)
            found[name].append(summarise(course.outcomes, course.seconds, slo, course.unfinished))
    return found


def compared(found: Mapping[str, Sequence[Summary]], measure: Callable[[Summary], float | None]) -> dict[str, Compared]:
    """One measure at every server, in the order given; the first is what the others are compared with."""
    values = {name: [measure(one) for one in some] for name, some in found.items()}
    first = next(iter(values.values()))
    return {name: _compared(some, first) for name, some in values.items()}


def _compared(values: Sequence[float | None], first: Sequence[float | None]) -> Compared:
    there = sorted(value for value in values if value is not None)
    ratios = sorted(a / b for a, b in zip(values, first, strict=False) if a is not None and b)
    return Compared(
        percentile(there, 0.5) if there else None,
        percentile(ratios, 0.5) if ratios else None,
        ratios[0] if ratios else None,
        ratios[-1] if ratios else None,
    )
