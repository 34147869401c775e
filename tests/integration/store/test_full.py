"""A store with no memory left: nothing new is taken in; whatever ends things or gives something back still works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from fixtures_store import OpenAnother
from server.errors import SessionGone, StoreFull
from server.store.records import Event, Outcome, Status
from server.store.store import Store
from support.store_play import NEW, begin, request, result_of, run_turn, token, turn_after


def full(store: Store) -> AbstractAsyncContextManager[None]:
    """While it is open, the server's memory is above its bound."""

    @asynccontextmanager
    async def filled() -> AsyncIterator[None]:
        call = store.context.connection.call
        try:
            await call("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await call("CONFIG", "SET", "maxmemory", "1")
            yield
        finally:
            await call("CONFIG", "SET", "maxmemory", "0")

    return filled()


async def test_nothing_new_is_taken_in(store: Store) -> None:
    session, turn, _ = await run_turn(store)
    running = await begin(store, await store.sessions.accept(NEW, request()))
    ended = turn_after(running, (1, 2, 3))
    row = (running.generation.id, running.fence, [token(1)])
    async with full(store):
        for new in (NEW, session):
            with pytest.raises(StoreFull):
                await store.sessions.accept(new, request())
        with pytest.raises(StoreFull):
            await store.sessions.create_session(NEW)
        with pytest.raises(StoreFull):
            await store.turns.append(*row)
        assert [type(answer) for answer in await store.turns.append_many([row, row])] == [StoreFull, StoreFull]
        with pytest.raises(StoreFull):
            await store.turns.commit(running, ended, result_of(ended), Event(1, "done", {}))
        assert (await store.sessions.get_session("tenant", session.id)).head == turn.id
        assert (await store.turns.read_turns(session))[-1] == turn
    assert await store.turns.append(*row) is Outcome.OK
    assert await store.turns.commit(running, ended, result_of(ended), Event(2, "done", {})) is Outcome.OK
    after, _, _ = await run_turn(store, session)
    assert after.turns == 2


async def test_what_ends_things_goes_on(store: Store, open_another: OpenAnother) -> None:
    session, _, _ = await run_turn(store)
    queued, waiting, failing, dropped = [await store.sessions.accept(NEW, request()) for _ in range(4)]
    held = await store.queue.claim("w", 8, 0)
    running, unkept = await begin(store, failing), await begin(store, dropped)
    assert await store.turns.append(failing.id, running.fence, [token(1)]) is Outcome.OK
    async with full(store):
        another = await open_another()
        await another.queue.heartbeat("w", {"slots": 1})
        assert [w.id for w in await another.queue.live_workers()] == ["w"]
        assert await another.queue.renew("w", held) == []
        assert (await another.sessions.cancel("tenant", queued.id)).status is Status.CANCELLED
        assert (await another.sessions.cancel("tenant", failing.id)).cancel
        begun = await begin(another, waiting)
        assert await another.turns.fail(begun, {"message": "full"}, Event(1, "error", {})) is Outcome.OK
        assert await another.turns.fail(running, {"message": "full"}, Event(2, "error", {})) is Outcome.OK
        final = Event(1, "done", {"finish_reason": "cancelled"})
        for _ in range(2):
            outcome = await another.turns.commit(unkept, None, result_of(None, "cancelled"), final)
            assert outcome is Outcome.OK
        await another.queue.ack(held)
        assert await another.queue.takeover("heir", 0) == []
        assert await another.queue.claim("w", 8, 0) == []
        await another.branches.delete("tenant", session.id)
        with pytest.raises(SessionGone):
            await another.sessions.get_session("tenant", session.id)
        await another.queue.retire("w")
    for generation, status in ((waiting, Status.FAILED), (failing, Status.FAILED), (dropped, Status.CANCELLED)):
        assert (await store.sessions.get_generation("tenant", generation.id)).status is status
        assert (await store.sessions.get_session("tenant", generation.session)).running is None
    again = await store.sessions.get_session("tenant", queued.session)
    after, _, _ = await run_turn(store, again)
    assert after.turns == 1


async def test_a_store_opens_while_it_is_full(store: Store, open_another: OpenAnother) -> None:
    await store.context.connection.call("DEL", store.context.keys.queue)
    async with full(store):
        another = await open_another()
        assert await another.queue.depth() == 0
    generation = await store.sessions.accept(NEW, request())
    assert [d.generation for d in await store.queue.claim("w", 1, 0)] == [generation.id]


async def test_a_turn_stays_committed_when_the_list_of_sessions_can_not_be_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await store.sessions.accept(NEW, request())
    begun = await begin(store, generation)
    turn, pipeline = turn_after(begun, (1, 2, 3)), store.context.connection.pipeline

    async def filling(commands: list[tuple[str, ...]]) -> list[object]:
        async with full(store):
            return await pipeline(commands)

    monkeypatch.setattr(store.context.connection, "pipeline", filling)
    assert await store.turns.commit(begun, turn, result_of(turn), Event(1, "done", {})) is Outcome.OK
    monkeypatch.undo()
    assert (await store.sessions.get_session("tenant", generation.session)).head == turn.id
