"""Where a session's state comes from: a warm slot, else the store's nearest snapshot and the log after it.

Invariant: nothing is re-read in silence; `Restored` says which tier it was and how many tokens are replayed.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.state import State, StateSpec
from server.errors import CorruptState, FingerprintMismatch
from server.store.records import Session
from server.store.store import Store
from server.worker.states import from_snapshot


@dataclass(frozen=True, slots=True)
class Restored:
    """A state to go on from. unread: tokens of the sequence it has not read yet, the pending one last among them.

    tier: "new", "slot" or "redis". replayed: how many of `unread` had been read once before. saved: length of the
    sequence at the latest snapshot, 0 where there is none.
    """

    tier: str
    unread: tuple[int, ...]
    replayed: int
    warm: str | None = None
    state: State | None = None
    saved: int = 0


def check_fingerprint(session: Session, fingerprint: str) -> None:
    """Raise `FingerprintMismatch` naming both where the session was begun with another model."""
    if session.fingerprint != fingerprint:
        raise FingerprintMismatch(f"the session belongs to model {session.fingerprint}, this worker runs {fingerprint}")


def from_slot(session: Session, pending: int, saved: int) -> Restored:
    """The warm row of the session's head turn."""
    return Restored("slot", (pending,), 0, warm=session.head, saved=saved)


async def from_store(store: Store, session: Session, spec: StateSpec) -> Restored:
    """The nearest snapshot at or before the head, and the run after it.

    Raises `CorruptState` for a damaged or missing turn or snapshot, `FingerprintMismatch` for another model's.
    """
    if session.head is None:
        return Restored("new", (), 0)
    snapshots = await store.snapshots.snapshot_turns(session.id)
    turns = await store.turns.read_turns(session, stop=snapshots)
    run = tuple(token for turn in turns for token in turn.tokens)
    base = turns[0].parent if turns else session.head  # the turn whose snapshot the log begins after
    if base is None:
        return Restored("redis", run, session.length - 1)
    snapshot = await store.snapshots.get_snapshot(session.id, base)
    if snapshot is None:
        raise CorruptState(f"the snapshot of turn {base} is missing")
    state = from_snapshot(spec, snapshot, session.fingerprint)
    pending = int(state["pending"][0]) - 1
    if snapshot.position + 1 + len(run) != session.length or pending < 0:
        raise CorruptState(f"the snapshot of turn {base} and the log after it do not make {session.length} tokens")
    return Restored("redis", (pending, *run), len(run), state=state, saved=snapshot.position + 1)
