"""The work queue on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fixtures_store import OpenAnother
from server.store import keys as ids
from server.store import queue as queue_module
from server.store.records import Delivery
from server.store.store import Store


def gid() -> str:
    return ids.new_generation_id(ids.new_session_id()[5:25])


async def enqueued(store: Store, *prefers: str | None, tenant: str = "") -> list[str]:
    """Fresh generations of one tenant, enqueued in this order."""
    names = [gid() for _ in prefers]
    for name, prefer in zip(names, prefers, strict=True):
        await store.queue.enqueue(name, prefer, tenant)
        # Entries carry the server's time in ms.
        entered = await store.context.connection.call("TIME")
        while (await store.context.connection.call("TIME"))[1] // 1000 == entered[1] // 1000:
            pass
    return names


def generations(deliveries: Sequence[Delivery]) -> list[str]:
    return [d.generation for d in deliveries]


async def die(store: Store, worker: str) -> None:
    """Its heartbeat is gone."""
    await store.context.connection.call("DEL", store.context.keys.alive(worker))


async def streams(store: Store) -> dict[str, int]:
    """The workers that have a stream of their own, and how many entries it has."""
    queue, call = store.context.keys.queue, store.context.connection.call
    found = [name.decode() for name in await call("KEYS", f"{queue}:*")]
    return {name.removeprefix(f"{queue}:"): await call("XLEN", name) for name in found}


async def readers(store: Store) -> int:
    """How many workers the group of everybody's stream knows."""
    return len(await store.context.connection.call("XINFO", "CONSUMERS", store.context.keys.queue, "workers"))


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


# A stream before each worker


async def test_a_turn_waits_before_the_worker_that_has_its_session_warm(store: Store) -> None:
    await store.queue.heartbeat("warm", {})
    [name] = await enqueued(store, "warm")
    for again in ("warm", None, "other"):
        await store.queue.enqueue(name, again)
    assert await store.context.connection.call("XLEN", store.context.keys.queue) == 0
    assert await store.queue.depth() == 1
    [delivery] = await store.queue.claim("warm", 4, 0)
    assert (delivery.generation, delivery.stream, delivery.count) == (name, "warm", 1)
    assert await store.queue.depth() == 0
    await store.queue.ack([delivery])
    assert await streams(store) == {"warm": 0}


async def test_a_turn_whose_worker_is_gone_waits_before_everybody(store: Store) -> None:
    await store.queue.heartbeat("gone", {})
    await die(store, "gone")
    name, other = await enqueued(store, "gone", "never seen")
    assert await streams(store) == {}
    assert generations(await store.queue.claim("w", 4, 0)) == [name, other]


async def test_the_oldest_first_of_its_own_and_everybodys_and_never_too_many(store: Store) -> None:
    await store.queue.heartbeat("w", {})
    names = await enqueued(store, None, "w", None, "w", "w", None)
    for part in (names[:1], names[1:4], names[4:]):
        assert generations(await store.queue.claim("w", max(len(part), 1), 0)) == part


async def test_a_store_that_never_met_a_worker_sees_what_waits_before_it(
    store: Store, open_another: OpenAnother
) -> None:
    other = await open_another()
    await store.queue.heartbeat("a", {})
    await store.queue.heartbeat("b", {})
    assert await other.queue.depth() == 0
    names = await enqueued(store, "a", "b", None)
    assert await other.queue.depth() == 3
    await store.queue.claim("a", 1, 0)
    assert await other.queue.depth() == 2
    await store.queue.withdraw(names[1])
    assert await other.queue.depth() == 1
    assert await streams(store) == {"a": 1, "b": 0}


async def test_who_has_room_takes_what_waits_before_a_busy_worker_after_its_own(store: Store) -> None:
    await store.queue.heartbeat("busy", {})
    await store.queue.heartbeat("free", {})
    left, shared, own = await enqueued(store, "busy", None, "free")
    assert generations(await store.queue.claim("free", 2, 0)) == [shared, own]
    # Left alone for a moment, as the other may be about to read it.
    [stolen] = await store.queue.claim("free", 2, 10_000)
    assert (stolen.generation, stolen.stream, stolen.count) == (left, "busy", 1)
    assert await store.queue.renew("free", [stolen]) == []
    assert await store.queue.claim("busy", 2, 0) == []
    await store.queue.ack([stolen])
    assert await streams(store) == {"busy": 0, "free": 1}


async def test_a_worker_that_waits_gets_its_own_before_any_other_who_waits(store: Store) -> None:
    for worker in ("warm", "a", "b"):
        await store.queue.heartbeat(worker, {})
    for _ in range(10):
        waiting = {w: asyncio.create_task(store.queue.claim(w, 1, 10_000)) for w in ("a", "b", "warm")}
        await asyncio.wait(waiting.values(), timeout=0.05)  # they wait
        names = await enqueued(store, "warm")
        assert generations(await waiting["warm"]) == names
        names = await enqueued(store, None, None)
        assert sorted([*generations(await waiting["a"]), *generations(await waiting["b"])]) == sorted(names)


async def test_what_waits_before_a_dead_worker_is_taken_at_once(store: Store, open_another: OpenAnother) -> None:
    await store.queue.heartbeat("dead", {})
    names = await enqueued(store, "dead", "dead")
    await die(store, "dead")
    heir = await open_another()
    assert generations(await heir.queue.claim("heir", 1, 0)) == names[:1]
    assert generations(await heir.queue.claim("heir", 4, 0)) == names[1:]


async def test_more_than_asked_for_is_given_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both streams may get an entry between the look at what is there and the read that waits; each counts alone."""
    await store.queue.heartbeat("w", {})
    names = await enqueued(store, "w", None)

    async def nothing_yet(*_: object) -> list[Delivery]:
        return []

    with monkeypatch.context() as patch:
        patch.setattr(store.queue, "_waiting", nothing_yet)
        first = await store.queue.claim("w", 1, 10_000)
    second = await store.queue.claim("other", 4, 0)
    assert sorted(generations([*first, *second])) == sorted(names)
    assert (len(first), len(second)) == (1, 1)


async def test_what_is_given_back_is_anybodys_at_once_and_still_once_in_the_queue(store: Store) -> None:
    await store.queue.heartbeat("w", {})
    [name] = await enqueued(store, "w")
    given = await store.queue.claim("w", 1, 0)
    await store.queue.give_back("w", given)
    await store.queue.enqueue(name)
    assert await store.queue.depth() == 1
    [delivery] = await store.queue.claim("heir", 4, 0)
    assert (delivery.generation, delivery.stream, delivery.count) == (name, "", 1)
    # Of a delivery that is not one's own any more nothing is given back, and its late end ends nothing.
    await store.queue.give_back("w", [*given, delivery])
    await store.queue.ack(given)
    await store.queue.enqueue(name)
    assert await store.queue.depth() == 0
    assert await store.queue.renew("heir", [delivery]) == []
    await store.queue.withdraw(name)
    assert await store.queue.renew("heir", [delivery]) == [delivery]
    assert await store.queue.takeover("w", 0) == []


async def test_a_withdrawal_finds_what_was_given_back_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.queue.heartbeat("w", {})
    [name] = await enqueued(store, "w")
    held = await store.queue.claim("w", 1, 0)
    call = store.context.connection.call

    async def then_given_back(*command: str) -> object:
        seen = await call(*command)
        await store.queue.give_back("w", held)
        return seen

    monkeypatch.setattr(store.context.connection, "call", then_given_back)
    await store.queue.withdraw(name)
    monkeypatch.undo()
    assert await store.queue.depth() == 0
    assert await store.queue.claim("w", 4, 0) == []


# Tenants


async def test_a_tenant_with_many_turns_holds_nobody_up(store: Store) -> None:
    """Fifty wait, then come one of a second tenant and three of a third: everybody's next is served in each round."""
    many = await enqueued(store, *[None] * 50, tenant="many")
    single = await enqueued(store, None, tenant="single")
    few = await enqueued(store, *[None] * 3, tenant="few")
    assert await store.queue.depth() == 54
    served = []
    while found := await store.queue.claim("w", 2, 0):
        served += generations(found)
        assert await store.queue.depth() == 54 - len(served)
        await store.queue.ack(found)
    assert served[:7] == [many[0], single[0], few[0], many[1], few[1], many[2], few[2]]
    assert served[7:] == many[3:]
    assert await store.queue.claim("w", 4, 0) == []


async def test_many_turns_before_a_warm_worker_hold_nobody_up_there(store: Store) -> None:
    """One turn of a tenant before it and one before everybody are all that may go before another tenant's."""
    await store.queue.heartbeat("warm", {})
    await enqueued(store, *["warm", None] * 10, tenant="many")
    own = await enqueued(store, "warm", tenant="own")
    shared = await enqueued(store, None, tenant="shared")
    served = []
    for _ in range(5):
        served += generations(await store.queue.claim("warm", 1, 0))
    assert {*own, *shared} <= {*served}


async def test_many_turns_of_one_tenant_are_everybodys_at_once(store: Store) -> None:
    """A tenant that is alone is held up by nothing: all that have room get what there is, and wake for it."""
    names = await enqueued(store, *[None] * 9)
    assert generations(await store.queue.claim("a", 4, 0)) == names[:4]
    assert generations(await store.queue.claim("b", 4, 0)) == names[4:8]
    waiting = [asyncio.create_task(store.queue.claim(worker, 1, 10_000)) for worker in ("c", "d", "e")]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    late = [gid() for _ in range(2)]
    for name in late:
        await store.queue.enqueue(name)
    got = [delivery for part in await asyncio.gather(*waiting) for delivery in part]
    assert sorted(generations(got)) == sorted([names[8], *late])


async def test_what_waits_to_enter_is_queued_once_and_can_be_withdrawn(store: Store) -> None:
    first, second, third = await enqueued(store, None, None, None, tenant="t")
    for name in (second, third, second):
        await store.queue.enqueue(name, None, "t")
    assert await store.queue.depth() == 3
    await store.queue.withdraw(second)
    assert await store.queue.depth() == 2
    await store.queue.withdraw(first)  # it was in the stream: the next look lets the next one in
    [delivery] = await store.queue.claim("w", 4, 0)
    assert delivery.generation == third
    await store.queue.enqueue(third, None, "t")
    assert await store.queue.depth() == 0
    await store.queue.withdraw(third)
    assert await store.queue.renew("w", [delivery]) == [delivery]


async def test_a_withdrawal_finds_what_has_entered_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = await enqueued(store, None, None, tenant="t")
    call = store.context.connection.call

    async def then_claimed(*command: str) -> object:
        seen = await call(*command)
        await store.queue.claim("w", 1, 0)
        return seen

    monkeypatch.setattr(store.context.connection, "call", then_claimed)
    await store.queue.withdraw(second)
    monkeypatch.undo()
    assert await store.queue.depth() == 0
    assert await store.queue.claim("w", 4, 0) == []


async def test_what_waits_before_a_dead_or_busy_worker_is_taken(
    store: Store, open_another: OpenAnother, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_STEAL_MS", 0)
    await store.queue.heartbeat("busy", {})
    names = await enqueued(store, *["busy"] * 5, tenant="t")
    heir = await open_another()
    stolen = await heir.queue.claim("heir", 3, 10_000)
    assert generations(stolen) == names[:3]  # all that are old enough, not only the one that had entered
    await die(store, "busy")
    await store.queue.retire("busy")
    rest = generations(await heir.queue.claim("heir", 1, 0))
    rest += generations(await heir.queue.claim("heir", 4, 0))
    assert rest == names[3:]
    gone = await enqueued(store, *["busy"] * 2, tenant="t")
    assert generations(await heir.queue.claim("heir", 4, 0)) == gone


async def test_what_waits_to_enter_a_stream_that_is_gone_enters_everybodys(store: Store) -> None:
    await store.queue.heartbeat("gone", {})
    first, second, third = await enqueued(store, "gone", "gone", "gone", tenant="t")
    await store.queue.withdraw(first)
    await store.queue.retire("gone")
    assert await streams(store) == {}
    assert await store.queue.depth() == 2
    assert generations(await store.queue.claim("w", 4, 0)) == [second]
    assert generations(await store.queue.claim("w", 4, 0)) == [third]


async def test_what_is_given_back_keeps_its_tenant(store: Store) -> None:
    [one] = await enqueued(store, None, tenant="t")
    await store.queue.give_back("w", await store.queue.claim("w", 1, 0))
    await enqueued(store, *[None] * 2, tenant="t")
    assert await store.context.connection.call("ZCARD", store.context.keys.waiting) == 2
    assert 0 < await store.context.connection.call("PTTL", store.context.keys.waiting) <= 3_600_000
    assert generations(await store.queue.claim("w", 1, 0)) == [one]


# Takeover


async def test_deliveries_are_taken_over_from_every_stream(store: Store) -> None:
    for worker in ("a", "b"):
        await store.queue.heartbeat(worker, {})
    names = await enqueued(store, None, "a", "b")
    held = [*await store.queue.claim("a", 2, 0), *await store.queue.claim("b", 1, 0)]
    assert len(held) == 3
    assert await store.queue.takeover("c", 60_000) == []
    taken = await store.queue.takeover("c", 0, 2)
    taken += await store.queue.takeover("c", 0, 1)
    assert {(d.generation, d.stream, d.count) for d in taken} <= {
        *((name, stream, 2) for name, stream in zip(names, ("", "a", "b"), strict=True)),
        *((name, stream, 3) for name, stream in zip(names, ("", "a", "b"), strict=True)),
    }
    assert len(await store.queue.takeover("a", 0)) == 3
    assert len(await store.queue.renew("b", held)) == 3
    assert len(await store.queue.renew("c", held)) == 3
    assert await store.queue.renew("a", held) == []


async def test_a_dead_workers_deliveries_are_taken_long_before_a_live_ones(store: Store) -> None:
    for worker in ("dead", "live"):
        await store.queue.heartbeat(worker, {})
    mine, others = await enqueued(store, "dead", "live")
    await store.queue.claim("dead", 1, 0)
    await store.queue.claim("live", 1, 0)
    await die(store, "dead")
    taken: list[Delivery] = []
    async with asyncio.timeout(10):
        while not taken:
            taken = await store.queue.takeover("heir", 60_000)
            await store.queue.heartbeat("live", {})
    assert [(d.generation, d.count) for d in taken] == [(mine, 2)]
    assert await store.queue.takeover("heir", 60_000) == []
    assert others not in generations(taken)


async def test_a_dead_workers_stream_goes_once_it_is_empty(store: Store) -> None:
    for worker in ("dead", "live"):
        await store.queue.heartbeat(worker, {})
    await enqueued(store, None, "dead", "dead", "live")
    held = await store.queue.claim("dead", 2, 0)
    await store.queue.claim("live", 0, 0)
    await die(store, "dead")
    taken = await store.queue.takeover("heir", 0)
    assert sorted(generations(taken)) == sorted(generations(held))
    assert (await streams(store))["dead"] == 2  # one in the heir's hands, one that nobody has got
    waited = await store.queue.claim("heir", 4, 0)
    assert [d.stream for d in waited] == ["dead"]
    await store.queue.ack([*taken, *waited])
    assert await store.queue.takeover("heir", 0) == []
    assert "dead" not in await streams(store)
    assert await readers(store) == 2


async def test_a_worker_that_comes_back_from_the_dead_has_a_stream_again(store: Store) -> None:
    waiting = asyncio.create_task(store.queue.claim("w", 1, 20_000))
    while "w" not in await streams(store):
        await asyncio.sleep(0)
    for _ in range(2):
        assert await store.queue.takeover("other", 0) == []
        await store.context.connection.call("DEL", store.context.keys.stream("w"), store.context.keys.queue)
    await store.queue.heartbeat("w", {})
    [name] = await enqueued(store, "w")
    assert generations(await waiting) == [name]


async def test_a_worker_that_retires_leaves_nothing_but_what_waits(store: Store) -> None:
    for worker in ("idle", "left"):
        await store.queue.heartbeat(worker, {})
        await store.queue.claim(worker, 1, 0)
    [name] = await enqueued(store, "left")
    await store.queue.retire("idle")
    await store.queue.retire("left")
    await store.queue.retire("never seen")
    assert await streams(store) == {"left": 1}
    assert await readers(store) == 1
    assert generations(await store.queue.claim("next", 1, 0)) == [name]


async def test_streams_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_MAXLEN", 10)
    await store.queue.heartbeat("w", {})
    await enqueued(store, *[None, "w"] * 300)
    assert (await streams(store))["w"] < 300
    assert await store.context.connection.call("XLEN", store.context.keys.queue) < 300


# Notes of what is about to be accepted


async def test_a_turn_noted_and_never_queued_is_found_after_a_while(store: Store, open_another: OpenAnother) -> None:
    now = 1000.0
    timed = (await open_another(clock=lambda: now)).queue
    lost, queued, ended, dropped, late = (gid() for _ in range(5))
    for name in (lost, queued, ended, dropped):
        await timed.intend(name)
        now += 1
    await timed.enqueue(queued)
    await timed.withdraw(ended)
    assert await timed.forgotten(60.0, 10) == []
    now += 60
    await timed.intend(late)
    assert await timed.forgotten(60.0, 1) == [lost]
    assert await timed.forgotten(60.0, 10) == [lost, dropped]
    await timed.dismiss(dropped)
    await timed.enqueue(lost)
    assert await timed.forgotten(0.0, 10) == [late]
    assert generations(await timed.claim("w", 9, 0)) == [queued, lost]
    assert 0 < await store.context.connection.call("PTTL", store.context.keys.intended) <= 3_600_000


async def test_notes_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "_MAXLEN", 3)
    for _ in range(5):
        await store.queue.intend(gid())
    assert await store.context.connection.call("ZCARD", store.context.keys.intended) == 3
