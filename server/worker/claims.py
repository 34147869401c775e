"""The deliveries in this worker's hands: taken from the queue, taken over from the dead, acknowledged at the end.

Invariants: never more than `limit` at a time; what is in hand is never taken over from itself, however long the store
was away. What is forgotten instead of released stays in the queue, is anybody's once nobody has renewed it for a while,
and counts as delivered once more; what is given back does not. It knows nothing of what a turn is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.errors import StoreFull, StoreUnavailable
from server.logs import get_logger
from server.store.queue import WorkQueue
from server.store.records import Delivery

log = get_logger()

# A look costs two round trips. Looked for this often, what a dead worker held goes on in time.
_LOOK_S = 0.25


class Claims:
    """`take` is called with each new delivery. Times in s."""

    def __init__(
        self,
        queue: WorkQueue,
        worker_id: str,
        limit: int,
        take: Callable[[Delivery], None],
        *,
        takeover_s: float,
        poll_s: float,
    ) -> None:
        """takeover_s: what nobody renews for so long is taken over, of a dead worker sooner. poll_s: between tries of
        a store that does not answer."""
        self._queue = queue
        self._worker_id = worker_id
        self._limit = limit
        self._take = take
        self._takeover_s = takeover_s
        self._poll_s = poll_s
        self._look_s = min(poll_s, _LOOK_S)
        self._held: dict[str, Delivery] = {}
        self._room = asyncio.Event()
        self._closed = False

    @property
    def held(self) -> tuple[Delivery, ...]:
        """What is to be renewed."""
        return tuple(self._held.values())

    def close(self) -> None:
        """Take no more. What arrives all the same is given back."""
        self._closed = True

    async def run(self, taken_over: Callable[[], None]) -> None:
        """Take deliveries while there is room, until cancelled or closed: first what a dead worker left, then new ones.

        `taken_over` is called for each of the former.
        """
        loop = asyncio.get_running_loop()
        look = 0.0
        while not self._closed:
            free = self._limit - len(self._held)
            if free <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                if loop.time() >= look:
                    look = loop.time() + self._look_s
                    idle_ms = int(self._takeover_s * 1000)
                    found = await self._queue.takeover(self._worker_id, idle_ms, free, self.held)
                    fresh = [d for d in found if d.generation not in self._held]
                    for _ in fresh:
                        taken_over()
                    await self._receive(fresh)
                    continue
                await self._receive(await self._queue.claim(self._worker_id, free, int(self._look_s * 1000)))
            except (StoreUnavailable, StoreFull) as error:
                log.warning("claim failed", error=error.message)
                await asyncio.sleep(self._poll_s)

    async def _receive(self, found: list[Delivery]) -> None:
        if self._closed:
            await self._queue.give_back(self._worker_id, found)
            return
        for delivery in found:
            self._held[delivery.generation] = delivery
            self._take(delivery)

    def forget(self, generation_id: str) -> None:
        """Give a delivery up without acknowledging it."""
        self._held.pop(generation_id, None)
        self._room.set()

    async def give_back(self, generation_id: str) -> None:
        """Let others have a delivery at once, as if it had never been here."""
        delivery = self._held.pop(generation_id, None)
        self._room.set()
        if delivery is not None:
            try:
                await self._queue.give_back(self._worker_id, [delivery])
            except (StoreUnavailable, StoreFull):  # it will be taken over
                log.warning("delivery not given back", generation=generation_id)

    async def release(self, generation_id: str) -> None:
        """Acknowledge a delivery whose generation has ended."""
        delivery = self._held.pop(generation_id, None)
        self._room.set()
        if delivery is not None:
            try:
                await self._queue.ack([delivery])
            except (StoreUnavailable, StoreFull):  # it will be delivered again, and then found ended
                log.warning("acknowledgement lost", generation=generation_id)
