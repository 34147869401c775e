"""One conversation that goes on and on, at one server or at several side by side: first-token time by turn.

The servers take turns within each turn, so what the machine does besides hits all of them alike. A server that has
failed `GIVE_UP` turns in a row is not asked again.

It knows nothing of figures on paper.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtest.client import Target, connections, converse
from loadtest.run import forget, until
from loadtest.stats import Outcome, percentile
from loadtest.workload import Workload

GIVE_UP = 3
# Of the turns, what counts as the beginning and as the end.
PART = 0.1


@dataclass(frozen=True, slots=True)
class Trend:
    """Medians of the first-token time, s, of the first and the last tenth of the turns that were answered whole and not
    skipped; None where there is none. failed: the first turn that was not, from 1, and why."""

    whole: int
    early_s: float | None
    late_s: float | None
    failed: tuple[int, str] | None

    @property
    def ratio(self) -> float | None:
        """How many times as long the first token takes at the end."""
        return self.late_s / self.early_s if self.late_s is not None and self.early_s else None


async def talk(
    targets: Mapping[str, Target],
    workload: Workload,
    *,
    limit_s: float,
    stop: asyncio.Event,
    heard: Callable[[str, Outcome], None],
) -> dict[str, list[Outcome]]:
    """Each server's turns, as far as it came within `limit_s`."""
    async with connections() as http:
        epoch = time.perf_counter()
        talks = {name: converse(http, target, epoch) for name, target in targets.items()}
        said: dict[str, list[Outcome]] = {name: [] for name in targets}

        async def turns() -> None:
            for number in range(workload.turns):
                turn = workload.turn(0, number)
                for name, one in talks.items():
                    if _given_up(said[name]):
                        continue
                    outcome = await one.say(turn, time.perf_counter())
                    said[name].append(outcome)
                    heard(name, outcome)

        await until(turns(), limit_s, stop)
        await forget(talks.values())
    return said


def _given_up(said: Sequence[Outcome]) -> bool:
    return len(said) >= GIVE_UP and all(one.error is not None for one in said[-GIVE_UP:])


def trend(said: Sequence[Outcome], skip: int = 0) -> Trend:
    """What a conversation's first-token times came to. skip: turns at the beginning that its medians leave out."""
    whole = [one for one in said if one.error is None]
    times = [one.ttft_s for one in whole if one.ttft_s is not None and one.number >= skip]
    failed = next(((one.number + 1, one.error) for one in said if one.error is not None), None)
    part = max(1, round(PART * len(times)))
    early, late = (percentile(sorted(some), 0.5) if some else None for some in (times[:part], times[-part:]))
    return Trend(len(whole), early, late, failed)
