"""What a worker has in hand: the turns that run, and the tasks that do something about them or after them.

Invariant: `idle` returns only when there is neither. It knows nothing of what a turn or a task does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from server.logs import get_logger
from server.worker.turn import RunningTurn

log = get_logger()


class InHand:
    """turns: by generation id."""

    def __init__(self) -> None:
        self.turns: dict[str, RunningTurn] = {}
        self._tasks: set[asyncio.Future[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, turn: RunningTurn) -> None:
        """A turn has begun."""
        self.turns[turn.id] = turn
        self._idle.clear()

    def remove(self, turn: RunningTurn) -> None:
        """A turn is over, for this worker."""
        self.turns.pop(turn.id, None)
        self._settle()

    def runs(self, session_id: str) -> bool:
        """Whether a turn of that session is in hand."""
        return any(turn.begun.session.id == session_id for turn in self.turns.values())

    def spawn(self, work: Awaitable[None]) -> None:
        """Do this beside everything else. A failure is logged: nobody waits for it."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._done)

    async def idle(self) -> None:
        """Wait until nothing is in hand and nothing on its way."""
        await self._idle.wait()

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        self._settle()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a turn's task failed", exc_info=error)

    def _settle(self) -> None:
        if not self.turns and not self._tasks:
            self._idle.set()
