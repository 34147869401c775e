"""Finds accepted turns that nobody runs, because who accepted them died before they were in the queue.

A turn is noted before it is accepted, and the note goes as it enters the queue. So an old note means: accepted and not
enqueued (enqueue it), or never accepted, or ended (drop the note). Every worker sweeps; doing it twice is harmless.
"""

from __future__ import annotations

import asyncio

from server.errors import PerennialError
from server.logs import get_logger
from server.store.queue import WorkQueue
from server.store.turns import TurnStore
from server.worker.metrics import WorkerMetrics

log = get_logger()

EVERY_S = 3.0
# No acceptance takes longer: a few commands of at most 5 s each, their repeats included.
OLD_S = 30.0
LIMIT = 256


class Sweeper:
    """every_s: between two looks. older_than_s: of a note that counts as forgotten."""

    def __init__(
        self,
        queue: WorkQueue,
        turns: TurnStore,
        metrics: WorkerMetrics,
        *,
        every_s: float = EVERY_S,
        older_than_s: float = OLD_S,
    ) -> None:
        self._queue = queue
        self._turns = turns
        self._metrics = metrics
        self._every_s = every_s
        self._older_than_s = older_than_s

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.sweep()
            except PerennialError as error:
                log.warning("sweep failed", error=error.message)

    async def sweep(self) -> None:
        """One look. Raises `StoreUnavailable` and `StoreFull`."""
        forgotten = await self._queue.forgotten(older_than_s=self._older_than_s, limit=LIMIT)
        if not forgotten:
            return
        waiting = await self._turns.waiting(forgotten)
        for generation in forgotten:
            if generation in waiting:
                await self._queue.enqueue(generation)
                log.warning("a forgotten turn was enqueued", generation=generation)
            else:
                await self._queue.dismiss(generation)
            self._metrics.swept.labels("enqueued" if generation in waiting else "dismissed").inc()
