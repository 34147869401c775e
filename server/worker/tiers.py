"""Where a session's state comes from: a warm slot, RAM, else the store's nearest snapshot and the log after it.

Invariants: nothing is re-read in silence, `Restored` says which tier it was and how many tokens are replayed; and
nothing is replayed across an operation on the memory, which changed what the tokens before it had left (`Unsettled`).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.state import State, StateSpec
from server.errors import CorruptState, FingerprintMismatch
from server.store.records import Session, Turn
from server.store.store import Store
from server.worker.states import from_snapshot

# Times that a list of snapshots is looked at which keeps changing.
LOOKS = 4


class UnsettledError(Exception):
    """The log holds an operation on the memory whose snapshot is not there: it is to be done again first."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(f"the state at turn {turn.id} is not stored")
        self.turn = turn


@dataclass(frozen=True, slots=True)
class Restored:
    """A state to go on from. unread: tokens of the sequence it has not read yet, the pending one last among them.

    tier: "new", "slot", "ram" or "redis". replayed: how many of `unread` had been read once before. state: only ever
    read, by whoever has it. saved: length of the sequence at the latest snapshot, 0 where there is none.
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


def from_ram(pending: int, state: State, saved: int) -> Restored:
    """The state of the session's head turn that is kept in memory."""
    return Restored("ram", (pending,), 0, state=state, saved=saved)


async def from_store(store: Store, session: Session, spec: StateSpec) -> Restored:
    """The nearest snapshot at or before the head, and the run after it.

    A snapshot that was listed, and turns behind it, may have been pruned before they are read: where the list is
    another one by then, it is looked at again. Raises `CorruptState` for a damaged or missing turn or snapshot,
    `FingerprintMismatch` for another model's, `UnsettledError` with the oldest operation in the log.
    """
    if session.head is None:
        return Restored("new", (), 0)
    snapshots = await store.snapshots.snapshot_turns(session.id)
    for _ in range(LOOKS - 1):
        try:
            return await _from(store, session, spec, snapshots)
        except CorruptState:
            seen, snapshots = snapshots, await store.snapshots.snapshot_turns(session.id)
            if snapshots == seen:
                raise
    return await _from(store, session, spec, snapshots)


async def _from(store: Store, session: Session, spec: StateSpec, snapshots: frozenset[str]) -> Restored:
    """`from_store`, of these turns' snapshots."""
    turns = await store.turns.read_turns(session, stop=snapshots)
    for turn in turns:
        if turn.operation is not None:
            raise UnsettledError(turn)
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
