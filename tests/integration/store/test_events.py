"""The events hub on a real store: order, exactly once, and what happens when messages or the store get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures_store import OpenAnother
from server.errors import CorruptState, GenerationNotFound, StoreUnavailable
from server.store import keys as ids
from server.store.embedded import EmbeddedValkey
from server.store.records import Begun, Event, Outcome
from server.store.store import Store, StoreOptions, open_store
from support.store_play import NEW, begin, request, result_of, token, turn_after, until_subscribed


async def started(store: Store) -> Begun:
    return await begin(store, await store.sessions.accept(NEW, request()))


async def finish(store: Store, begun: Begun, sequence: int) -> None:
    turn = turn_after(begun, (1, 2))
    assert await store.turns.commit(begun, turn, result_of(turn), Event(sequence, "done", {})) is Outcome.OK


async def gather(store: Store, generation_id: str, after: int = 0) -> list[int]:
    return [event.sequence async for event in store.hub.events(generation_id, after)]


async def say(store: Store, begun: Begun, *sequences: int) -> None:
    events = [token(sequence) for sequence in sequences]
    assert await store.turns.append(begun.generation.id, begun.fence, events) is Outcome.OK


async def silently(store: Store, begun: Begun, *sequences: int) -> None:
    """Into the stream, with nothing published: a message that got lost."""
    for sequence in sequences:
        key = store.context.keys.events(begun.generation.id)
        await store.context.connection.call(
            "XADD", key, f"{sequence}-0", "type", "token", "data", f'{{"text":"x","token_ids":[{sequence}]}}'
        )
        await store.context.connection.call("PEXPIRE", key, 60_000)


async def test_live_events_arrive_in_order_and_end_at_done(store: Store) -> None:
    begun = await started(store)
    reading = asyncio.create_task(gather(store, begun.generation.id))
    await until_subscribed(store, store.context.keys.live(begun.generation.id))
    for sequence in range(1, 20):
        await say(store, begun, sequence)
    await finish(store, begun, 20)
    assert await reading == list(range(1, 21))


async def test_two_replicas_see_the_same(store: Store, open_another: OpenAnother) -> None:
    other = await open_another()
    begun = await started(store)
    reading = [asyncio.create_task(gather(s, begun.generation.id)) for s in (store, other, other)]
    await say(store, begun, 1, 2)
    await until_subscribed(store, store.context.keys.live(begun.generation.id), 2)
    await say(store, begun, 3)
    await finish(store, begun, 4)
    assert await asyncio.gather(*reading) == [[1, 2, 3, 4]] * 3


@pytest.mark.parametrize("after", [-5, 0, 1, 3, 4, 5, 99])
async def test_a_stream_resumes_after_any_event(store: Store, after: int) -> None:
    begun = await started(store)
    await say(store, begun, 1, 2, 3)
    await finish(store, begun, 4)
    assert await gather(store, begun.generation.id, after) == list(range(max(after, 0) + 1, 5))


async def test_more_events_than_one_page(store: Store) -> None:
    begun = await started(store)
    await say(store, begun, *range(1, 700))
    await finish(store, begun, 700)
    assert await gather(store, begun.generation.id) == list(range(1, 701))


async def test_a_lost_message_only_delays(store: Store, open_another: OpenAnother) -> None:
    patient = await open_another(poll_s=3600.0)
    begun = await started(store)
    both = [asyncio.create_task(gather(s, begun.generation.id)) for s in (store, patient)]
    await until_subscribed(store, store.context.keys.live(begun.generation.id), 2)
    await say(store, begun, 1)
    await silently(store, begun, 2, 3)
    # The next live message shows the gap, without any poll.
    await say(store, begun, 4)
    await finish(store, begun, 5)
    assert await asyncio.gather(*both) == [[1, 2, 3, 4, 5]] * 2


async def test_the_poll_finds_what_nothing_announced(store: Store, open_another: OpenAnother) -> None:
    quick = await open_another(poll_s=0.01)
    begun = await started(store)
    async with aclosing(quick.hub.events(begun.generation.id)) as events:
        for sequence in (1, 2):
            await silently(store, begun, sequence)
            assert (await asyncio.wait_for(anext(events), 30)).sequence == sequence


async def test_a_killed_subscription_comes_back_and_misses_nothing(store: Store, open_another: OpenAnother) -> None:
    patient = await open_another(poll_s=3600.0)
    begun = await started(store)
    live = store.context.keys.live(begun.generation.id)
    reading = asyncio.create_task(gather(patient, begun.generation.id))
    await until_subscribed(store, live)
    await say(store, begun, 1)
    for sequence in (2, 5, 8):
        await store.context.connection.call("CLIENT", "KILL", "TYPE", "pubsub")
        await silently(store, begun, sequence, sequence + 1)
        await until_subscribed(store, live)
        await say(store, begun, sequence + 2)
    await finish(store, begun, 11)
    assert await reading == list(range(1, 12))


STEP = st.tuples(st.sampled_from(["say", "silent", "repeat", "early", "kill", "breathe"]), st.integers(1, 4))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=12), after=st.integers(0, 3))
async def test_every_event_once_in_order_whatever_happens(
    store: Store, steps: list[tuple[str, int]], after: int
) -> None:
    begun = await started(store)
    keys, call = store.context.keys, store.context.connection.call
    live = keys.live(begun.generation.id)
    reading = asyncio.create_task(gather(store, begun.generation.id, after))
    last = 0
    for what, count in steps:
        fresh = range(last + 1, last + 1 + count)
        if what == "say":
            await say(store, begun, *fresh)
            last += count
        elif what == "silent":
            await silently(store, begun, *fresh)
            last += count
        elif what == "repeat" and last:
            await call("PUBLISH", live, f'{max(1, last - count)} token {{"text":"again"}}')
        elif what == "early":
            # Published before it is in the stream, as a delayed replica would show it.
            await silently(store, begun, *fresh)
            await call("PUBLISH", live, f'{last + count} token {{"text":"x"}}')
            last += count
        elif what == "kill":
            await call("CLIENT", "KILL", "TYPE", "pubsub")
        else:
            await until_subscribed(store, live)
    await finish(store, begun, last + 1)
    assert await asyncio.wait_for(reading, 60) == list(range(after + 1, last + 2))


async def test_a_slow_reader_loses_nothing(store: Store) -> None:
    begun = await started(store)
    async with aclosing(store.hub.events(begun.generation.id)) as events:
        await say(store, begun, 1)
        assert (await anext(events)).sequence == 1
        await until_subscribed(store, store.context.keys.live(begun.generation.id))
        for start in range(2, 1502, 50):
            await say(store, begun, *range(start, start + 50))
        await finish(store, begun, 1502)
        assert [e.sequence async for e in events] == list(range(2, 1503))


async def test_subscriptions_go_with_their_streams(store: Store) -> None:
    begun = [await started(store) for _ in range(3)]
    channels = [store.context.keys.live(b.generation.id) for b in begun]
    streams = [store.hub.events(b.generation.id) for b in begun]
    for b, stream in zip(begun, streams, strict=True):
        await say(store, b, 1)
        assert (await anext(stream)).sequence == 1
    for channel in channels:
        await until_subscribed(store, channel)
    prefix = store.context.options.prefix
    clients = await store.context.connection.call("CLIENT", "LIST", "TYPE", "pubsub")
    assert clients.count(b" sub=3 ") == 1
    for stream in streams:
        await stream.aclose()
    for channel in channels:
        await until_subscribed(store, channel, 0)
    assert await store.context.connection.call("PUBSUB", "CHANNELS", f"{prefix}:*") == []


async def test_an_unknown_or_expired_generation_is_not_found(store: Store) -> None:
    with pytest.raises(GenerationNotFound):
        await gather(store, ids.new_generation_id("a" * 20))
    begun = await started(store)
    reading = asyncio.create_task(gather(store, begun.generation.id))
    await until_subscribed(store, store.context.keys.live(begun.generation.id))
    await store.context.connection.call("DEL", store.context.keys.generation(begun.generation.id))
    with pytest.raises(GenerationNotFound):
        await reading


async def test_a_hole_in_the_stream_is_named(store: Store) -> None:
    begun = await started(store)
    await say(store, begun, 1)
    await silently(store, begun, 3)
    with pytest.raises(CorruptState, match="no event 2"):
        await gather(store, begun.generation.id)


@pytest.fixture
async def own_valkey(valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    """A server of this test's own, of the same kind, to be stopped."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("own"), binary=valkey.executable, fsync="always")
    await server.start()
    yield server
    await server.stop()


async def test_a_restart_in_mid_stream_delays_and_loses_nothing(own_valkey: EmbeddedValkey) -> None:
    store = await open_store(StoreOptions(own_valkey.url, poll_s=0.05, timeout_s=1.0))
    try:
        begun = await started(store)
        reading = asyncio.create_task(gather(store, begun.generation.id))
        await until_subscribed(store, store.context.keys.live(begun.generation.id))
        await say(store, begun, 1, 2)
        await own_valkey.stop()
        with pytest.raises(StoreUnavailable) as caught:
            await store.turns.append(begun.generation.id, begun.fence, [token(3)])
        assert caught.value.retry_after
        await own_valkey.start()
        # Whatever became of the first attempt, the repeat is right.
        await say(store, begun, 3)
        await finish(store, begun, 4)
        assert await reading == [1, 2, 3, 4]
    finally:
        await store.close()


async def test_an_outage_past_the_bound_is_an_error(own_valkey: EmbeddedValkey) -> None:
    options = StoreOptions(own_valkey.url, poll_s=0.01, timeout_s=0.5, retries=0, outage_s=0.2)
    store = await open_store(options)
    try:
        begun = await started(store)
        reading = asyncio.create_task(gather(store, begun.generation.id))
        await until_subscribed(store, store.context.keys.live(begun.generation.id))
        await own_valkey.stop()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(reading, 30)
    finally:
        await store.close()
