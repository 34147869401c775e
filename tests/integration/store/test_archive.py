"""Sessions as files on a real store: out, in again, equal; and nothing is left of an import that fails."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from safetensors.torch import load

from fixtures_store import OpenAnother, own_keys
from server.errors import CorruptState, PerennialError, StoreUnavailable
from server.store import keys as ids
from server.store.archive_format import read_archive
from server.store.records import Begun, LeafBytes, NewSession, Outcome, Session, Snapshot
from server.store.scripts import Call, Value
from server.store.store import Store
from support.store_play import NEW, run_turn

OTHER = NewSession("another", "tiny", "print-1", 4096)


def snapshot(position: int, pending: int) -> Snapshot:
    return Snapshot(
        "print-1",
        "spec-1",
        position,
        {
            "position": LeafBytes("int64", (), None, position.to_bytes(8, "little")),
            "pending": LeafBytes("int64", (), None, (pending + 1).to_bytes(8, "little")),
            "k": LeafBytes("bfloat16", (2, 128, 4), 1, random.Random(position).randbytes(2048)),
            "M": LeafBytes("float32", (3,), None, random.Random(-position).randbytes(12)),
        },
    )


async def grow(store: Store, start: Session | NewSession, turns: int, saved: Sequence[int] = ()) -> Session:
    """`turns` more turns; after those numbered in `saved` comes a snapshot."""
    for i in range(turns):
        session, _, begun = await run_turn(store, start, (i + 1, i + 2, i + 3))
        if i in saved:
            await save(store, session, begun)
        start = session
    return await store.sessions.get_session(session.tenant, session.id)


async def save(store: Store, session: Session, begun: Begun) -> None:
    assert session.head is not None
    [*_, last] = await store.turns.read_turns(session, stop=frozenset({begun.session.head or ""}))
    state = snapshot(session.length - 1, last.tokens[-1])
    assert await store.snapshots.put_snapshot(session, begun.fence, session.head, state) is Outcome.OK


async def content(store: Store, session: Session) -> Any:
    """All that a worker could read of a session, without its ids."""
    archive = read_archive(await store.archive.export(session))
    number = {turn.id: i for i, turn in enumerate(archive.turns)}
    turns = [replace_ids(turn.model_dump(), number) for turn in archive.turns]
    states = {
        number[name]: (s.position, {n: (x.dtype, x.shape, x.ring_axis, bytes(x.data)) for n, x in s.leaves.items()})
        for name, s in archive.snapshots.items()
    }
    return turns, archive.tokens.tolist(), states, archive.turns_made, (session.length, session.end, session.kept)


def replace_ids(turn: dict[str, Any], number: dict[str, int]) -> dict[str, Any]:
    return turn | {"id": number[turn["id"]], "parent": number.get(turn["parent"])}


async def there_and_back(store: Store, session: Session) -> Session:
    archive = read_archive(await store.archive.export(session))
    back = await store.archive.import_(OTHER, archive)
    assert ids.lineage_of(back.id) != ids.lineage_of(session.id)
    assert (back.tenant, back.running, back.kept, back.turns) == ("another", None, session.kept, session.turns)
    assert await content(store, back) == await content(store, session)
    return back


@pytest.mark.parametrize("saved", [(), (1,), (0, 2, 4), (4,)])
async def test_a_session_comes_back_equal_under_new_ids(store: Store, saved: tuple[int, ...]) -> None:
    session = await grow(store, NEW, 5, saved)
    back = await there_and_back(store, session)
    assert back.stored_bytes == session.stored_bytes
    page = await store.sessions.list_sessions("another")
    assert [one.id for one in page.sessions] == [back.id]


async def test_an_empty_session_comes_back_empty(store: Store) -> None:
    back = await there_and_back(store, await store.sessions.create_session(NEW))
    assert (back.head, back.length) == (None, 0)


async def test_what_retention_gave_up_is_not_in_the_file(store: Store, open_another: OpenAnother) -> None:
    few = await open_another(turns_kept=2, snapshots_kept=2)
    session = await grow(few, NEW, 7, saved=(1, 3, 5, 6))
    assert 2 <= session.kept < session.turns == 7
    back = await there_and_back(few, session)
    history = await few.branches.history(back)
    assert (len(history), history[0].parent is None) == (session.kept, False)
    # It can be gone on with, forked at what is oldest, and rewound, like any other.
    forked = await few.branches.fork(back, history[0].id)
    assert forked.length == history[0].length
    assert (await few.branches.rewind(back, turns=1)).head == history[-2].id


async def test_an_imported_session_goes_on(store: Store) -> None:
    back = await there_and_back(store, await grow(store, NEW, 3, saved=(1,)))
    later = await grow(store, back, 2, saved=(1,))
    assert (later.turns, later.length) == (5, 15)
    await there_and_back(store, later)


async def test_a_fork_s_file_has_its_own_branch_only(store: Store) -> None:
    session = await grow(store, NEW, 3, saved=(0, 2))
    history = await store.branches.history(session)
    forked = await store.branches.fork(session, history[1].id)
    forked = await grow(store, forked, 1)
    back = await there_and_back(store, forked)
    assert (back.length, back.kept, back.origin) == (9, 3, None)
    assert len(read_archive(await store.archive.export(back)).snapshots) == 1


async def test_a_researcher_can_open_it(store: Store) -> None:
    session = await grow(store, NEW, 2, saved=(1,))
    tensors = load(await store.archive.export(session))
    assert tensors["tokens"].tolist() == [1, 2, 3, 2, 3, 4]
    assert int(tensors["snapshots/0/position"]) == 5
    assert tensors["snapshots/0/k"].shape == (2, 128, 4)


async def test_a_damaged_session_is_not_exported(store: Store) -> None:
    session = await grow(store, NEW, 2, saved=(1,))
    key = store.context.keys.blocks(ids.lineage_of(session.id))
    [name, *_] = await store.context.connection.call("HKEYS", key)
    await store.context.connection.call("HSET", key, name, b"x")
    with pytest.raises(CorruptState, match="corrupt"):
        await store.archive.export(session)


Run = Callable[[Call, Sequence[Value], Sequence[Value]], Awaitable[Any]]


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4, "import"])
async def test_an_import_that_fails_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, fails_at: int | str
) -> None:
    archive = read_archive(await store.archive.export(await grow(store, NEW, 3, saved=(1, 2))))
    before = set(await own_keys(store))
    run, calls = store.context.connection.run, list[str]()

    async def failing(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        calls.append(call.name)
        if call.name == fails_at or len(calls) == fails_at:
            if call.name == "import":
                await run(call, keys, args)  # done, and the answer lost
            raise StoreUnavailable
        return await run(call, keys, args)

    monkeypatch.setattr(store.context.connection, "run", failing)
    with pytest.raises(StoreUnavailable):
        await store.archive.import_(OTHER, archive)
    assert set(await own_keys(store)) == before


async def test_an_import_that_dies_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = read_archive(await store.archive.export(await grow(store, NEW, 3, saved=(1, 2))))
    before = set(await own_keys(store))
    run, call = store.context.connection.run, store.context.connection.call

    async def dying(script: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        if script.name == "import":
            raise StoreUnavailable
        return await run(script, keys, args)

    async def deaf(*command: Any) -> Any:
        if command[0] == "DEL":
            raise StoreUnavailable
        return await call(*command)

    monkeypatch.setattr(store.context.connection, "run", dying)
    monkeypatch.setattr(store.context.connection, "call", deaf)
    with pytest.raises(StoreUnavailable):
        await store.archive.import_(OTHER, archive)
    left = set(await own_keys(store)) - before
    assert len(left) == 3  # turns, snapshots, blocks; no session
    lives = [await call("PTTL", name) for name in left]
    assert all(0 < life <= 600_000 for life in lives)


async def test_parts_that_vanish_are_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = read_archive(await store.archive.export(await grow(store, NEW, 3, saved=(1, 2))))
    before = set(await own_keys(store))
    run = store.context.connection.run

    async def losing(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        if call.name == "import":
            [name, *_] = await store.context.connection.call("HKEYS", keys[4])
            await store.context.connection.call("HDEL", keys[4], name)
        return await run(call, keys, args)

    monkeypatch.setattr(store.context.connection, "run", losing)
    with pytest.raises(PerennialError, match="lost what was being imported"):
        await store.archive.import_(OTHER, archive)
    assert set(await own_keys(store)) == before


async def test_a_cancelled_import_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = read_archive(await store.archive.export(await grow(store, NEW, 3, saved=(1, 2))))
    before = set(await own_keys(store))
    run, reached = store.context.connection.run, asyncio.Event()

    async def stuck(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        if call.name == "import":
            reached.set()
            await asyncio.Event().wait()
        return await run(call, keys, args)

    monkeypatch.setattr(store.context.connection, "run", stuck)
    importing = asyncio.create_task(store.archive.import_(OTHER, archive))
    await reached.wait()
    importing.cancel()
    await asyncio.gather(importing, return_exceptions=True)
    assert set(await own_keys(store)) == before


async def test_a_snapshot_pruned_while_it_is_exported_is_looked_for_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await grow(store, NEW, 4, saved=(1, 3))
    real, missed = store.snapshots.snapshot_turns, list[str]()

    async def stale(session_id: str) -> frozenset[str]:
        seen = await real(session_id)
        if missed:
            return seen
        # As if it had been pruned after it was listed.
        history = await store.branches.history(session)
        missed.append(history[0].id)
        return seen | {history[0].id}

    monkeypatch.setattr(type(store.snapshots), "snapshot_turns", lambda _, name: stale(name))
    archive = read_archive(await store.archive.export(session))
    assert missed
    assert len(archive.snapshots) == 2
