"""Writes states to the store as snapshots, behind everything else and few at a time.

A snapshot that fails or is left out costs a longer replay and nothing else. A state that waits to be written is held
in memory, so only so many may wait; one that is still in its slot is copied when its turn comes. A worker that drains
writes while the store is there, and is never held up by one that is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from model.state import State
from server.errors import PerennialError, StoreUnavailable
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


@dataclass(slots=True)
class Line:
    """Turns of a session that this worker ran one after another. saved: length of the sequence at their last snapshot,
    0 for none; a snapshot that is written while the next turn runs counts for that one too."""

    saved: int

    def wrote(self, length: int) -> None:
        """There is a snapshot where the sequence was so long."""
        self.saved = max(self.saved, length)


@dataclass(frozen=True, slots=True)
class Warm:
    """A session's state as its last turn left it, in this worker."""

    session: Session
    fence: Fence
    turn: str
    length: int
    pending: int
    line: Line

    @property
    def saved(self) -> int:
        """Length of the sequence at its last snapshot, 0 for none."""
        return self.line.saved


class Saver:
    """Its methods answer with what became of the snapshot, None where there is none."""

    def __init__(self, snapshots: SnapshotStore, fingerprint: str, metrics: WorkerMetrics) -> None:
        self._snapshots = snapshots
        self._fingerprint = fingerprint
        self._metrics = metrics
        self._room = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._draining = self._stopped = False
        self._writing: set[asyncio.Future[Outcome]] = set()

    @property
    def stopped(self) -> bool:
        """Whether nothing more is written."""
        return self._stopped

    def drain(self) -> None:
        """From now on the first write that finds the store away is the last."""
        self._draining = True

    def stop(self) -> None:
        """Write nothing more; what is being written is given up."""
        self._stopped = True
        for writing in self._writing:
            writing.cancel()

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
            if self._stopped:
                return None
            try:
                state = await copy()
            except KeyError:
                return None
            return await self._write(warm, state)

    async def _write(self, warm: Warm, state: State) -> Outcome | None:
        if self._stopped:
            return None
        writing = asyncio.ensure_future(self._put(warm, state))
        self._writing.add(writing)
        try:
            with self._metrics.save_seconds.labels("redis").time():
                # Not awaited itself: `stop` cancels it and nobody else.
                await asyncio.wait({writing})
            if writing.cancelled():
                raise StoreUnavailable("not waited for any longer")
            outcome = writing.result()
        except PerennialError as error:
            self._metrics.snapshots.labels("failed").inc()
            log.warning("snapshot not saved", session=warm.session.id, error=error.message)
            if self._draining and isinstance(error, StoreUnavailable):
                self.stop()
            return None
        finally:
            self._writing.discard(writing)
            writing.cancel()
        self._metrics.snapshots.labels("written" if outcome is Outcome.OK else "ended").inc()
        return outcome

    async def _put(self, warm: Warm, state: State) -> Outcome:
        snapshot = await asyncio.to_thread(to_snapshot, state, self._fingerprint)
        return await self._snapshots.put_snapshot(warm.session, warm.fence, warm.turn, snapshot)
