"""Snapshots of states (signatures; the code follows)."""

from __future__ import annotations

from server.store.records import Fence, Outcome, Session, Snapshot


class SnapshotStore:
    async def put_snapshot(self, session: Session, fence: Fence, turn: str, snapshot: Snapshot) -> Outcome:
        """Store the state at a committed turn: OK or FENCED. Whole or not at all."""
        raise NotImplementedError

    async def get_snapshot(self, session_id: str, turn: str) -> Snapshot | None:
        """The snapshot at a turn, None where there is none. Raises CorruptState naming leaf or block and why."""
        raise NotImplementedError

    async def snapshot_turns(self, session_id: str) -> frozenset[str]:
        """The turns of this lineage that have a snapshot (for `read_turns(stop=…)`)."""
        raise NotImplementedError
