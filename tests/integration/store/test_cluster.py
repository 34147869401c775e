"""The store on a server in cluster mode: every script stays within one slot, through its declared keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from server.errors import SessionGone, StoreUnavailable
from server.store.connection import Connection
from server.store.embedded import EmbeddedValkey
from server.store.records import Event, LeafBytes, Outcome, Snapshot, Status
from server.store.scripts import Scripts
from server.store.store import Store, StoreOptions, open_store
from support.store_play import NEW, begin, request, result_of, run_turn, token, turn_after


@pytest.fixture
async def cluster(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> AsyncIterator[Store]:
    """A cluster of one node that has all slots."""
    mode = {"cluster-enabled": "yes"}
    server = EmbeddedValkey(tmp_path_factory.mktemp("cluster"), binary=valkey.executable, extra=mode)
    await server.start()
    options = StoreOptions(server.url, snapshots_kept=1)
    try:
        store = await until_open(options)
        yield store
        await store.close()
    finally:
        await server.stop()


async def until_open(options: StoreOptions) -> Store:
    """The node takes a moment to believe that it is the whole cluster."""
    connection = Connection(options.url, Scripts({}, ()), timeout_s=5.0, retries=0)
    await connection.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    await connection.close()
    while True:
        with suppress(StoreUnavailable):
            return await open_store(options)


async def test_a_whole_life_stays_within_its_slots(cluster: Store) -> None:
    session, turn, begun = await run_turn(cluster)
    assert await cluster.sessions.create_session(NEW)
    for i in range(3):
        state = Snapshot("f", "s", i + 1, {"k": LeafBytes("int8", (70, 2), 0, bytes([i + 1]) * 140)})
        assert session.head is not None
        assert await cluster.snapshots.put_snapshot(session, begun.fence, session.head, state) is Outcome.OK
        session, turn, begun = await run_turn(cluster, session)
    [kept] = await cluster.snapshots.snapshot_turns(session.id)
    assert await cluster.snapshots.get_snapshot(session.id, kept)
    assert (await cluster.turns.read_turns(session))[-1] == turn
    assert len((await cluster.sessions.list_sessions("tenant")).sessions) == 2

    generation = await cluster.sessions.accept(session, request())
    assert (await cluster.sessions.cancel("tenant", generation.id)).status is Status.CANCELLED
    deliveries = await cluster.queue.claim("w", 100, 0)
    assert deliveries
    assert generation.id not in {d.generation for d in deliveries}
    assert await cluster.queue.renew("w", deliveries) == []
    assert len(await cluster.queue.takeover("heir", 0, 100)) == len(deliveries)
    await cluster.queue.ack(deliveries)
    assert await cluster.queue.depth() == 0
    await cluster.queue.heartbeat("w", {})
    assert len(await cluster.queue.live_workers()) == 1

    generation = await cluster.sessions.accept(await cluster.sessions.get_session("tenant", session.id), request())
    begun = await begin(cluster, generation)
    reading = asyncio.create_task(collect(cluster, generation.id))
    assert await cluster.turns.append_many([(generation.id, begun.fence, [token(1)])]) == [Outcome.OK]
    turn = turn_after(begun, (1,))
    assert await cluster.turns.commit(begun, turn, result_of(turn), Event(2, "done", {})) is Outcome.OK
    assert await reading == [1, 2]
    await cluster.branches.delete("tenant", session.id)
    with pytest.raises(SessionGone):
        await cluster.sessions.get_session("tenant", session.id)


async def collect(store: Store, generation_id: str) -> list[int]:
    return [event.sequence async for event in store.hub.events(generation_id)]
