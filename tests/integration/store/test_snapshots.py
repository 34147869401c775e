"""Snapshots on a real store: bit-exact, shared, bounded, late, and named when damaged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from server.errors import CorruptState
from server.store import keys as ids
from server.store.blocks import BLOCK, hashes, read_manifest
from server.store.records import Begun, Event, LeafBytes, Outcome, Session, Snapshot
from server.store.scripts import Call, Value
from server.store.store import Store
from support.store_play import begin, request, result_of, run_turn, turn_after

RING, WIDTH = 4 * BLOCK, 16


def snapshot(position: int) -> Snapshot:
    """A state that has read `position` tokens: a ring whose rows depend on the position written, and two leaves."""
    ring = bytearray(RING * WIDTH)
    for p in range(max(0, position - RING), position):
        row = p % RING
        ring[row * WIDTH : (row + 1) * WIDTH] = random.Random(p).randbytes(WIDTH)
    return Snapshot(
        "print-1",
        "spec-1",
        position,
        {
            "position": LeafBytes("int64", (), None, position.to_bytes(8, "little")),
            "k": LeafBytes("float32", (RING, WIDTH // 4), 0, bytes(ring)),
            "memory": LeafBytes("float32", (4,), None, random.Random(-position).randbytes(16)),
        },
    )


def same(a: Snapshot, b: Snapshot) -> bool:
    plain = [
        replace(s, leaves={n: replace(leaf, data=bytes(leaf.data)) for n, leaf in s.leaves.items()}) for s in (a, b)
    ]
    return plain[0] == plain[1]


async def put(store: Store, session: Session, begun: Begun, state: Snapshot) -> None:
    assert session.head is not None
    assert await store.snapshots.put_snapshot(session, begun.fence, session.head, state) is Outcome.OK


async def blocks_of(store: Store, session: Session) -> dict[str, bytes]:
    stored = await store.context.connection.call("HGETALL", store.context.keys.blocks(ids.lineage_of(session.id)))
    return {name.decode(): blob for name, blob in stored.items()}


async def test_a_snapshot_comes_back_bit_by_bit(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    state = snapshot(100)
    await put(store, session, begun, state)
    back = await store.snapshots.get_snapshot(session.id, turn.id)
    assert back is not None
    assert same(back, state)
    assert await store.snapshots.snapshot_turns(session.id) == {turn.id}
    assert await store.snapshots.get_snapshot(session.id, ids.new_turn_id(ids.lineage_of(session.id))) is None


async def test_full_blocks_are_shared_and_empty_ones_not_stored(store: Store) -> None:
    session, _, begun = await run_turn(store)
    await put(store, session, begun, snapshot(BLOCK + 3))
    first = await blocks_of(store, session)
    assert len(first) == 2 + 2  # the full block, the begun one; position and memory
    session, _, begun = await run_turn(store, session)
    await put(store, session, begun, snapshot(2 * BLOCK + 3))
    second = await blocks_of(store, session)
    assert len(second) == len(first) + 2 + 2


async def test_snapshots_are_bounded_and_leave_no_orphans(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    await put(store, session, begun, snapshot(10))
    kept = store.context.options.snapshots_kept
    for i in range(2, kept + 6):
        session, turn, begun = await run_turn(store, session)
        await put(store, session, begun, snapshot(10 * i * i))
    turns = await store.snapshots.snapshot_turns(session.id)
    assert len(turns) == kept
    assert turn.id in turns
    found = await asyncio.gather(*(store.snapshots.get_snapshot(session.id, name) for name in turns))
    positions = sorted(s.position for s in found if s is not None)
    assert len(positions) == kept
    for state in found:
        assert state is not None
        assert same(state, snapshot(state.position))
    # At most: per snapshot its own position and memory, and the blocks of its ring.
    assert len(await blocks_of(store, session)) <= kept * (2 + RING // BLOCK)


def named_by(manifests: dict[bytes, bytes]) -> set[str]:
    return {block for turn, data in manifests.items() for block in hashes(read_manifest(turn.decode(), data))}


async def manifests_of(store: Store, session: Session) -> dict[bytes, bytes]:
    key = store.context.keys.snaps(ids.lineage_of(session.id))
    return dict(await store.context.connection.call("HGETALL", key))


async def test_a_snapshot_may_be_put_while_the_next_turn_runs(store: Store) -> None:
    session, turn, done = await run_turn(store)
    for i in range(1, 4):
        generation = await store.sessions.accept(session, request())
        newer = await begin(store, generation, "newer")
        assert newer.fence != done.fence
        assert await store.snapshots.put_snapshot(session, done.fence, turn.id, snapshot(100 * i)) is Outcome.OK
        back = await store.snapshots.get_snapshot(session.id, turn.id)
        assert back is not None
        assert same(back, snapshot(100 * i))
        turn = turn_after(newer, (1, 2, 3))
        assert await store.turns.commit(newer, turn, result_of(turn), Event(1, "done", {})) is Outcome.OK
        session, done = await store.sessions.get_session("tenant", session.id), newer
    manifests = await manifests_of(store, session)
    assert len(manifests) == 3
    assert set(await blocks_of(store, session)) == named_by(manifests)


async def test_blocks_that_no_manifest_names_go_with_the_next_snapshot(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    key = store.context.keys.blocks(ids.lineage_of(session.id))
    # What a writer left that died before its manifest.
    await store.context.connection.call("HSET", key, "0" * 32, b"orphan")
    await put(store, session, begun, snapshot(70))
    manifests = await manifests_of(store, session)
    assert set(await blocks_of(store, session)) == named_by(manifests)
    # A second writer of the same turn whose state differs: its blocks are named by nothing.
    await put(store, session, begun, snapshot(71))
    assert await manifests_of(store, session) == manifests
    assert set(await blocks_of(store, session)) == named_by(manifests)
    assert set(manifests) == {turn.id.encode()}


async def test_a_damaged_manifest_goes_with_the_next_snapshot(store: Store) -> None:
    session, old, begun = await run_turn(store)
    await put(store, session, begun, snapshot(10))
    key = store.context.keys.snaps(ids.lineage_of(session.id))
    await store.context.connection.call("HSET", key, old.id, b"{")
    session, turn, begun = await run_turn(store, session)
    await put(store, session, begun, snapshot(20))
    assert await store.snapshots.snapshot_turns(session.id) == {turn.id}
    assert set(await blocks_of(store, session)) == named_by(await manifests_of(store, session))


async def test_writers_of_one_lineage_do_not_lose_each_others_blocks(store: Store) -> None:
    session, first, begun = await run_turn(store)
    later, second, _ = await run_turn(store, session)
    puts = [(session, first.id, snapshot(100)), (later, second.id, snapshot(300))]
    outcomes = await asyncio.gather(*(store.snapshots.put_snapshot(s, begun.fence, t, state) for s, t, state in puts))
    assert outcomes == [Outcome.OK, Outcome.OK]
    for _, name, state in puts:
        back = await store.snapshots.get_snapshot(session.id, name)
        assert back is not None
        assert same(back, state)


async def test_a_manifest_that_comes_while_orphans_are_sought_keeps_its_blocks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, first, begun = await run_turn(store)
    later, second, _ = await run_turn(store, session)
    run, between = store.context.connection.run, list[str]()

    async def interrupted(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        if call.name == "prune" and not between:
            between.append(call.name)
            await put(store, later, begun, snapshot(300))
            # The pruner saw these blocks and not the manifest that names them by now.
            blocks = await blocks_of(store, later)
            assert await run(call, keys[:4], [args[0], 0, 0, len(blocks), 0, *blocks]) == b"CHANGED"
            return b"CHANGED"
        return await run(call, keys, args)

    monkeypatch.setattr(store.context.connection, "run", interrupted)
    key = store.context.keys.blocks(ids.lineage_of(session.id))
    await store.context.connection.call("HSET", key, "0" * 32, b"orphan")
    await put(store, session, begun, snapshot(100))
    assert between
    for name, position in ((first.id, 100), (second.id, 300)):
        back = await store.snapshots.get_snapshot(session.id, name)
        assert back is not None
        assert same(back, snapshot(position))


async def test_a_deleted_session_takes_no_snapshot(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    await store.branches.delete("tenant", session.id)
    assert await store.snapshots.put_snapshot(session, begun.fence, turn.id, snapshot(100)) is Outcome.ENDED
    assert await store.snapshots.snapshot_turns(session.id) == frozenset()
    assert await blocks_of(store, session) == {}


async def test_only_a_committed_turn_has_a_snapshot(store: Store) -> None:
    session, _, begun = await run_turn(store)
    unknown = ids.new_turn_id(ids.lineage_of(session.id))
    assert await store.snapshots.put_snapshot(session, begun.fence, unknown, snapshot(5)) is Outcome.ENDED
    assert await blocks_of(store, session) == {}


async def test_the_first_snapshot_of_a_turn_stays(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    await put(store, session, begun, snapshot(5))
    await put(store, session, begun, snapshot(6))
    back = await store.snapshots.get_snapshot(session.id, turn.id)
    assert back is not None
    assert back.position == 5


@pytest.mark.parametrize("damage", ["drop", "alter", "cut"])
async def test_a_damaged_block_is_named(store: Store, damage: str) -> None:
    session, turn, begun = await run_turn(store)
    await put(store, session, begun, snapshot(2 * BLOCK))
    key = store.context.keys.blocks(ids.lineage_of(session.id))
    for name, blob in (await blocks_of(store, session)).items():
        if damage == "drop":
            await store.context.connection.call("HDEL", key, name)
        elif damage == "alter":
            await store.context.connection.call("HSET", key, name, bytes([blob[0] ^ 1]) + blob[1:])
        else:
            await store.context.connection.call("HSET", key, name, blob[:-1])
        with pytest.raises(CorruptState, match=rf"{turn.id} is corrupt: (leaf|block \d+)"):
            await store.snapshots.get_snapshot(session.id, turn.id)
        await store.context.connection.call("HSET", key, name, blob)
    assert await store.snapshots.get_snapshot(session.id, turn.id) is not None


async def test_a_damaged_manifest_is_named(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    await put(store, session, begun, snapshot(5))
    key = store.context.keys.snaps(ids.lineage_of(session.id))
    await store.context.connection.call("HSET", key, turn.id, b"{")
    with pytest.raises(CorruptState, match=f"{turn.id} is corrupt: its manifest"):
        await store.snapshots.get_snapshot(session.id, turn.id)


async def test_blocks_that_vanish_under_a_writer_are_sent_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    session, turn, begun = await run_turn(store)
    key = store.context.keys.blocks(ids.lineage_of(session.id))
    run, emptied = store.context.connection.run, list[str]()

    async def emptying(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        if call.name == "put_manifest" and not emptied:
            emptied.append(call.name)
            await store.context.connection.call("DEL", key)
        return await run(call, keys, args)

    monkeypatch.setattr(store.context.connection, "run", emptying)
    await put(store, session, begun, snapshot(70))
    assert emptied
    back = await store.snapshots.get_snapshot(session.id, turn.id)
    assert back is not None
    assert same(back, snapshot(70))


async def test_deleting_a_session_takes_its_snapshots(store: Store) -> None:
    session, _, begun = await run_turn(store)
    await put(store, session, begun, snapshot(70))
    await store.branches.delete("tenant", session.id)
    assert await blocks_of(store, session) == {}
