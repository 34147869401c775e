"""The heartbeat: says that the worker lives, and renews what it holds, from a thread with a connection of its own.

A long tick, a compilation or a large snapshot on the worker's loop therefore never loses a claim. The thread ends by
itself where `alive` says that the worker's insides are dead, so that others take over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from threading import Event, Thread

from server.errors import PerennialError
from server.logs import get_logger
from server.store.records import Delivery
from server.store.store import StoreOptions, open_store

log = get_logger()


class Heartbeat:
    """Beats every `every_s` between `start` and `stop`."""

    def __init__(
        self,
        options: StoreOptions,
        worker_id: str,
        info: Callable[[], Mapping[str, object]],
        deliveries: Callable[[], tuple[Delivery, ...]],
        alive: Callable[[], bool],
        every_s: float = 1.0,
    ) -> None:
        self._options = options
        self._worker_id = worker_id
        self._info = info
        self._deliveries = deliveries
        self._alive = alive
        self._every_s = every_s
        self._stop = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Take the worker off the list and end the thread."""
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        while not self._stop.is_set() and self._alive():
            try:
                store = await open_store(self._options)
            except PerennialError as error:
                log.warning("heartbeat waits for the store", error=error.message)
                await asyncio.to_thread(self._stop.wait, self._every_s)
                continue
            try:
                while not self._stop.is_set() and self._alive():
                    await store.queue.heartbeat(self._worker_id, self._info())
                    await store.queue.renew(self._worker_id, self._deliveries())
                    await asyncio.to_thread(self._stop.wait, self._every_s)
                await store.queue.retire(self._worker_id)
            except PerennialError as error:
                log.warning("heartbeat lost the store", error=error.message)
            finally:
                await store.close()
