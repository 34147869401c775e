"""The store on a cluster of three real nodes: every script stays within one slot, through its declared keys (a claim
also through keys of the queue's tag, which it puts together); commands find their node, also after a slot has moved or
a node was away."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from server.errors import SessionGone, StoreUnavailable
from server.store import keys as ids
from server.store.embedded import EmbeddedValkey
from server.store.records import Event, LeafBytes, Outcome, Session, Snapshot, Status
from server.store.store import Store, StoreOptions, open_store
from support.store_play import NEW, begin, request, result_of, run_turn, token, turn_after
from support.three_nodes import SLOTS, ThreeNodes

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, valkey: EmbeddedValkey) -> Iterator[ThreeNodes]:
    cluster = ThreeNodes(tmp_path_factory.mktemp("cluster"), valkey.executable)
    asyncio.run(cluster.start())
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture
async def cluster(nodes: ThreeNodes) -> AsyncIterator[Store]:
    """A store that knows one of the nodes. Fails the test that leaves a key without a time to live."""
    options = StoreOptions(nodes.url, prefix=f"test-{secrets.token_hex(6)}", snapshots_kept=1, poll_s=0.25)
    store = await open_store(options)
    yield store
    await store.close()
    queue = store.context.keys.queue
    lives = await nodes.keys(options.prefix)
    assert [name for name, life in lives.items() if life == -1 and not name.startswith(queue)] == []


async def on_each_node(nodes: ThreeNodes, store: Store) -> list[Session]:
    """A session after one turn on each of the nodes, in their order."""
    found: dict[int, Session] = {}
    while len(found) < 3:
        session, _, _ = await run_turn(store)
        found[await nodes.node_of(store.context.keys.session(session.id))] = session
    return [found[i] for i in range(3)]


async def collect(store: Store, generation_id: str) -> list[int]:
    return [event.sequence async for event in store.hub.events(generation_id)]


async def test_a_whole_life_on_each_of_three_nodes(nodes: ThreeNodes, cluster: Store) -> None:
    assert await cluster.sessions.create_session(NEW)
    sessions = await on_each_node(nodes, cluster)
    for session in sessions:
        await whole_life(cluster, session)
    assert len((await cluster.sessions.list_sessions("tenant")).sessions) >= 1


async def whole_life(store: Store, session: Session) -> None:
    for i in range(3):
        session, turn, begun = await run_turn(store, session)
        state = Snapshot("f", "s", i + 1, {"k": LeafBytes("int8", (70, 2), 0, bytes([i + 1]) * 140)})
        assert await store.snapshots.put_snapshot(session, begun.fence, turn.id, state) is Outcome.OK
    [kept] = await store.snapshots.snapshot_turns(session.id)
    assert await store.snapshots.get_snapshot(session.id, kept)
    assert (await store.turns.read_turns(session))[-1] == turn
    history = await store.branches.history(session)
    assert len(history) == 4

    branch = await store.branches.fork(session, history[1].id)
    forked, _, _ = await run_turn(store, branch, (9,))
    assert (branch.head, forked.turns) == (history[1].id, 3)
    session = await store.branches.rewind(session, turns=1)
    assert session.head == history[2].id
    await store.branches.delete("tenant", branch.id)

    generation = await store.sessions.accept(session, request())
    assert (await store.sessions.cancel("tenant", generation.id)).status is Status.CANCELLED

    session = await store.sessions.get_session("tenant", session.id)
    generation = await store.sessions.accept(session, request())
    begun = await begin(store, generation)
    reading = asyncio.create_task(collect(store, generation.id))
    assert await store.turns.append_many([(generation.id, begun.fence, [token(1)])]) == [Outcome.OK]
    turn = turn_after(begun, (1,))
    assert await store.turns.commit(begun, turn, result_of(turn), Event(2, "done", {})) is Outcome.OK
    assert await reading == [1, 2]
    await store.branches.delete("tenant", session.id)
    with pytest.raises(SessionGone):
        await store.sessions.get_session("tenant", session.id)


async def test_the_queue_and_its_workers(cluster: Store) -> None:
    queue = cluster.queue
    await queue.heartbeat("w", {})
    names = [ids.new_generation_id(ids.new_session_id()[5:25]) for _ in range(4)]
    for name in names:
        await queue.intend(name)
    for name, prefer in zip(names, ("w", None, "w", None), strict=True):
        await queue.enqueue(name, prefer)
    assert await queue.forgotten(0, 10) == []
    assert await queue.depth() == 4
    await queue.withdraw(names[2])
    held = await queue.claim("w", 2, 0)
    assert [(d.generation, d.stream) for d in held] == [(names[0], "w"), (names[1], "")]
    waiting = asyncio.create_task(queue.claim("late", 2, 5000))
    assert [d.generation for d in await waiting] == [names[3]]
    waiting = asyncio.create_task(queue.claim("late", 2, 20_000))
    await asyncio.sleep(0)
    await queue.enqueue(names[2])
    [last] = await waiting
    await queue.give_back("late", [last])
    assert await queue.renew("w", held) == []
    taken = await queue.takeover("heir", 0, 100)
    assert {d.generation for d in taken} >= {names[0], names[1]}
    await queue.ack(taken)
    assert await queue.depth() == 1
    assert [w.id for w in await queue.live_workers()] == ["w"]
    for name in ("w", "late", "heir"):
        await queue.retire(name)
    assert await queue.live_workers() == []


async def test_one_batch_for_rows_on_all_nodes_with_scripts_no_node_knows(nodes: ThreeNodes, cluster: Store) -> None:
    begun = [
        await begin(cluster, await cluster.sessions.accept(session, request()))
        for session in await on_each_node(nodes, cluster)
    ]
    async with nodes.clients() as clients:
        for client in clients:
            await client.execute_command("SCRIPT", "FLUSH")
    rows = [(b.generation.id, b.fence, [token(1)]) for b in begun]
    assert await cluster.turns.append_many(rows) == [Outcome.OK] * 3
    assert await cluster.turns.append_many(rows) == [Outcome.OK] * 3
    assert [len(await cluster.hub.read(b.generation.id)) for b in begun] == [1, 1, 1]


async def test_a_session_is_found_while_its_slot_moves_and_afterwards(nodes: ThreeNodes, cluster: Store) -> None:
    session, _, _ = await run_turn(cluster)
    key = cluster.context.keys.session(session.id)
    slot, source = key_slot(key.encode()), await nodes.node_of(key)
    target = (source + 1) % 3
    async with nodes.clients() as clients:
        names = [(await client.execute_command("CLUSTER", "MYID")).decode() for client in clients]
        await clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        await clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
        keys = await clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        await clients[source].execute_command("MIGRATE", "127.0.0.1", nodes.ports[target], "", 0, 5000, "KEYS", *keys)
        # The source says where to ask; twice, in one batch and alone.
        moving = await cluster.sessions.get_session("tenant", session.id)
        assert moving.head == session.head
        for client in (clients[target], clients[source]):
            await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[target])
        moved, _, _ = await run_turn(cluster, moving)
        assert moved.turns == session.turns + 1
        assert await nodes.node_of(key) == target


async def test_a_node_that_dies_is_an_outage_of_its_sessions_only_and_loses_nothing(
    nodes: ThreeNodes, cluster: Store
) -> None:
    sessions = await on_each_node(nodes, cluster)
    begun = [await begin(cluster, await cluster.sessions.accept(s, request())) for s in sessions]
    streams = [asyncio.create_task(collect(cluster, b.generation.id)) for b in begun]
    for b in begun:
        await until_heard(cluster, b.generation.id, nodes)
    for node in range(3):
        await cluster.turns.append_many([(b.generation.id, b.fence, [token(node + 1)]) for b in begun])
        nodes.kill(node)
        with pytest.raises(StoreUnavailable):
            await cluster.sessions.get_session("tenant", sessions[node].id)
        other = sessions[(node + 1) % 3]
        assert (await cluster.sessions.get_session("tenant", other.id)).head == other.head
        await nodes.restart(node)
    for b in begun:
        turn = turn_after(b, (1,))
        assert await cluster.turns.commit(b, turn, result_of(turn), Event(4, "done", {})) is Outcome.OK
    for stream in streams:
        assert await asyncio.wait_for(stream, 20) == [1, 2, 3, 4]
    for session in sessions:
        assert (await cluster.sessions.get_session("tenant", session.id)).turns == 2


async def until_heard(store: Store, generation_id: str, nodes: ThreeNodes) -> None:
    """Until the process listens to this generation's channel, at whichever node."""
    channel = store.context.keys.live(generation_id)
    async with nodes.clients() as clients:
        while not any([(await c.execute_command("PUBSUB", "NUMSUB", channel))[1] for c in clients]):
            await asyncio.sleep(0.005)


async def test_what_is_published_at_any_node_is_heard(nodes: ThreeNodes, cluster: Store) -> None:
    """A script publishes where its keys are, the one subscription is anywhere: the messages alone must do."""
    slow = await open_store(
        StoreOptions(nodes.url, prefix=cluster.context.options.prefix, poll_s=3600.0)  # never looks by itself
    )
    try:
        for session in await on_each_node(nodes, cluster):
            begun = await begin(cluster, await cluster.sessions.accept(session, request()))
            reading = asyncio.create_task(collect(slow, begun.generation.id))
            await until_heard(cluster, begun.generation.id, nodes)
            await cluster.turns.append(begun.generation.id, begun.fence, [token(1)])
            turn = turn_after(begun, (1,))
            await cluster.turns.commit(begun, turn, result_of(turn), Event(2, "done", {}))
            assert await asyncio.wait_for(reading, 10) == [1, 2]
    finally:
        await slow.close()


async def test_a_cluster_that_is_all_away_is_an_outage_then_goes_on(nodes: ThreeNodes, cluster: Store) -> None:
    session, _, _ = await run_turn(cluster)
    for node in range(3):
        nodes.kill(node)
    with pytest.raises(StoreUnavailable):
        await cluster.ping()
    with pytest.raises(StoreUnavailable):
        await cluster.sessions.get_session("tenant", session.id)
    await nodes.restart(0, 1, 2)
    assert (await cluster.sessions.get_session("tenant", session.id)).head == session.head


async def test_a_cluster_of_one_node_by_its_socket_is_an_outage_until_it_has_slots(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    server = EmbeddedValkey(tmp_path, binary=valkey.executable, extra={"cluster-enabled": "yes"})
    await server.start()
    options = StoreOptions(server.url, retries=0)
    try:
        with pytest.raises(StoreUnavailable, match="cluster"):
            await open_store(options)
        client: Any = Redis(unix_socket_path=str(server.socket), protocol=2)
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        await client.aclose()
        async with asyncio.timeout(30):
            while True:
                # It takes a moment to believe that it is the whole cluster.
                with suppress(StoreUnavailable):
                    store = await open_store(options)
                    break
        session, _, _ = await run_turn(store)
        assert session.turns == 1
        await store.close()
    finally:
        await server.stop()
