"""Snapshots of states in the store: blocks first, the manifest last, at turns that are committed.

A snapshot is there whole or not at all, since its manifest is written only where all its blocks are. Blocks shared
with earlier snapshots are not sent again. Each snapshot that is put lets the lineage be pruned (retention.py). A
missing or damaged block is an error that names it.

The fence guards what a session's owner may change: its head, its events, its status. A snapshot is none of that: a
committed turn is immutable, and so is the state at it, whoever writes it down and however late. So these writes ask
only that session and turn exist, and a snapshot may be written while the session's next turn runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from server.errors import CorruptState
from server.store import keys as ids
from server.store.blocks import decode_snapshot, encode_snapshot, hashes, read_manifest
from server.store.options import Context
from server.store.records import Fence, Outcome, Session, Snapshot
from server.store.retention import Retention
from server.store.scripts import Call

MISSING = Call("missing", ("blocks",), (), more_args=("hash",))
PUT_BLOCKS = Call(
    "put_blocks", ("session", "turns", "blocks"), ("session_ttl_ms", "turn_id"), more_args=("hash", "data")
)
PUT_MANIFEST = Call(
    "put_manifest",
    ("session", "turns", "snaps", "blocks", "lineage"),
    ("session_ttl_ms", "turn_id", "manifest"),
    more_args=("hash",),
)
CALLS = (MISSING, PUT_BLOCKS, PUT_MANIFEST)

# Bytes sent or asked for at once: the server does nothing else while it handles them.
_BATCH = 1 << 20
# Two writers of one lineage can undo each other's work at most this often before it is given up.
_ATTEMPTS = 5


class SnapshotStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(self, context: Context, retention: Retention) -> None:
        self._c = context
        self._retention = retention

    async def put_snapshot(
        self,
        session: Session,
        fence: Fence,  # noqa: ARG002 - part of every write by a worker; this is the one that it does not decide
        turn: str,
        snapshot: Snapshot,
    ) -> Outcome:
        """Store the state at a committed turn: OK, or ENDED where the session is no more, or has left that turn behind.

        The first snapshot of a turn stays. fence: the turn's owner's; a newer one refuses nothing. Raises ValueError
        where a leaf's bytes do not fit its dtype and shape.
        """
        keys, connection, ttl = self._c.keys, self._c.connection, self._c.options.session_ttl_ms
        lineage = ids.lineage_of(session.id)
        key, turns = keys.session(session.id), keys.turns(lineage)
        snaps, blocks = keys.snaps(lineage), keys.blocks(lineage)
        # Hashing megabytes would hold up the event loop.
        manifest, blobs = await asyncio.to_thread(encode_snapshot, snapshot)
        missing = [name.decode() for name in await connection.run(MISSING, [blocks], list(blobs))]
        for _ in range(_ATTEMPTS):
            for batch in _batches({name: blobs[name] for name in missing}):
                flat = [value for pair in batch for value in pair]
                # What refuses blocks refuses the manifest too, and says why.
                if await connection.run(PUT_BLOCKS, [key, turns, blocks], [ttl, turn, *flat]) != b"OK":
                    break
            word, *rest = await connection.run(
                PUT_MANIFEST,
                [key, turns, snaps, blocks, self._c.keys.lineage(lineage)],
                [ttl, turn, manifest, *blobs],
            )
            if word == b"OK":
                await self._retention.prune(lineage)
                return Outcome.OK
            if word in (b"GONE", b"UNKNOWN"):
                return Outcome.ENDED
            missing = [name.decode() for name in rest]
        raise CorruptState(f"the blocks of the snapshot at turn {turn} keep vanishing")

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
