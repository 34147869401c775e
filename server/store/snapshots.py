"""Snapshots of states in the store: blocks first, the manifest last, under the session's fence.

A snapshot is there whole or not at all, since its manifest is written only where all its blocks are. Blocks shared
with earlier snapshots are not sent again. A bounded number stays per lineage, at growing distances; what only the
dropped ones used goes with them. A missing or damaged block is an error that names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from server.errors import CorruptState
from server.store import keys as ids
from server.store.blocks import decode_snapshot, encode_snapshot, hashes, read_manifest, thin
from server.store.options import Context
from server.store.records import Fence, Outcome, Session, Snapshot
from server.store.scripts import Call

MISSING = Call("missing", ("blocks",), (), more_args=("hash",))
PUT_BLOCKS = Call("put_blocks", ("session", "blocks"), ("fence", "session_ttl_ms"), more_args=("hash", "data"))
PUT_MANIFEST = Call(
    "put_manifest",
    ("session", "turns", "snaps", "blocks"),
    ("fence", "session_ttl_ms", "turn_id", "manifest"),
    more_args=("hash",),
)
PRUNE = Call("prune", ("session", "snaps", "blocks"), ("fence", "seen", "dropped"), more_args=("item",))
CALLS = (MISSING, PUT_BLOCKS, PUT_MANIFEST, PRUNE)

# Bytes sent or asked for at once: the server does nothing else while it handles them.
_BATCH = 1 << 20
# Two writers of one lineage can undo each other's work at most this often before it is given up.
_ATTEMPTS = 5


class SnapshotStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def put_snapshot(self, session: Session, fence: Fence, turn: str, snapshot: Snapshot) -> Outcome:
        """Store the state at a committed turn: OK or FENCED. The first snapshot of a turn stays.

        Raises ValueError where a leaf's bytes do not fit its dtype and shape, CorruptState where the turn is unknown.
        """
        keys, connection, ttl = self._c.keys, self._c.connection, self._c.options.session_ttl_ms
        lineage = ids.lineage_of(session.id)
        key, snaps, blocks = keys.session(session.id), keys.snaps(lineage), keys.blocks(lineage)
        # Hashing megabytes would hold up the event loop.
        manifest, blobs = await asyncio.to_thread(encode_snapshot, snapshot)
        missing = [name.decode() for name in await connection.run(MISSING, [blocks], list(blobs))]
        for _ in range(_ATTEMPTS):
            for batch in _batches({name: blobs[name] for name in missing}):
                flat = [value for pair in batch for value in pair]
                if await connection.run(PUT_BLOCKS, [key, blocks], [fence, ttl, *flat]) == b"FENCED":
                    return Outcome.FENCED
            word, *rest = await connection.run(
                PUT_MANIFEST, [key, keys.turns(lineage), snaps, blocks], [fence, ttl, turn, manifest, *blobs]
            )
            if word == b"OK":
                await self._prune(key, lineage, fence, turn)
                return Outcome.OK
            if word == b"FENCED":
                return Outcome.FENCED
            if word == b"UNKNOWN":
                raise CorruptState(f"a snapshot was taken at turn {turn}, which is not committed")
            missing = [name.decode() for name in rest]
        raise CorruptState(f"the blocks of the snapshot at turn {turn} keep vanishing")

    async def _prune(self, session_key: str, lineage: str, fence: Fence, latest: str) -> None:
        """Drop what is above the bound, never the latest. What changes meanwhile is left to the next snapshot."""
        snaps, blocks = self._c.keys.snaps(lineage), self._c.keys.blocks(lineage)
        if await self._c.connection.call("HLEN", snaps) <= self._c.options.snapshots_kept:
            return
        stored = await self._c.connection.call("HGETALL", snaps)
        bodies = {name.decode(): read_manifest(name.decode(), data) for name, data in stored.items()}
        order = sorted(bodies, key=lambda name: int(bodies[name]["position"]))
        if latest not in bodies:
            return
        positions = [bodies[name]["position"] for name in order]
        dropped = [order[i] for i in thin(positions, order.index(latest), self._c.options.snapshots_kept)]
        used = {name for turn in order if turn not in dropped for name in hashes(bodies[turn])}
        orphans = dict.fromkeys(name for turn in dropped for name in hashes(bodies[turn]) if name not in used)
        await self._c.connection.run(
            PRUNE, [session_key, snaps, blocks], [fence, len(order), len(dropped), *order, *dropped, *orphans]
        )

    async def get_snapshot(self, session_id: str, turn: str) -> Snapshot | None:
        """The snapshot at a turn, None where there is none. Raises CorruptState naming leaf or block and why."""
        lineage, connection = ids.lineage_of(session_id), self._c.connection
        manifest = await connection.call("HGET", self._c.keys.snaps(lineage), turn)
        if manifest is None:
            return None
        body = read_manifest(turn, manifest)
        names = hashes(body)
        blobs: dict[str, bytes | None] = {}
        for start in range(0, len(names), 16):
            part = names[start : start + 16]
            answer = await connection.call("HMGET", self._c.keys.blocks(lineage), *part)
            blobs |= zip(part, answer, strict=True)
        return await asyncio.to_thread(decode_snapshot, turn, body, blobs)

    async def snapshot_turns(self, session_id: str) -> frozenset[str]:
        """The turns of this lineage that have a snapshot (for `read_turns(stop=…)`)."""
        names = await self._c.connection.call("HKEYS", self._c.keys.snaps(ids.lineage_of(session_id)))
        return frozenset(name.decode() for name in names)


def _batches(blobs: Mapping[str, bytes]) -> Iterator[Sequence[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for pair in blobs.items():
        batch.append(pair)
        size += len(pair[1])
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
