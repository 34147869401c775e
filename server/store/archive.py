"""Sessions out of the store and into it, as what `archive_format` makes a file of.

An export is what is kept of a session's branch, as its last committed turn left it; a turn that runs meanwhile is not
in it. An import makes a new lineage: its parts are staged under keys that live ten minutes, and one script makes them
a session if all of them are there. Whatever goes wrong before, every key is deleted; after a crash they expire.
It does not know what fits which model: that is checked before (`server/api/files.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from server.errors import CorruptState, PerennialError, StoreUnavailable
from server.store import keys as ids
from server.store.archive_format import Archive, write_archive
from server.store.archive_manifest import OperationEntry, TurnEntry
from server.store.blocks import encode_snapshot
from server.store.branches import BranchStore
from server.store.codec import encode_turn
from server.store.index import TenantIndex
from server.store.options import Context
from server.store.records import End, NewSession, Session, Snapshot, Turn
from server.store.scripts import Call, Value
from server.store.sessions import SessionStore
from server.store.snapshots import SnapshotStore
from server.store.turns import TurnStore

STAGE = Call("stage", ("hash",), ("stage_ms",), more_args=("field", "value"))
IMPORT = Call(
    "import",
    ("session", "lineage", "turns", "snaps", "blocks", "gone"),
    (
        *("turns_staged", "snaps_staged", "blocks_staged", "tenant", "model", "fingerprint", "state_bytes"),
        *("head", "length", "end", "now", "turns", "stored_bytes", "session_ttl_ms", "gone_ttl_ms"),
    ),
)
CALLS = (STAGE, IMPORT)

_STAGE_MS = 600_000
_BATCH = 1 << 20  # bytes sent at once: the server does nothing else while it handles them
# Retention may drop what was just seen, at most this often before it is called damage.
_ATTEMPTS = 5


class ArchiveStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(
        self,
        context: Context,
        sessions: SessionStore,
        branches: BranchStore,
        turns: TurnStore,
        snapshots: SnapshotStore,
    ) -> None:
        self._c = context
        self._sessions = sessions
        self._branches = branches
        self._turns = turns
        self._snapshots = snapshots
        self._index = TenantIndex(context)

    async def export(self, session: Session) -> bytes:
        """The session's file. Raises CorruptState where something of it is damaged or missing."""
        for attempt in range(_ATTEMPTS):
            try:
                archive = await self._read(session)
                break
            except CorruptState:
                # What was listed may have been pruned before it was read.
                if attempt == _ATTEMPTS - 1:
                    raise
        return await asyncio.to_thread(write_archive, archive)

    async def _read(self, session: Session) -> Archive:
        history = await self._branches.history(session)
        before = history[0].parent if history else None
        turns = await self._turns.read_turns(session, stop=frozenset({before} if before else ()))
        saved = await self._snapshots.snapshot_turns(session.id)
        snapshots: dict[str, Snapshot] = {}
        for turn in turns:
            if turn.id in saved:
                snapshot = await self._snapshots.get_snapshot(session.id, turn.id)
                if snapshot is None:
                    raise CorruptState(f"the snapshot of turn {turn.id} is missing")
                snapshots[_short(turn.id)] = snapshot
        if before is not None and _short(turns[0].id) not in snapshots:
            raise CorruptState(f"turn {turns[0].id} of session {session.id} has neither a root nor a snapshot")
        kinds = {(snapshot.fingerprint, snapshot.spec_hash) for snapshot in snapshots.values()}
        if len(kinds) > 1 or any(fingerprint != session.fingerprint for fingerprint, _ in kinds):
            raise CorruptState(f"session {session.id} has snapshots of more than one model")
        return Archive(
            model=session.model,
            fingerprint=session.fingerprint,
            spec=next((spec for _, spec in kinds), None),
            turns_made=session.turns,
            turns=tuple(_entry(turn) for turn in turns),
            tokens=np.fromiter((token for turn in turns for token in turn.tokens), np.int32),
            snapshots=snapshots,
        )

    async def import_(self, new: NewSession, archive: Archive) -> Session:
        """A new session of `new.tenant`, a lineage of its own with new ids, that stands where the archive's does.

        new: of the model whose the archive is. Raises StoreUnavailable also where parts of it were lost on the way.
        """
        session_id = ids.new_session_id()
        try:
            await self._write(session_id, new, archive)
            await self._index.touch(new.tenant, session_id)
            return await self._sessions.get_session(new.tenant, session_id)
        except BaseException:
            # Also where the last script ran and its answer got lost: nobody knows of that session.
            with suppress(PerennialError):
                await asyncio.shield(self._c.connection.call("DEL", *self._keys(session_id)))
            raise

    def _keys(self, session_id: str) -> tuple[str, ...]:
        lineage, keys = ids.lineage_of(session_id), self._c.keys
        parts = (keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage))
        return (keys.session(session_id), keys.lineage(lineage), *parts, keys.gone(session_id))

    async def _write(self, session_id: str, new: NewSession, archive: Archive) -> None:
        keys, options = self._keys(session_id), self._c.options
        names = _new_ids(archive.turns, ids.lineage_of(session_id))
        turns = await asyncio.to_thread(_encode_turns, archive, names)
        await self._stage(keys[2], turns.items())
        manifests: dict[str, bytes] = {}
        blocks: dict[str, int] = {}
        for name, snapshot in archive.snapshots.items():
            # One at a time: a copy of every state would be much. In a thread: hashing would hold up the loop.
            manifest, blobs = await asyncio.to_thread(encode_snapshot, snapshot)
            await self._stage(keys[4], [(h, blob) for h, blob in blobs.items() if h not in blocks])
            blocks |= {h: len(blob) for h, blob in blobs.items()}
            manifests[names[name]] = manifest
        await self._stage(keys[3], manifests.items())
        stored = sum(map(len, turns.values())) + sum(map(len, manifests.values())) + sum(blocks.values())
        last = archive.turns[-1] if archive.turns else None
        word = await self._c.connection.run(
            IMPORT,
            keys,
            [
                *(len(turns), len(manifests), len(blocks), new.tenant, new.model, new.fingerprint),
                *(new.state_bytes, names[last.id] if last else "", last.length if last else 0),
                *(last.end if last else End.RAW, repr(self._c.clock()), archive.turns_made, stored),
                *(options.session_ttl_ms, options.gone_ttl_ms),
            ],
        )
        if word != b"OK":
            raise StoreUnavailable("The store lost what was being imported; try again.")

    async def _stage(self, key: str, fields: Iterable[tuple[str, bytes]]) -> None:
        for batch in _batches(fields):
            await self._c.connection.run(STAGE, [key], [_STAGE_MS, *batch])


def _batches(fields: Iterable[tuple[str, bytes]]) -> Iterator[Sequence[Value]]:
    batch: list[Value] = []
    size = 0
    for name, data in fields:
        batch += [name, data]
        size += len(data)
        # A script's arguments are bounded too.
        if size >= _BATCH or len(batch) >= 1000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _short(turn_id: str) -> str:
    return turn_id.rpartition("_")[2]


def _entry(turn: Turn) -> TurnEntry:
    return TurnEntry(
        id=_short(turn.id),
        parent=turn.parent and _short(turn.parent),
        count=len(turn.tokens),
        length=turn.length,
        end=turn.end.value,
        finish=turn.finish,
        created=turn.created,
        operation=None if turn.operation is None else OperationEntry.model_validate(dict(turn.operation)),
    )


def _new_ids(turns: Sequence[TurnEntry], lineage: str) -> dict[str, str]:
    """The file's id → an id of the lineage, for every turn and for what lay before the first."""
    before = [turn.parent for turn in turns[:1] if turn.parent is not None]
    return {name: ids.new_turn_id(lineage) for name in (*before, *(turn.id for turn in turns))}


def _encode_turns(archive: Archive, names: Mapping[str, str]) -> dict[str, bytes]:
    """Turn id → bytes, for every turn, under its new id."""
    encoded: dict[str, bytes] = {}
    at = 0
    for turn in archive.turns:
        tokens = tuple(archive.tokens[at : at + turn.count].tolist())
        at += turn.count
        encoded[names[turn.id]] = encode_turn(
            Turn(
                id=names[turn.id],
                parent=names[turn.parent] if turn.parent else None,
                tokens=tokens,
                length=turn.length,
                end=End(turn.end),
                finish=turn.finish,
                created=turn.created,
                operation=None if turn.operation is None else turn.operation.model_dump(exclude_none=True),
            )
        )
    return encoded
