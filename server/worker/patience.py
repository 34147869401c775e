"""Calls of the store that outlast an outage of it. It knows nothing of what is called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from server.errors import StoreUnavailable
from server.logs import get_logger
from server.worker.metrics import WorkerMetrics

T = TypeVar("T")
log = get_logger()

# Between two tries, s.
PAUSE_S = 0.2


class Patience:
    """Repeats a call while the store is unreachable, for `patience_s`. Every call of the store can be repeated."""

    def __init__(self, patience_s: float, metrics: WorkerMetrics) -> None:
        self._patience_s = patience_s
        self._metrics = metrics

    async def __call__(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """What the call answers. Raises `StoreUnavailable` once patience has ended, any other error at once.

        what: for the log.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                self._metrics.store_errors.inc()
                if loop.time() >= deadline:
                    raise
                log.warning("store unreachable, waiting", doing=what, error=error.message)
                await asyncio.sleep(PAUSE_S)
