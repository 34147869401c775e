"""Records of responses and labels of conversations on a real store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fixtures_store import OpenAnother, own_keys
from server.errors import CorruptState, ResponseNotFound, SessionGone
from server.store import keys as ids
from server.store.responses import KEPT, Labels, ResponseRecord
from server.store.store import Store
from support.store_play import NEW, run_turn


def record_of(generation: str, session: str) -> ResponseRecord:
    return ResponseRecord(generation, session, "tenant", 5.5, {"model": "tiny", "metadata": {"a": "b"}})


async def test_a_response_is_kept_once_and_found_by_its_owner(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    record = record_of(begun.generation.id, session.id)
    assert await store.responses.keep(record) == record
    assert await store.responses.keep(replace(record, about={})) == record
    assert await store.responses.get("tenant", record.id) == record
    assert await store.responses.turn(record) == turn
    assert record.id == ids.response_of(ids.generation_of(turn.id))
    for tenant, name in (("other", record.id), ("tenant", record.id[:-1] + "-"), ("tenant", turn.id), ("tenant", "")):
        with pytest.raises(ResponseNotFound):
            await store.responses.get(tenant, name)
    await store.responses.conclude(record, {"final": ["done", {}]})
    assert (await store.responses.get("tenant", record.id)).ending == {"final": ["done", {}]}


async def test_a_deleted_response_leaves_its_turn_and_a_deleted_session_no_response(store: Store) -> None:
    session, turn, begun = await run_turn(store)
    record = await store.responses.keep(record_of(begun.generation.id, session.id))
    fork = await store.branches.fork(session)
    await store.responses.delete(record)
    await store.responses.conclude(record, {"final": ["done", {}]})
    with pytest.raises(ResponseNotFound):
        await store.responses.get("tenant", record.id)
    assert (await store.sessions.get_session("tenant", session.id)).head == turn.id
    await store.responses.keep(record)
    await store.branches.delete("tenant", session.id)
    with pytest.raises(ResponseNotFound):
        await store.responses.get("tenant", record.id)
    await store.branches.delete("tenant", fork.id)
    lineage = ids.lineage_of(session.id)
    assert not [key for key in await own_keys(store) if f"{{{lineage}}}" in key and ":gone:" not in key]


async def test_the_oldest_of_a_lineage_give_way_and_nothing_lives_for_ever(store: Store) -> None:
    session = await store.sessions.create_session(NEW)
    lineage, most = ids.lineage_of(session.id), KEPT * store.context.options.turns_kept
    records = [record_of(ids.new_generation_id(lineage), session.id) for _ in range(most + 2)]
    for record in records:
        await store.responses.keep(record)
        await store.responses.conclude(record, {"n": 1})
    for gone in records[:2]:
        with pytest.raises(ResponseNotFound):
            await store.responses.get("tenant", gone.id)
    assert (await store.responses.get("tenant", records[2].id)).ending == {"n": 1}
    keys = store.context.keys
    assert await store.context.connection.call("HLEN", keys.responses(lineage)) == 2 * most + 1
    for key in (keys.responses(lineage), keys.response_order(lineage)):
        assert await store.context.connection.call("PTTL", key) > 0


async def test_a_conversation_s_labels_go_with_its_session(store: Store) -> None:
    session = await store.sessions.create_session(NEW)
    assert await store.responses.labels(session.id) == Labels({}, ())
    await store.responses.label(session.id, metadata={"a": "b"}, items=({"role": "user"},))
    await store.responses.label(session.id, metadata={"c": "d"})
    assert await store.responses.labels(session.id) == Labels({"c": "d"}, ({"role": "user"},))
    assert await store.sessions.get_session("tenant", session.id) == replace(
        session, expires=pytest.approx(session.expires, abs=5)
    )
    await store.branches.delete("tenant", session.id)
    with pytest.raises(SessionGone):
        await store.responses.label(session.id, metadata={})
    assert not await store.context.connection.call("EXISTS", store.context.keys.session(session.id))


async def test_damaged_records_are_named(store: Store) -> None:
    session, _, begun = await run_turn(store)
    record = await store.responses.keep(record_of(begun.generation.id, session.id))
    key = store.context.keys.responses(ids.lineage_of(session.id))
    await store.context.connection.call("HSET", key, record.id.rpartition("_")[2], b"{")
    with pytest.raises(CorruptState, match=begun.generation.id):
        await store.responses.get("tenant", record.id)
    await store.context.connection.call("HSET", store.context.keys.session(session.id), "conv_items", b"5")
    with pytest.raises(CorruptState, match=session.id):
        await store.responses.labels(session.id)


async def test_what_is_kept_beside_the_turns_counts_as_stored(store: Store) -> None:
    session, _, begun = await run_turn(store)
    empty = await store.tenants.stored_bytes("tenant")
    assert empty == session.stored_bytes > 0
    fork = await store.branches.fork(session)
    both = empty + fork.stored_bytes
    record = await store.responses.keep(record_of(begun.generation.id, session.id))
    kept = await store.tenants.stored_bytes("tenant") - both  # once, though two sessions are of its lineage
    assert 100 < kept < 1000
    await store.responses.keep(record)
    assert await store.tenants.stored_bytes("tenant") == both + kept
    for ending in ({"n": "x" * 500}, {"n": "y" * 200}):
        await store.responses.conclude(record, ending)
        assert await store.tenants.stored_bytes("tenant") == both + kept + len('{"n":""}') + len(ending["n"])
    await store.responses.label(session.id, metadata={"a": "b" * 300}, items=({"role": "c" * 50},))
    labelled = await store.tenants.stored_bytes("tenant")
    await store.responses.label(session.id, metadata={"a": ""})
    assert await store.tenants.stored_bytes("tenant") == labelled - 300
    await store.responses.delete(record)
    await store.responses.delete(record)
    left = await store.tenants.stored_bytes("tenant")
    assert left == both + len('{"a":""}') + len('[{"role":""}]') + 50
    # With its session go its records, though others are of the lineage, and theirs stay.
    mine, theirs = (record_of(ids.new_generation_id(ids.lineage_of(session.id)), one.id) for one in (session, fork))
    for one in (mine, theirs):
        await store.responses.keep(one)
        await store.responses.conclude(one, {"n": 1})
    await store.branches.delete("tenant", session.id)
    assert await store.responses.get("tenant", theirs.id)
    own = await store.context.connection.call("HKEYS", store.context.keys.responses(ids.lineage_of(session.id)))
    name = theirs.id.rpartition("_")[2]
    assert {field.decode() for field in own} == {name, f"{name}:end", "bytes"}
    assert await store.tenants.stored_bytes("tenant") == fork.stored_bytes + kept + len('{"n":1}')


async def test_records_that_give_way_are_counted_no_more(store: Store, open_another: OpenAnother) -> None:
    few = await open_another(turns_kept=1)
    session = await store.sessions.create_session(NEW)
    lineage = ids.lineage_of(session.id)
    sizes = set()
    for _ in range(3 * KEPT):
        record = await few.responses.keep(record_of(ids.new_generation_id(lineage), session.id))
        await few.responses.conclude(record, {"n": 1})
        sizes.add(await store.tenants.stored_bytes("tenant"))
    assert len(sizes) == KEPT
