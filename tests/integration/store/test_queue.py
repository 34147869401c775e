"""The work queue on a real store."""

from __future__ import annotations

import asyncio

from server.store import keys as ids
from server.store.store import Store


def gid() -> str:
    return ids.new_generation_id(ids.new_session_id()[5:25])


async def test_each_delivery_goes_to_one_worker(store: Store) -> None:
    names = [gid() for _ in range(10)]
    for name in names:
        await store.queue.enqueue(name)
    assert await store.queue.depth() == 10
    parts = await asyncio.gather(*(store.queue.claim(f"w{i}", 4, 0) for i in range(4)))
    assert sorted(d.generation for part in parts for d in part) == sorted(names)
    assert await store.queue.depth() == 0
    assert await store.queue.claim("w9", 4, 0) == []


async def test_an_enqueue_is_idempotent_until_acknowledged(store: Store) -> None:
    name = gid()
    for _ in range(3):
        await store.queue.enqueue(name)
    [delivery] = await store.queue.claim("w", 4, 0)
    await store.queue.enqueue(name)
    assert await store.queue.claim("w", 4, 0) == []
    await store.queue.ack([delivery])
    assert await store.context.connection.call("XLEN", store.context.keys.queue) == 0
    await store.queue.enqueue(name)
    assert [d.generation for d in await store.queue.claim("w", 4, 0)] == [name]


async def test_a_claim_waits_for_work_longer_than_a_read_may_block(store: Store) -> None:
    # Half the connection's timeout is the longest single read; this wait takes several.
    store.context.connection.timeout_s = 0.05
    waiting = asyncio.create_task(store.queue.claim("w", 1, 10_000))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    name = gid()
    await store.queue.enqueue(name)
    assert [d.generation for d in await asyncio.wait_for(waiting, 10)] == [name]


async def test_a_dead_workers_delivery_is_taken_over_and_counted(store: Store) -> None:
    name = gid()
    await store.queue.enqueue(name)
    await store.queue.claim("dead", 1, 0)
    assert await store.queue.takeover("heir", 60_000) == []
    counts = []
    for heir in ("heir", "third", "fourth"):
        [taken] = await store.queue.takeover(heir, 0)
        assert taken.generation == name
        counts.append(taken.count)
    assert counts == [2, 3, 4]


async def test_renewing_keeps_ones_own_and_never_takes_back(store: Store) -> None:
    for _ in range(2):
        await store.queue.enqueue(gid())
    mine = await store.queue.claim("w", 2, 0)
    assert await store.queue.renew("w", mine) == []
    [taken] = await store.queue.takeover("heir", 0, count=1)
    lost = await store.queue.renew("w", mine)
    assert [d.id for d in lost] == [taken.id]
    assert await store.queue.renew("heir", [taken]) == []
    assert await store.queue.renew("w", []) == []
    await store.queue.ack(mine)
    assert [d.id for d in await store.queue.renew("w", mine)] == [d.id for d in mine]


async def test_renewing_does_not_count_as_a_delivery(store: Store) -> None:
    await store.queue.enqueue(gid())
    mine = await store.queue.claim("w", 1, 0)
    for _ in range(5):
        await store.queue.renew("w", mine)
    [taken] = await store.queue.takeover("heir", 0)
    assert taken.count == 2


async def test_the_group_is_made_again_in_an_emptied_store(store: Store) -> None:
    await store.context.connection.call("DEL", store.context.keys.queue)
    assert await store.queue.depth() == 0
    name = gid()
    await store.queue.enqueue(name)
    assert await store.queue.depth() == 1
    assert [d.generation for d in await store.queue.claim("w", 1, 0)] == [name]


async def test_workers_live_by_their_heartbeat(store: Store) -> None:
    assert await store.queue.live_workers() == []
    await store.queue.heartbeat("w1", {"slots": 8})
    await store.queue.heartbeat("w2", {"slots": 4})
    assert {w.id: w.info["slots"] for w in await store.queue.live_workers()} == {"w1": 8, "w2": 4}
    await store.context.connection.call("PEXPIRE", store.context.keys.alive("w1"), 0)
    assert [w.id for w in await store.queue.live_workers()] == ["w2"]
    assert await store.context.connection.call("ZCARD", store.context.keys.workers) == 1
    await store.queue.retire("w2")
    assert await store.queue.live_workers() == []
