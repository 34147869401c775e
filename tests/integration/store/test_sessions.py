"""Sessions and generations on a real store."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from fixtures_store import OpenAnother, own_keys
from server.errors import (
    GenerationNotFound,
    InvalidRequest,
    QueueFull,
    SessionBusy,
    SessionGone,
    SessionNotFound,
    StoreUnavailable,
    TurnMismatch,
)
from server.store import keys as ids
from server.store.records import Event, NewSession, Outcome, Status
from server.store.store import Store
from support.store_play import NEW, begin, request, result_of, run_turn, token, turn_after, until_subscribed


async def test_a_new_session_is_what_it_was_made_from(store: Store) -> None:
    made = await store.sessions.create_session(NEW)
    assert (made.tenant, made.model, made.fingerprint, made.state_bytes) == ("tenant", "tiny", "print-1", 4096)
    assert (made.head, made.length, made.turns, made.running, made.stored) == (None, 0, 0, None, True)
    assert made.expires == pytest.approx(made.created + store.context.options.session_ttl_s, abs=5)
    again = await store.sessions.get_session("tenant", made.id)
    assert replace(again, expires=made.expires) == made


@pytest.mark.parametrize(
    "bad", ["", "x", "sess_", "gen_aaaaaaaaaaaaaaaaaaaa_aaaaaaaaaaaa", "sess_aaaaaaaaaaaaaaaaaaaa_0\n", "sess_{x}_0"]
)
async def test_a_malformed_id_is_simply_unknown(store: Store, bad: str) -> None:
    with pytest.raises(SessionNotFound):
        await store.sessions.get_session("tenant", bad)
    with pytest.raises(GenerationNotFound):
        await store.sessions.get_generation("tenant", "gen" + bad)
    with pytest.raises(GenerationNotFound):
        await anext(store.hub.events("gen" + bad))
    assert await store.turns.begin("gen" + bad, "nonce") is None


async def test_another_tenants_ids_answer_like_unknown_ones(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    answers = []
    for name in (generation.session, ids.new_session_id()):
        with pytest.raises(SessionNotFound) as caught:
            await store.sessions.get_session("other", name)
        answers.append(caught.value.body())
    assert answers[0] == answers[1]
    for call in (store.sessions.get_generation, store.sessions.cancel):
        with pytest.raises(GenerationNotFound):
            await call("other", generation.id)
    with pytest.raises(SessionNotFound):
        await store.branches.delete("other", generation.session)


async def test_accept_writes_the_request_and_queues_it(store: Store) -> None:
    wanted = request(5, 6, stop=("\n",), stop_token_ids=(2,), logprobs=3, on_disconnect="continue")
    generation = await store.sessions.accept(NEW, wanted)
    assert generation.status is Status.QUEUED
    assert generation.request == wanted
    assert await store.sessions.get_generation("tenant", generation.id) == generation
    session = await store.sessions.get_session("tenant", generation.session)
    assert session.running == generation.id
    [delivery] = await store.queue.claim("w", 4, 0)
    assert delivery.generation == generation.id


async def test_a_busy_session_names_what_it_runs(store: Store) -> None:
    idle = await store.sessions.create_session(NEW)
    first = await store.sessions.accept(idle, request())
    for seen in (idle, await store.sessions.get_session("tenant", idle.id)):
        with pytest.raises(SessionBusy, match=first.id):
            await store.sessions.accept(seen, request())
    with pytest.raises(SessionBusy, match=first.id):
        await store.branches.delete("tenant", idle.id)
    assert await store.queue.depth() == 1


async def test_only_one_of_many_at_once_is_accepted(store: Store) -> None:
    idle = await store.sessions.create_session(NEW)
    answers = await asyncio.gather(*(store.sessions.accept(idle, request()) for _ in range(8)), return_exceptions=True)
    assert sum(not isinstance(a, BaseException) for a in answers) == 1
    assert sum(isinstance(a, SessionBusy) for a in answers) == 7


async def test_a_head_that_moved_is_a_mismatch(store: Store) -> None:
    session, turn, _ = await run_turn(store)
    stale = replace(session, head=None, length=0)
    with pytest.raises(TurnMismatch):
        await store.sessions.accept(stale, request())
    with pytest.raises(TurnMismatch):
        await store.sessions.accept(session, request(), if_turn=ids.new_turn_id(ids.lineage_of(session.id)))
    assert (await store.sessions.accept(session, request(), if_turn=turn.id)).session == session.id


async def test_a_generation_that_expired_does_not_hold_its_session(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    await store.context.connection.call("DEL", store.context.keys.generation(generation.id))
    session = await store.sessions.get_session("tenant", generation.session)
    second = await store.sessions.accept(session, request())
    assert second.session == session.id
    assert await store.turns.begin(generation.id, "n") is None


async def test_the_queue_is_bounded(store: Store, open_another: OpenAnother) -> None:
    small = await open_another(max_queue=2)
    for _ in range(2):
        await small.sessions.accept(NEW, request())
    before = await own_keys(store)
    with pytest.raises(QueueFull) as caught:
        await small.sessions.accept(NEW, request())
    assert caught.value.retry_after
    assert sorted(await own_keys(store)) == sorted(before)


async def test_a_turn_moves_the_head(store: Store) -> None:
    session, first, _ = await run_turn(store, tokens=(1, 2, 3))
    session, second, _ = await run_turn(store, session, tokens=(4, 5))
    assert (session.head, session.length, session.turns, session.running) == (second.id, 5, 2, None)
    assert second.parent == first.id
    assert await store.turns.read_turns(session) == [first, second]
    assert await store.turns.read_turns(session, frozenset({first.id})) == [second]
    assert session.stored_bytes > 0


async def test_delete_leaves_a_tombstone_for_its_owner_only(store: Store) -> None:
    session, _, _ = await run_turn(store)
    lineage = ids.lineage_of(session.id)
    await store.branches.delete("tenant", session.id)
    with pytest.raises(SessionGone):
        await store.sessions.get_session("tenant", session.id)
    with pytest.raises(SessionNotFound):
        await store.sessions.get_session("other", session.id)
    with pytest.raises(SessionGone):
        await store.branches.delete("tenant", session.id)
    with pytest.raises(SessionGone):
        await store.sessions.accept(session, request())
    left = {name.split(":")[2] for name in await own_keys(store) if f"{{{lineage}}}" in name}
    assert left == {"gone"}


async def test_a_damaged_session_can_be_deleted(store: Store) -> None:
    session, turn, _ = await run_turn(store)
    key = store.context.keys.turns(ids.lineage_of(session.id))
    await store.context.connection.call("HSET", key, turn.id, b"broken")
    await store.branches.delete("tenant", session.id)
    with pytest.raises(SessionGone):
        await store.sessions.get_session("tenant", session.id)


async def test_an_expired_session_is_gone(store: Store) -> None:
    session, _, _ = await run_turn(store)
    await store.context.connection.call("PEXPIRE", store.context.keys.session(session.id), 0)
    with pytest.raises(SessionGone):
        await store.sessions.get_session("tenant", session.id)
    assert (await store.sessions.list_sessions("tenant")).sessions == ()


async def test_sessions_are_listed_last_used_first_in_pages(store: Store, open_another: OpenAnother) -> None:
    now = [1_000_000.0]
    timed = await open_another(clock=lambda: now[0])
    made = []
    for i in range(7):
        now[0] += i % 2  # pairs share a time
        made.append(await timed.sessions.create_session(NEW))
    await timed.sessions.create_session(NewSession("other", "m", "f", 1))
    await timed.branches.delete("tenant", made.pop(3).id)
    await store.context.connection.call("DEL", store.context.keys.session(made.pop(1).id))
    expected = [s.id for s in sorted(made, key=lambda s: (s.updated, s.id), reverse=True)]

    seen: list[str] = []
    after = None
    for _ in range(10):
        page = await timed.sessions.list_sessions("tenant", after, limit=2)
        assert len(page.sessions) <= 2
        seen += [s.id for s in page.sessions]
        if (after := page.after) is None:
            break
    assert seen == expected
    index = store.context.keys.tenant_sessions("tenant")
    assert await store.context.connection.call("ZCARD", index) == len(expected)


@pytest.mark.parametrize("cursor", ["", "x", "nan_sess_aaaaaaaaaaaaaaaaaaaa_0", "1.0_sess_x", "inf_x"])
async def test_a_bad_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await store.sessions.list_sessions("tenant", cursor)
    assert caught.value.param == "after"


async def test_cancelling_a_queued_turn_ends_it_there(store: Store) -> None:
    session = await store.sessions.create_session(NEW)
    generation = await store.sessions.accept(session, request())
    cancelled = await store.sessions.cancel("tenant", generation.id)
    assert cancelled.status is Status.CANCELLED
    assert cancelled.request is None
    assert cancelled.result is not None
    assert cancelled.result.finish_reason == "cancelled"
    assert (await store.sessions.get_session("tenant", session.id)).running is None
    [event] = [e async for e in store.hub.events(generation.id)]
    assert (event.type, event.data["finish_reason"]) == ("done", "cancelled")
    assert await store.turns.begin(generation.id, "n") is None
    assert await store.sessions.cancel("tenant", generation.id) == cancelled


async def test_a_cancelled_turn_leaves_the_queue(store: Store, open_another: OpenAnother) -> None:
    narrow = await open_another(max_queue=2)
    for _ in range(3):
        waiting = [await narrow.sessions.accept(NEW, request()) for _ in range(2)]
        with pytest.raises(QueueFull):
            await narrow.sessions.accept(NEW, request())
        for generation in waiting:
            for _ in range(2):
                assert (await narrow.sessions.cancel("tenant", generation.id)).status is Status.CANCELLED
        assert await narrow.queue.depth() == 0
    assert await narrow.queue.claim("w", 8, 0) == []
    keys = store.context.keys
    assert await store.context.connection.call("EXISTS", keys.queued(waiting[0].id)) == 0
    assert await store.context.connection.call("XLEN", keys.queue) == 0


async def test_a_cancel_that_came_half_way_is_finished_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = await store.sessions.accept(NEW, request())

    async def away(_: str) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(store.queue, "withdraw", away)
    with pytest.raises(StoreUnavailable):
        await store.sessions.cancel("tenant", generation.id)
    assert await store.queue.depth() == 1
    monkeypatch.undo()
    assert (await store.sessions.cancel("tenant", generation.id)).status is Status.CANCELLED
    assert await store.queue.depth() == 0


async def test_a_turn_cancelled_in_a_workers_hands_before_it_began_is_none(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    held = await store.queue.claim("w", 1, 0)
    await store.sessions.cancel("tenant", generation.id)
    waiting = await store.sessions.accept(NEW, request())
    assert await store.queue.depth() == 1
    assert await store.turns.begin(generation.id, "nonce") is None
    assert await store.queue.takeover("heir", 0) == []
    await store.queue.ack(held)
    assert [d.generation for d in await store.queue.claim("w", 8, 0)] == [waiting.id]


async def test_cancelling_a_running_turn_leaves_its_delivery(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    held = await store.queue.claim("w", 1, 0)
    await begin(store, generation)
    await store.sessions.cancel("tenant", generation.id)
    assert await store.queue.renew("w", held) == []
    assert [d.generation for d in await store.queue.takeover("heir", 0)] == [generation.id]


async def test_cancelling_a_running_turn_flags_it_and_wakes_its_worker(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    begun = await begin(store, generation)

    async def wake() -> str:
        async with aclosing(store.queue.cancels()) as cancels:
            return await anext(cancels)

    woken = asyncio.create_task(wake())
    await until_subscribed(store, store.context.keys.control)
    assert await store.queue.cancelled([generation.id]) == set()
    asked = await store.sessions.cancel("tenant", generation.id)
    assert (asked.status, asked.cancel) == (Status.RUNNING, True)
    assert await asyncio.wait_for(woken, 10) == generation.id
    assert await store.queue.cancelled([generation.id]) == {generation.id}
    assert await store.turns.append(generation.id, begun.fence, [token(1)]) is Outcome.CANCEL
    turn = turn_after(begun, (1, 2))
    done = Event(2, "done", {"finish_reason": "cancelled"})
    assert await store.turns.commit(begun, turn, result_of(turn, "cancelled"), done) is Outcome.OK
    ended = await store.sessions.get_generation("tenant", generation.id)
    assert (ended.status, ended.result and ended.result.turn) == (Status.CANCELLED, turn.id)
    assert (await store.sessions.cancel("tenant", generation.id)).status is Status.CANCELLED


@pytest.mark.parametrize("how", ["commit", "fail", "cancel"])
async def test_a_turn_that_is_not_stored_leaves_its_events_only(store: Store, how: str) -> None:
    generation = await store.sessions.accept(NEW, request(store=False))
    if how == "cancel":
        await store.sessions.cancel("tenant", generation.id)
    else:
        begun = await begin(store, generation)
        await store.turns.append(generation.id, begun.fence, [token(1)])
        if how == "fail":
            outcome = await store.turns.fail(begun, {"message": "no"}, Event(2, "error", {}))
        else:
            outcome = await store.turns.commit(begun, None, result_of(None), Event(2, "done", {}))
        assert outcome is Outcome.OK
    lineage = ids.lineage_of(generation.session)
    kinds = {name.split(":")[2] for name in await own_keys(store) if f"{{{lineage}}}" in name}
    assert kinds == {"gen", "events"}
    assert (await store.sessions.get_generation("tenant", generation.id)).request is None
    with pytest.raises(SessionNotFound):
        await store.sessions.get_session("tenant", generation.session)
    assert (await store.sessions.list_sessions("tenant")).sessions == ()


async def test_an_unstored_turn_leaves_a_lasting_session_as_it_was(store: Store) -> None:
    session, turn, _ = await run_turn(store)
    generation = await store.sessions.accept(session, request(store=False))
    begun = await begin(store, generation)
    assert await store.turns.commit(begun, None, result_of(None), Event(1, "done", {})) is Outcome.OK
    after = await store.sessions.get_session("tenant", session.id)
    assert (after.head, after.length, after.running) == (turn.id, 3, None)
