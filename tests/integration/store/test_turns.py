"""The worker's fenced writes on a real store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures_store import own_keys
from server.errors import CorruptState
from server.store import keys as ids
from server.store.codec import encode_turn
from server.store.embedded import EmbeddedValkey
from server.store.records import Event, NewSession, Outcome, Session, Status
from server.store.store import Store, StoreOptions, open_store
from support.store_play import NEW, begin, request, result_of, run_turn, token, turn_after

DONE = Event(3, "done", {"finish_reason": "stop"})


async def test_begin_gives_all_a_worker_needs(store: Store) -> None:
    wanted = request(9, 8, 7)
    generation = await store.sessions.accept(NEW, wanted)
    begun = await begin(store, generation, "abc")
    assert begun.request == wanted
    assert begun.session.id == generation.session
    assert begun.fence == "1-abc"
    assert begun.emitted == ()
    assert begun.generation.status is Status.RUNNING


async def test_a_newer_owner_fences_the_older_off(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    old = await begin(store, generation, "old")
    assert await store.turns.append(generation.id, old.fence, [token(1, "a"), token(2, "b")]) is Outcome.OK
    new = await begin(store, generation, "new")
    assert [e.data["text"] for e in new.emitted] == ["a", "b"]
    before = await contents(store)
    late = turn_after(old, (1, 2, 3))
    assert await store.turns.append(generation.id, old.fence, [token(3)]) is Outcome.FENCED
    assert await store.turns.commit(old, late, result_of(late), DONE) is Outcome.FENCED
    assert await store.turns.fail(old, {"message": "no"}, Event(3, "error", {})) is Outcome.FENCED
    assert await contents(store) == before
    turn = turn_after(new, (1, 2, 3))
    assert await store.turns.commit(new, turn, result_of(turn), DONE) is Outcome.OK


async def test_the_nonce_tells_owners_of_one_counter_apart(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    lost = await begin(store, generation, "lost")
    # A failover that forgot the increment: the next owner gets the same number.
    await store.context.connection.call("HSET", store.context.keys.session(generation.session), "fence", "0-")
    held = await begin(store, generation, "held")
    assert lost.fence.split("-")[0] == held.fence.split("-")[0]
    assert await store.turns.append(generation.id, lost.fence, [token(1)]) is Outcome.FENCED
    assert await store.turns.append(generation.id, held.fence, [token(1)]) is Outcome.OK


async def test_repeated_writes_change_nothing(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    begun = await begin(store, generation)
    for _ in range(2):
        assert await store.turns.append(generation.id, begun.fence, [token(1), token(2)]) is Outcome.OK
    turn = turn_after(begun, (1, 2, 3))
    assert await store.turns.commit(begun, turn, result_of(turn), DONE) is Outcome.OK
    before = await contents(store)
    assert await store.turns.commit(begun, turn, result_of(turn), DONE) is Outcome.OK
    assert await contents(store) == before
    assert [e.sequence for e in await store.hub.read(generation.id)] == [1, 2, 3]
    assert await store.turns.append(generation.id, begun.fence, [token(4)]) is Outcome.FENCED
    other = replace(result_of(turn), finish_reason="length")
    assert await store.turns.commit(begun, turn, other, DONE) is Outcome.FENCED


async def test_a_batch_of_rows_answers_each(store: Store) -> None:
    begun = [await begin(store, await store.sessions.accept(NEW, request())) for _ in range(3)]
    await store.sessions.cancel("tenant", begun[1].generation.id)
    newer = await begin(store, begun[2].generation, "newer")
    rows = [(b.generation.id, b.fence, [token(1)]) for b in begun]
    assert await store.turns.append_many(rows) == [Outcome.OK, Outcome.CANCEL, Outcome.FENCED]
    assert await store.turns.append_many([]) == []
    assert newer.emitted == ()


@pytest.mark.parametrize("forgotten", [False, True], ids=["known", "forgotten"])
async def test_a_row_that_cannot_be_written_spares_the_others(store: Store, forgotten: bool) -> None:
    begun = [await begin(store, await store.sessions.accept(NEW, request())) for _ in range(4)]
    hole, wrong = begun[1], begun[2]
    await store.context.connection.call("SET", store.context.keys.events(wrong.generation.id), "x", "PX", 60_000)
    if forgotten:
        await store.context.connection.call("SCRIPT", "FLUSH")
    rows = [(b.generation.id, b.fence, [token(2 if b is hole else 1)]) for b in begun]
    answers = await store.turns.append_many(rows)
    assert [answers[0], answers[3]] == [Outcome.OK, Outcome.OK]
    for i in (1, 2):
        answer = answers[i]
        assert isinstance(answer, CorruptState)
        assert begun[i].generation.id in answer.message
        assert not any(b.generation.id in answer.message for b in begun if b is not begun[i])
    assert "WRONGTYPE" in str(answers[2])
    for b in (begun[0], begun[3]):
        assert [e.sequence for e in await store.hub.read(b.generation.id)] == [1]
    with pytest.raises(CorruptState, match="WRONGTYPE"):
        await store.turns.append(wrong.generation.id, wrong.fence, [token(1)])


async def test_scripts_survive_a_server_that_forgot_them(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    begun = await begin(store, generation)
    await store.context.connection.call("SCRIPT", "FLUSH")
    assert await store.turns.append_many([(generation.id, begun.fence, [token(1)])] * 2) == [Outcome.OK] * 2
    await store.context.connection.call("SCRIPT", "FLUSH")
    turn = turn_after(begun, (1, 2, 3))
    assert await store.turns.commit(begun, turn, result_of(turn), Event(2, "done", {})) is Outcome.OK


async def test_a_hole_in_the_stream_is_refused(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    begun = await begin(store, generation)
    with pytest.raises(CorruptState, match=generation.id):
        await store.turns.append(generation.id, begun.fence, [token(2)])
    turn = turn_after(begun, (1, 2, 3))
    with pytest.raises(CorruptState, match="lost events"):
        await store.turns.commit(begun, turn, result_of(turn), DONE)
    assert (await store.sessions.get_session("tenant", generation.session)).head is None


async def test_a_turn_that_does_not_follow_the_head_is_refused(store: Store) -> None:
    generation = await store.sessions.accept(NEW, request())
    begun = await begin(store, generation)
    turn = replace(turn_after(begun, (1, 2)), parent=ids.new_turn_id(ids.lineage_of(generation.id)))
    with pytest.raises(CorruptState, match="does not follow"):
        await store.turns.commit(begun, turn, result_of(turn), Event(1, "done", {}))


async def test_a_failed_turn_keeps_the_session(store: Store) -> None:
    session, turn, _ = await run_turn(store)
    generation = await store.sessions.accept(session, request())
    begun = await begin(store, generation)
    error = {"message": "the worker broke", "type": "server_error", "param": None, "code": "x"}
    assert await store.turns.fail(begun, error, Event(1, "error", {"error": error})) is Outcome.OK
    ended = await store.sessions.get_generation("tenant", generation.id)
    assert ended.status is Status.FAILED
    assert ended.result is not None
    assert ended.result.error == error
    after = await store.sessions.get_session("tenant", session.id)
    assert (after.head, after.running) == (turn.id, None)


async def test_cancel_and_commit_race_and_one_wins(store: Store) -> None:
    for _ in range(10):
        generation = await store.sessions.accept(NEW, request())
        begun = await begin(store, generation)
        turn = turn_after(begun, (1, 2))
        outcome, seen = await asyncio.gather(
            store.turns.commit(begun, turn, result_of(turn), Event(1, "done", {})),
            store.sessions.cancel("tenant", generation.id),
        )
        assert outcome is Outcome.OK
        assert seen.status in (Status.DONE, Status.RUNNING)
        ended = await store.sessions.get_generation("tenant", generation.id)
        assert ended.status is Status.DONE
        assert [e.type for e in await store.hub.read(generation.id)] == ["done"]


async def test_a_commit_refreshes_every_life(store: Store) -> None:
    session, _, _ = await run_turn(store)
    keys, connection = store.context.keys, store.context.connection
    lineage, ttl = ids.lineage_of(session.id), store.context.options.session_ttl_ms
    names = [keys.session(session.id), keys.turns(lineage), keys.gone(session.id)]
    for name in names:
        await connection.call("PEXPIRE", name, 60_000)
    await run_turn(store, await store.sessions.get_session("tenant", session.id))
    lives = [await connection.call("PTTL", name) for name in names]
    assert all(life > ttl - 60_000 for life in lives)
    # What the session stands on outlives it.
    assert min(lives[1:]) >= lives[0]


@pytest.mark.parametrize("tokens", [4, 1000, 20_000])
async def test_a_commit_writes_little(store: Store, tokens: int) -> None:
    session, _, _ = await run_turn(store)
    generation = await store.sessions.accept(session, request())
    begun = await begin(store, generation)
    turn = turn_after(begun, range(tokens))
    usage = {"prompt_tokens": 20_000, "completion_tokens": 128, "total_tokens": 20_128, "cached_tokens": 10_000}
    timing = {"queued_ms": 1.234, "prefill_ms": 1234.567, "decode_ms": 12345.678, "total_ms": 12345.678}
    result = replace(result_of(turn), usage=usage, timing=timing)
    final = Event(1, "done", {"finish_reason": "stop", "usage": usage, "timing": timing, "position": turn.length})
    before = await contents(store)
    assert await store.turns.commit(begun, turn, result, final) is Outcome.OK
    after = await contents(store)
    changed = {k: v for k, v in after.items() if before.get(k) != v}
    written = sum(map(len, {key for key, _ in changed})) + sum(len(field) + len(v) for (_, field), v in changed.items())
    assert written <= 1024 + 8 * tokens


async def contents(store: Store) -> dict[tuple[str, bytes], bytes]:
    """(key, field) → value of everything of this test but times to live."""
    found: dict[tuple[str, bytes], bytes] = {}
    for name in await own_keys(store):
        kind = await store.context.connection.call("TYPE", name)
        if kind == b"hash":
            fields = await store.context.connection.call("HGETALL", name)
            found |= {(name, field): value for field, value in fields.items()}
        elif kind == b"stream":
            for entry, fields in await store.context.connection.call("XRANGE", name, "-", "+"):
                found[name, entry] = b"".join(k + v for k, v in fields.items())
    return found


async def test_a_long_chain_is_read_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.turns._CHAIN_PAGE", 2)
    session, first, _ = await run_turn(store)
    turns = [first]
    for i in range(4):
        session, turn, _ = await run_turn(store, session, tokens=(i, i))
        turns.append(turn)
    assert await store.turns.read_turns(session) == turns
    for i, turn in enumerate(turns):
        assert await store.turns.read_turns(session, frozenset({turn.id})) == turns[i + 1 :]


async def test_a_chain_that_bites_its_tail_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.turns._CHAIN_PAGE", 2)
    session, first, _ = await run_turn(store)
    session, second, _ = await run_turn(store, session)
    looped = encode_turn(replace(first, parent=second.id))
    key = store.context.keys.turns(ids.lineage_of(session.id))
    await store.context.connection.call("HSET", key, first.id, looped)
    with pytest.raises(CorruptState, match=session.id):
        await store.turns.read_turns(session)


async def test_a_damaged_turn_is_named(store: Store) -> None:
    session, first, _ = await run_turn(store)
    session, second, _ = await run_turn(store, session)
    key = store.context.keys.turns(ids.lineage_of(session.id))
    data = await store.context.connection.call("HGET", key, first.id)
    await store.context.connection.call("HSET", key, first.id, data[:-20] + b"\xff" + data[-19:])
    with pytest.raises(CorruptState, match=f"{first.id} is corrupt: its checksum"):
        await store.turns.read_turns(session)
    await store.context.connection.call("HDEL", key, first.id)
    with pytest.raises(CorruptState, match=f"{first.id} .* is missing"):
        await store.turns.read_turns(session)
    await store.context.connection.call(
        "HSET", key, first.id, await store.context.connection.call("HGET", key, second.id)
    )
    with pytest.raises(CorruptState, match=f"{first.id} is corrupt: its checksum"):
        await store.turns.read_turns(session)


@pytest.mark.parametrize("count", [24, 200])
async def test_a_commit_writes_at_most_a_kilobyte_and_8_bytes_a_token(tmp_path: Path, count: int) -> None:
    """Counted in the append-only log, keys and protocol and all."""
    valkey = EmbeddedValkey(tmp_path / "valkey")
    await valkey.start()
    try:
        store = await open_store(StoreOptions(valkey.url))

        async def log_bytes() -> int:
            await store.context.connection.call("WAITAOF", 1, 0, 5000)
            return sum(file.stat().st_size for file in (valkey.data_dir / "appendonlydir").iterdir())

        session: Session | NewSession = NEW
        for _ in range(3):
            begun = await begin(store, await store.sessions.accept(session, request()))
            turn = turn_after(begun, range(count))
            result = result_of(turn)
            said = {"finish_reason": "stop", "usage": result.usage, "timing": result.timing, "position": turn.length}
            final = Event(1, "done", said | {"turn": turn.id})
            before = await log_bytes()
            assert await store.turns.commit(begun, turn, result, final, worker="worker-1") is Outcome.OK
            written = await log_bytes() - before
            session = await store.sessions.get_session("tenant", begun.session.id)
        assert written <= 1024 + 8 * count
        await store.close()
    finally:
        await valkey.stop()
