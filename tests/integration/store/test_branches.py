"""Forks, rewinds, retention, deletion and idempotency on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fixtures_store import OpenAnother, own_keys
from server.errors import (
    CorruptState,
    IdempotencyReused,
    InvalidRequest,
    SessionBusy,
    SessionGone,
    SessionNotFound,
    TooManyForks,
    TurnMismatch,
    TurnNotFound,
)
from server.store import keys as ids
from server.store.history import Found, fold, root
from server.store.records import Begun, Event, Idempotency, LeafBytes, Outcome, Session, Snapshot, Status, Turn
from server.store.scripts import Call, Value
from server.store.store import Store
from support.store_play import NEW, begin, request, result_of, run_turn, turn_after


def state(position: int) -> Snapshot:
    """A state whose bytes are its position's."""
    return Snapshot("print-1", "spec-1", position, {"h": LeafBytes("int64", (8,), None, bytes([position % 251]) * 64)})


async def put(store: Store, session: Session, begun: Begun) -> None:
    """Save the state at the session's head."""
    assert session.head is not None
    at_head = state(session.length - 1)
    assert await store.snapshots.put_snapshot(session, begun.fence, session.head, at_head) is Outcome.OK


async def talk(store: Store, turns: int) -> tuple[Session, list[Turn], list[Begun]]:
    """A session of that many turns."""
    session, turn, begun = await run_turn(store)
    made, begins = [turn], [begun]
    for i in range(1, turns):
        session, turn, begun = await run_turn(store, session, (i, i))
        made.append(turn)
        begins.append(begun)
    return session, made, begins


async def tokens(store: Store, session: Session) -> list[int]:
    return [token for turn in await store.turns.read_turns(session) for token in turn.tokens]


async def test_a_fork_goes_its_own_way(store: Store) -> None:
    session, turns, _ = await talk(store, 4)
    fork = await store.branches.fork(session, turns[1].id)
    assert (fork.head, fork.length, fork.turns, fork.kept, fork.end) == (turns[1].id, 5, 2, 2, turns[1].end)
    assert (fork.tenant, fork.model, fork.fingerprint) == (session.tenant, session.model, session.fingerprint)
    assert fork.origin == (session.id, turns[1].id)
    assert ids.lineage_of(fork.id) == ids.lineage_of(session.id)
    forked, _, _ = await run_turn(store, fork, (9, 9, 9))
    session, _, _ = await run_turn(store, session, (7,))
    assert await tokens(store, forked) == [1, 2, 3, 1, 1, 9, 9, 9]
    assert await tokens(store, session) == [1, 2, 3, 1, 1, 2, 2, 3, 3, 7]
    again = await store.branches.fork(forked)
    assert again.head == forked.head
    listed = await store.sessions.list_sessions("tenant")
    assert {s.id for s in listed.sessions} == {session.id, forked.id, again.id}


async def test_a_fork_of_an_empty_session_is_empty(store: Store) -> None:
    fork = await store.branches.fork(await store.sessions.create_session(NEW))
    assert (fork.head, fork.length, fork.turns) == (None, 0, 0)
    forked, turn, _ = await run_turn(store, fork)
    assert forked.head == turn.id


async def test_a_fork_while_a_turn_runs_takes_the_last_committed_one(store: Store) -> None:
    session, turns, _ = await talk(store, 2)
    await begin(store, await store.sessions.accept(session, request()))
    busy = await store.sessions.get_session("tenant", session.id)
    assert (await store.branches.fork(busy)).head == turns[1].id


async def test_only_a_turn_of_the_session_can_be_forked_at(store: Store) -> None:
    session, turns, _ = await talk(store, 2)
    fork, other, _ = await run_turn(store, await store.branches.fork(session, turns[0].id))
    for strange in (ids.new_turn_id(ids.lineage_of(session.id)), other.id, "nonsense"):
        with pytest.raises(TurnNotFound):
            await store.branches.fork(session, strange)
        with pytest.raises(TurnNotFound):
            await store.branches.rewind(session, to_turn=strange)
    assert fork.head == other.id


async def test_forks_are_bounded(store: Store, open_another: OpenAnother) -> None:
    few = await open_another(branches_max=3)
    session, _, _ = await talk(few, 1)
    forks = [await few.branches.fork(session) for _ in range(2)]
    with pytest.raises(TooManyForks, match="3 members"):
        await few.branches.fork(session)
    await few.branches.delete("tenant", forks[0].id)
    assert await few.branches.fork(session)


async def test_rewinding_by_turns_and_to_a_turn(store: Store) -> None:
    session, turns, _ = await talk(store, 5)
    back = await store.branches.rewind(session, turns=2)
    assert (back.head, back.length, back.turns, back.kept) == (turns[2].id, turns[2].length, 3, 3)
    back = await store.branches.rewind(back, to_turn=turns[0].id)
    assert (back.head, back.turns) == (turns[0].id, 1)
    on, _, _ = await run_turn(store, back, (8,))
    assert await tokens(store, on) == [1, 2, 3, 8]
    empty = await store.branches.rewind(on, turns=2)
    assert (empty.head, empty.length, empty.turns, empty.kept) == (None, 0, 0, 0)
    on, _, _ = await run_turn(store, empty, (4, 5))
    assert await tokens(store, on) == [4, 5]


async def test_what_cannot_be_rewound_is_refused(store: Store) -> None:
    session, turns, _ = await talk(store, 3)
    with pytest.raises(TurnNotFound, match="3 turns at most"):
        await store.branches.rewind(session, turns=4)
    with pytest.raises(InvalidRequest):
        await store.branches.rewind(session, turns=0)
    with pytest.raises(InvalidRequest):
        await store.branches.rewind(session)
    moved, _, _ = await run_turn(store, session)
    with pytest.raises(TurnMismatch):
        await store.branches.rewind(session, turns=1)
    generation = await store.sessions.accept(moved, request())
    held = await store.sessions.get_session("tenant", moved.id)
    with pytest.raises(SessionBusy, match=generation.id):
        await store.branches.rewind(held, turns=1)
    await store.sessions.cancel("tenant", generation.id)
    assert (await store.branches.rewind(held, to_turn=turns[0].id)).head == turns[0].id
    await store.branches.delete("tenant", moved.id)
    with pytest.raises((SessionGone, CorruptState)):
        await store.branches.rewind(held, turns=1)


async def test_what_is_no_longer_kept_goes_and_the_rest_can_be_restored(
    store: Store, open_another: OpenAnother
) -> None:
    """Bytes and turns come to a bound; every kept turn has a snapshot at or before it and an unbroken run."""
    few = await open_another(turns_kept=4, snapshots_kept=3)
    session, _, begun = await run_turn(few, tokens=(1, 2))
    sizes = []
    for i in range(40):
        session, _, begun = await run_turn(few, session, (i, i, i))
        if i % 3 == 0:
            await put(few, session, begun)
        session = await few.sessions.get_session("tenant", session.id)
        sizes.append(session.stored_bytes)
        history = await few.branches.history(session)
        assert session.kept == len(history) >= min(4, i + 2)
        assert session.turns == i + 2
        saved = await few.snapshots.snapshot_turns(session.id)
        assert history[0].parent is None or history[0].id in saved
        assert len(saved) <= 3
    # Equal but for the digits of times and lengths.
    assert max(sizes[25:]) == pytest.approx(max(sizes[10:25]), rel=0.02)
    assert len(history) <= 4 + 3
    lineage, key = ids.lineage_of(session.id), few.context.keys
    assert await few.context.connection.call("HLEN", key.turns(lineage)) == len(history)
    stored = await few.context.connection.pipeline(
        [("HVALS", name) for name in (key.turns(lineage), key.snaps(lineage), key.blocks(lineage))]
    )
    assert session.stored_bytes == sum(len(value) for part in stored for value in part)
    with pytest.raises(TurnNotFound, match="at most"):
        await few.branches.rewind(session, turns=len(history))
    back = await few.branches.rewind(session, turns=len(history) - 1)
    assert back.head == history[0].id
    assert await few.turns.read_turns(back, stop=saved) == []
    on, _, _ = await run_turn(few, back, (5,))
    assert on.kept == 2


async def test_a_fork_keeps_what_it_needs(store: Store, open_another: OpenAnother) -> None:
    few = await open_another(turns_kept=2, snapshots_kept=2)
    session, turns, _ = await talk(few, 3)
    fork = await few.branches.fork(session, turns[1].id)
    for i in range(12):
        session, _, begun = await run_turn(few, session, (i,))
        await put(few, session, begun)
    assert await tokens(few, fork) == [1, 2, 3, 1, 1]
    assert await few.context.connection.call("HLEN", few.context.keys.turns(ids.lineage_of(session.id))) <= 2 + 3
    await few.branches.delete("tenant", session.id)
    assert await tokens(few, fork) == [1, 2, 3, 1, 1]
    left = await few.context.connection.call("HKEYS", few.context.keys.turns(ids.lineage_of(session.id)))
    assert {name.decode() for name in left} == {turns[0].id, turns[1].id}
    with pytest.raises(SessionGone):
        await few.sessions.get_session("tenant", session.id)
    await few.branches.delete("tenant", fork.id)
    tag = f"{{{ids.lineage_of(fork.id)}}}"
    assert {name.split(":")[2] for name in await own_keys(few) if tag in name} == {"gone"}


async def test_what_changes_while_a_lineage_is_looked_at_is_not_pruned(
    store: Store, monkeypatch: pytest.MonkeyPatch, open_another: OpenAnother
) -> None:
    """A fork at a turn that is about to go: it is whole, and the turn goes with nobody."""
    few = await open_another(turns_kept=1, snapshots_kept=2)
    session, turns, _ = await talk(few, 4)
    run, forks = few.context.connection.run, list[Session]()

    async def interrupted(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        if call.name == "prune" and not forks:
            forks.append(await store.branches.fork(session, turns[0].id))
            answer = await run(call, keys, args)
            assert answer == b"CHANGED"
            return answer
        return await run(call, keys, args)

    monkeypatch.setattr(few.context.connection, "run", interrupted)
    begun = await begin(few, await few.sessions.accept(session, request()))
    await put(few, session, begun)
    assert await tokens(few, forks[0]) == [1, 2, 3]


async def test_a_fork_for_one_answer_ends_with_it(store: Store) -> None:
    session, _, _ = await talk(store, 2)
    fork = await store.branches.fork(session, stored=False)
    begun = await begin(store, await store.sessions.accept(fork, request(store=False)))
    final = Event(1, "done", {"finish_reason": "stop"})
    assert await store.turns.commit(begun, None, result_of(None), final) is Outcome.OK
    with pytest.raises(SessionNotFound):
        await store.sessions.get_session("tenant", fork.id)
    assert await tokens(store, session) == [1, 2, 3, 1, 1]
    fields = await store.context.connection.call("HKEYS", store.context.keys.lineage(ids.lineage_of(session.id)))
    assert [name for name in fields if name.startswith(b"b:")] == [b"b:0"]


async def test_where_a_state_is_warm_is_known(store: Store) -> None:
    begun = await begin(store, await store.sessions.accept(NEW, request()))
    turn = turn_after(begun, (1, 2))
    assert await store.turns.commit(begun, turn, result_of(turn), Event(1, "done", {}), worker="w1") is Outcome.OK
    name = begun.session.id

    async def where() -> tuple[str | None, str]:
        session = await store.sessions.get_session("tenant", name)
        return session.worker, session.tier

    assert await where() == ("w1", "slot")
    await store.turns.place("w1", [(name, turn.id, "ram")])
    assert await where() == ("w1", "ram")
    await store.turns.place("w2", [(name, turn.id, "redis")])
    await store.turns.place("w1", [(name, ids.new_turn_id(ids.lineage_of(name)), "redis")])
    assert await where() == ("w1", "ram")
    await store.turns.place("w1", [(name, turn.id, "redis")])
    assert await where() == (None, "redis")


async def test_a_repeated_request_finds_its_generation(store: Store) -> None:
    once = Idempotency("key of the client \x00 { }", "digest")
    first = await store.sessions.accept(NEW, request(), idempotency=once)
    assert await store.sessions.accept(NEW, request(), idempotency=once) == first
    assert await store.sessions.seen("tenant", None, once) == first
    with pytest.raises(IdempotencyReused):
        await store.sessions.accept(NEW, request(), idempotency=Idempotency(once.key, "other"))
    with pytest.raises(IdempotencyReused):
        await store.sessions.seen("tenant", None, Idempotency(once.key, "other"))
    assert await store.sessions.seen("other", None, once) is None
    assert await store.sessions.seen("tenant", None, Idempotency("new", "digest")) is None
    assert await store.queue.depth() == 1
    again = await asyncio.gather(
        *(store.sessions.accept(NEW, request(), idempotency=Idempotency("k2", "d")) for _ in range(5))
    )
    assert len({generation.id for generation in again}) == 1
    assert await store.queue.depth() == 2


async def test_a_key_belongs_to_its_session(store: Store) -> None:
    session, _, _ = await talk(store, 1)
    other, _, _ = await talk(store, 1)
    once = Idempotency("k", "d")
    first = await store.sessions.accept(session, request(), idempotency=once)
    assert first.id != (await store.sessions.accept(other, request(), idempotency=once)).id
    busy = await store.sessions.get_session("tenant", session.id)
    assert (await store.sessions.accept(busy, request(), idempotency=once)).id == first.id
    assert await store.sessions.seen("tenant", session.id, once) is not None


async def test_a_key_that_is_forgotten_begins_a_new_session_and_protects_again(store: Store) -> None:
    once = Idempotency("k", "d")
    first = await store.sessions.accept(NEW, request(), idempotency=once)
    [name] = [name for name in await own_keys(store) if f"{{{ids.lineage_of(first.id)}}}:idem:" in name]
    await store.context.connection.call("DEL", name)
    second = await store.sessions.accept(NEW, request(), idempotency=once)
    assert second.status is Status.QUEUED
    assert second.session != first.session
    assert await store.sessions.accept(NEW, request(), idempotency=once) == second
    assert await store.sessions.seen("tenant", None, once) == second


async def test_a_key_whose_generation_was_deleted_is_free_again(store: Store) -> None:
    session, _, _ = await talk(store, 1)
    once = Idempotency("k", "d")
    first = await store.sessions.accept(session, request(), idempotency=once)
    await store.sessions.cancel("tenant", first.id)
    await store.context.connection.call("DEL", store.context.keys.generation(first.id))
    assert await store.sessions.seen("tenant", session.id, once) is None
    second = await store.sessions.accept(session, request(), idempotency=once)
    assert second.id != first.id


async def test_a_lineage_that_still_has_forks_is_not_founded_anew(store: Store) -> None:
    """An idempotency key makes the same lineage again; its branches must keep their numbers."""
    once = Idempotency("k", "d")
    first = await store.sessions.accept(NEW, request(), idempotency=once)
    begun = await begin(store, first)
    turn = turn_after(begun, (1, 2, 3))
    assert await store.turns.commit(begun, turn, result_of(turn), Event(1, "done", {})) is Outcome.OK
    session = await store.sessions.get_session("tenant", first.session)
    fork = await store.branches.fork(session)
    await store.branches.delete("tenant", session.id)
    again = await store.sessions.accept(NEW, request(), idempotency=once)
    assert ids.lineage_of(again.session) != ids.lineage_of(fork.id)
    assert (await store.branches.fork(fork)).id != fork.id


async def test_a_rewind_renews_all_that_its_session_needs(store: Store) -> None:
    session, _, begins = await talk(store, 3)
    await put(store, session, begins[-1])
    keys, lineage = store.context.keys, ids.lineage_of(session.id)
    names = [kind(lineage) for kind in (keys.turns, keys.snaps, keys.blocks, keys.lineage)]
    await store.context.connection.pipeline([("PEXPIRE", name, 5000) for name in names])
    await store.branches.rewind(session, turns=1)
    lives = await store.context.connection.pipeline([("PTTL", name) for name in names])
    assert min(lives) >= store.context.options.session_ttl_ms


async def test_a_prune_that_is_sent_twice_counts_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    session, _, begins = await talk(store, 3)
    run = store.context.connection.run

    async def twice(call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        answer = await run(call, keys, args)
        return await run(call, keys, args) if call.name == "prune" else answer

    monkeypatch.setattr(store.context.connection, "run", twice)
    await put(store, session, begins[-1])
    held = await store.sessions.get_session("tenant", session.id)
    monkeypatch.undo()
    assert await store.retention.prune(ids.lineage_of(session.id))
    again = await store.sessions.get_session("tenant", session.id)
    assert (held.kept, held.stored_bytes) == (again.kept, again.stored_bytes)


async def test_forks_that_have_expired_make_room(store: Store, open_another: OpenAnother) -> None:
    few = await open_another(branches_max=3)
    session, _, _ = await talk(few, 1)
    forks = [await few.branches.fork(session) for _ in range(2)]
    await few.context.connection.call("DEL", *(few.context.keys.session(fork.id) for fork in forks))
    assert await few.branches.fork(session)


async def test_the_last_answer_of_a_lineage_leaves_nothing(store: Store) -> None:
    """A fork for one answer outlives the session it was forked from."""
    session, _, _ = await talk(store, 1)
    fork = await store.branches.fork(session, stored=False)
    begun = await begin(store, await store.sessions.accept(fork, request(store=False)))
    await store.branches.delete("tenant", session.id)
    assert await tokens(store, fork) == [1, 2, 3]
    assert await store.turns.commit(begun, None, result_of(None), Event(1, "done", {})) is Outcome.OK
    tag = f"{{{ids.lineage_of(fork.id)}}}"
    assert {name.split(":")[2] for name in await own_keys(store) if tag in name} <= {"gone", "gen", "events"}
    assert [s.id for s in (await store.sessions.list_sessions("tenant")).sessions] == []


async def test_a_session_that_expired_under_its_turn_does_not_keep_its_client_waiting(store: Store) -> None:
    begun = await begin(store, await store.sessions.accept(NEW, request(store=False)))
    await store.context.connection.call("DEL", store.context.keys.session(begun.session.id))
    assert await store.turns.commit(begun, None, result_of(None), Event(1, "done", {})) is Outcome.OK
    assert [event.type for event in await store.hub.read(begun.generation.id)] == ["done"]
    assert await own_sessions(store) == []


async def own_sessions(store: Store) -> list[str]:
    return [name for name in await own_keys(store) if ":session:" in name]


async def test_a_conversation_is_found_by_its_hash(store: Store) -> None:
    start = root("tenant", "print-1")
    asked = fold(start, "user", "hello")
    begun = await begin(store, await store.sessions.accept(NEW, request(history=asked)))
    digest = fold(asked, "assistant", " hi ")
    turn = replace(turn_after(begun, (1, 2, 3)), digest=digest)
    await store.history.note(digest, begun.session.id, turn.id)
    assert await store.history.find([asked, digest]) == []  # noted, and not committed
    assert await store.turns.commit(begun, turn, result_of(turn), Event(1, "done", {})) is Outcome.OK
    assert await store.history.find([asked, digest]) == [Found(1, begun.session.id, turn.id)]
    assert fold(asked, "assistant", "hi") == digest
    assert await store.history.find([root("other", "print-1")]) == []
    many = [fold(start, "user", str(i)) for i in range(200)]
    assert await store.history.find([*many[:5], digest, *many]) == [Found(5, begun.session.id, turn.id)]
    await store.branches.delete("tenant", begun.session.id)
    assert await store.history.find([digest]) == []


async def test_a_damaged_record_ends_its_generation_and_frees_its_session(store: Store) -> None:
    session, _, _ = await talk(store, 1)
    generation = await store.sessions.accept(session, request())
    await store.context.connection.call("HSET", store.context.keys.generation(generation.id), "request", "{")
    with pytest.raises(CorruptState, match=generation.id):
        await store.turns.begin(generation.id, "nonce")
    [last] = await store.hub.read(generation.id)
    assert last.type == "error"
    assert last.data["error"]["code"] == "corrupt_state"
    assert (await store.sessions.get_session("tenant", session.id)).running is None
    assert await store.turns.begin(generation.id, "nonce") is None
    assert await store.turns.waiting([generation.id]) == set()
