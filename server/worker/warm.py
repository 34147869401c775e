"""The sessions whose state is in a slot, and when such a state is saved.

Snapshots are written behind the commit: every `snapshot_every` tokens, and on eviction and drain where there is
anything unsaved; a conversation shorter than that is never saved, its log is enough. A snapshot that fails costs a
longer replay and nothing else. It knows nothing of how a turn runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from model.state import State
from server.engine.loop import Engine
from server.errors import PerennialError
from server.logs import get_logger
from server.store.records import Begun, Fence, Outcome, Session, Turn
from server.store.snapshots import SnapshotStore
from server.worker.metrics import WorkerMetrics
from server.worker.states import to_snapshot

log = get_logger()


@dataclass(frozen=True, slots=True)
class Warm:
    """One session's state in a slot. saved: length of the sequence at its last snapshot, 0 for none."""

    session: Session
    fence: Fence
    turn: str
    length: int
    pending: int
    saved: int


class WarmSessions:
    """By session. snapshot_every: tokens."""

    def __init__(self, snapshots: SnapshotStore, fingerprint: str, snapshot_every: int, metrics: WorkerMetrics) -> None:
        self._snapshots = snapshots
        self._fingerprint = fingerprint
        self._every = snapshot_every
        self._metrics = metrics
        self._warm: dict[str, Warm] = {}

    def at_head(self, session: Session) -> Warm | None:
        """The session's warm state, where it stands at the session's head."""
        warm = self._warm.get(session.id)
        return warm if warm is not None and warm.turn == session.head else None

    def forget(self, session: Session) -> None:
        """Its slot has gone to a turn, or to nobody."""
        self._warm.pop(session.id, None)

    def due(self, turn: Turn, saved: int) -> bool:
        """Whether so much came since the last snapshot that the next one is due."""
        return turn.length - saved >= self._every

    def keep(self, begun: Begun, turn: Turn, saved: int) -> Warm:
        """The turn was committed and its row kept."""
        warm = Warm(begun.session, begun.fence, turn.id, turn.length, turn.tokens[-1], saved)
        self._warm[begun.session.id] = warm
        return warm

    def evict(self, session_id: str, key: str) -> Warm | None:
        """The engine needed the slot. Returns what is to be saved of it, if anything."""
        warm = self._warm.get(session_id)
        if warm is None or warm.turn != key:
            return None
        del self._warm[session_id]
        return warm if self._unsaved(warm) else None

    async def save_all(self, engine: Engine) -> None:
        """Save what is not saved yet: the worker is about to end."""
        for warm in [w for w in self._warm.values() if self._unsaved(w)]:
            await self.save_from(engine, warm)

    def _unsaved(self, warm: Warm) -> bool:
        return warm.length > warm.saved and warm.length >= self._every

    async def save_from(self, engine: Engine, warm: Warm) -> None:
        """Save a state that is in its slot."""
        try:
            state = await asyncio.wrap_future(engine.copy(warm.turn))
        except KeyError:  # the next turn has it already, and will save
            return
        await self.save(warm, state)

    async def save(self, warm: Warm, state: State) -> None:
        """Write a snapshot."""
        try:
            with self._metrics.save_seconds.time():
                snapshot = await asyncio.to_thread(to_snapshot, state, self._fingerprint)
                outcome = await self._snapshots.put_snapshot(warm.session, warm.fence, warm.turn, snapshot)
        except PerennialError as error:
            log.warning("snapshot not saved", session=warm.session.id, error=error.message)
            return
        held = self._warm.get(warm.session.id)
        if outcome is Outcome.OK and held is not None and held.turn == warm.turn:
            self._warm[warm.session.id] = replace(held, saved=warm.length)
