"""Tells the store where warm states are by now: behind what happened, many at once, best effort.

A hint and no more: what the store was not told costs a turn its warm start, never its correctness.
"""

from __future__ import annotations

import asyncio

from server.errors import PerennialError
from server.logs import get_logger
from server.store.turns import TurnStore

log = get_logger()

# Sessions told of in one call.
BATCH = 256


class Places:
    """What moved since the store was last told; of a session, its last move only."""

    def __init__(self, turns: TurnStore, worker_id: str) -> None:
        self._turns = turns
        self._worker_id = worker_id
        self._moved: dict[str, tuple[str, str]] = {}
        self._some = asyncio.Event()

    def say(self, session_id: str, turn: str, tier: str) -> None:
        """The state of that session at that turn is in `tier` now: "ram", or "redis" where it is here no more."""
        self._moved[session_id] = (turn, tier)
        self._some.set()

    async def run(self) -> None:
        """Tell the store, until cancelled."""
        while True:
            await self._some.wait()
            await self.flush()

    async def flush(self) -> None:
        """Tell it now. What it does not take is dropped."""
        self._some.clear()
        moved, self._moved = self._moved, {}
        rows = [(session_id, turn, tier) for session_id, (turn, tier) in moved.items()]
        for start in range(0, len(rows), BATCH):
            try:
                await self._turns.place(self._worker_id, rows[start : start + BATCH])
            except PerennialError as error:
                log.warning("places not told", sessions=len(rows) - start, error=error.message)
                return
