"""Writes states to the store as snapshots, behind everything else and few at a time.

A snapshot that fails or is left out costs a longer replay and nothing else. A state that waits to be written is held
in memory, so only so many may wait; one that is still in its slot is copied when its turn comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from model.state import State
from server.errors import PerennialError
from server.logs import get_logger
from server.store.records import Fence, Outcome, Session
from server.store.snapshots import SnapshotStore
from server.worker.metrics import WorkerMetrics
from server.worker.states import to_snapshot

log = get_logger()

# Each one that is being written takes about twice a state's bytes.
AT_ONCE = 2
# States without a slot that may wait to be written.
WAITING = 8


@dataclass(frozen=True, slots=True)
class Warm:
    """A session's state as its last turn left it, in this worker. saved: length of the sequence at its last snapshot,
    0 for none."""

    session: Session
    fence: Fence
    turn: str
    length: int
    pending: int
    saved: int


class Saver:
    """Its methods answer with what became of the snapshot, None where there is none."""

    def __init__(self, snapshots: SnapshotStore, fingerprint: str, metrics: WorkerMetrics) -> None:
        self._snapshots = snapshots
        self._fingerprint = fingerprint
        self._metrics = metrics
        self._room = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def save(self, warm: Warm, state: State) -> Outcome | None:
        """Write a state that lost its slot, unless too many wait."""
        if self._waiting >= WAITING:
            self._metrics.snapshots.labels("left_out").inc()
            return None
        self._waiting += 1
        try:
            async with self._room:
                return await self._write(warm, state)
        finally:
            self._waiting -= 1

    async def save_from(self, copy: Callable[[], Awaitable[State]], warm: Warm) -> Outcome | None:
        """Write a state that is in its slot. copy: raises KeyError where the next turn has the slot already."""
        async with self._room:
            try:
                state = await copy()
            except KeyError:
                return None
            return await self._write(warm, state)

    async def _write(self, warm: Warm, state: State) -> Outcome | None:
        try:
            with self._metrics.save_seconds.labels("redis").time():
                snapshot = await asyncio.to_thread(to_snapshot, state, self._fingerprint)
                outcome = await self._snapshots.put_snapshot(warm.session, warm.fence, warm.turn, snapshot)
        except PerennialError as error:
            self._metrics.snapshots.labels("failed").inc()
            log.warning("snapshot not saved", session=warm.session.id, error=error.message)
            return None
        self._metrics.snapshots.labels("written" if outcome is Outcome.OK else "ended").inc()
        return outcome
