"""What is said of many answers: percentiles, goodput under a service level, errors by kind.

Times are seconds. It knows nothing of servers or of how the answers came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One turn that was asked for, as its user saw it.

    began: s from the run's beginning, when it was due; ttft_s: from then to the first token; gaps_s: between two events
    that brought tokens; e2e_s: from when it was due to the end. By the server's count: tokens, generated; read_tokens
    and cached_tokens, of history and prompt, read for this answer and not read again. error: its kind; None where the
    answer came whole.
    """

    conversation: int
    number: int
    began: float
    e2e_s: float
    ttft_s: float | None = None
    gaps_s: tuple[float, ...] = ()
    read_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Slo:
    """What a good answer keeps to; None: any. gap_s: the mean between two of its tokens' events."""

    ttft_s: float | None = None
    gap_s: float | None = None
    e2e_s: float | None = None

    def meets(self, outcome: Outcome) -> bool:
        """Whether it came whole, and in time. One that brought no token has no first token to be late."""
        mean = sum(outcome.gaps_s) / len(outcome.gaps_s) if outcome.gaps_s else None
        kept = ((outcome.ttft_s, self.ttft_s), (mean, self.gap_s), (outcome.e2e_s, self.e2e_s))
        return outcome.error is None and all(had is None or most is None or had <= most for had, most in kept)


@dataclass(frozen=True, slots=True)
class Spread:
    """Of so many values."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A run. seconds: how long it took. good: answers within the service level. unfinished: those the run's own end
    cut off. Spreads are of the answers that came whole; None where there is nothing to spread."""

    seconds: float
    asked: int
    whole: int
    good: int
    unfinished: int
    errors: dict[str, int]
    ttft_s: Spread | None
    gap_s: Spread | None
    e2e_s: Spread | None
    read_tokens: int
    cached_tokens: int
    tokens: int

    @property
    def requests_per_s(self) -> float:
        return self.whole / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def goodput_per_s(self) -> float:
        return self.good / self.seconds if self.seconds else 0.0


def percentile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest of `ordered`, which is sorted and not empty. share: 0 to 1."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float]) -> Spread | None:
    """None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.95, 0.99))
    return Spread(len(ordered), sum(ordered) / len(ordered), p50, p95, p99, ordered[-1])


def summarise(outcomes: Sequence[Outcome], seconds: float, slo: Slo, unfinished: int = 0) -> Summary:
    """seconds: from the run's beginning to its end."""
    whole = [one for one in outcomes if one.error is None]
    return Summary(
        seconds=seconds,
        asked=len(outcomes) + unfinished,
        whole=len(whole),
        good=sum(map(slo.meets, outcomes)),
        unfinished=unfinished,
        errors=dict(Counter(one.error for one in outcomes if one.error is not None).most_common()),
        ttft_s=spread([one.ttft_s for one in whole if one.ttft_s is not None]),
        gap_s=spread([gap for one in whole for gap in one.gaps_s]),
        e2e_s=spread([one.e2e_s for one in whole]),
        read_tokens=sum(one.read_tokens for one in whole),
        cached_tokens=sum(one.cached_tokens for one in whole),
        tokens=sum(one.tokens for one in whole),
    )
