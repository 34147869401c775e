"""What tenants use: counted alike by every api, and never a tenant locked out by whoever died."""

from __future__ import annotations

import asyncio
from typing import Any

from fixtures_store import OpenAnother
from server.store import tenants
from server.store.records import NewSession, TurnRequest
from server.store.store import Store
from support.serving import until

NEW = NewSession("red", "tiny", "model-1", 4096)
REQUEST = TurnRequest(input_ids=(1, 2), max_tokens=4, sampling={"seed": 1})


async def begun(store: Store, ticket: str | None, new: NewSession = NEW) -> str:
    assert ticket is not None
    generation = await store.sessions.accept(new, REQUEST)
    await store.tenants.occupy(new.tenant, ticket, generation.id)
    return generation.id


async def test_requests_are_counted_over_all_apis(store: Store, open_another: OpenAnother):
    other = await open_another()
    waits = [await one.tenants.take_request("red", 4) for one in (store, other) * 2]
    assert waits == [0, 0, 0, 0]
    for one in (store, other):
        wait = await one.tenants.take_request("red", 4)
        assert 13 < wait <= 15  # a quarter of a minute; being refused does not make it longer
    assert await store.tenants.take_request("blue", 4) == 0


async def test_the_bucket_fills_evenly(store: Store):
    async def taken() -> bool:
        return await store.tenants.take_request("red", 600) == 0

    for _ in range(900):
        if not await taken():
            break
    else:
        raise AssertionError("a bucket without a bottom")
    assert 0 < await store.tenants.take_request("red", 600) <= 0.1
    await until(taken, 2.0)


async def test_many_at_once_get_as_many_places_as_there_are(store: Store, open_another: OpenAnother):
    other = await open_another()
    tickets = await asyncio.gather(*(one.tenants.reserve("red", 3) for one in (store, other) * 5))
    held = [ticket for ticket in tickets if ticket is not None]
    assert len(set(held)) == 3
    assert await store.tenants.reserve("blue", 3) is not None
    await other.tenants.release("red", held[0])
    assert await store.tenants.reserve("red", 3) is not None
    assert await store.tenants.reserve("red", 3) is None


async def test_a_generation_that_has_ended_makes_room(store: Store):
    first, second = [await begun(store, await store.tenants.reserve("red", 2)) for _ in range(2)]
    assert await store.tenants.reserve("red", 2) is None
    await store.sessions.cancel("red", first)
    third = await store.tenants.reserve("red", 2)
    assert third is not None
    assert await store.tenants.reserve("red", 2) is None
    # Its record may be gone by the time anybody looks.
    await store.context.connection.call("DEL", store.context.keys.generation(second))
    assert await store.tenants.reserve("red", 2) is not None


async def test_a_place_that_nobody_gave_back_is_free_again(store: Store, monkeypatch: Any):
    monkeypatch.setattr(tenants, "TICKET_MS", 1)  # whole seconds: it is over with the next one
    assert await store.tenants.reserve("red", 1) is not None

    async def free() -> bool:
        return await store.tenants.reserve("red", 1) is not None

    await until(free, 5.0)


async def test_stored_bytes_are_the_sum_over_the_tenant_s_own_sessions(store: Store, monkeypatch: Any):
    monkeypatch.setattr(tenants, "_PAGE", 2)
    made = [await store.sessions.create_session(NEW) for _ in range(5)]
    strange = await store.sessions.create_session(NewSession("blue", "tiny", "model-1", 4096))
    sizes = [("HSET", store.context.keys.session(one.id), "stored_bytes", 10**n) for n, one in enumerate(made)]
    await store.context.connection.pipeline(
        [*sizes, ("HSET", store.context.keys.session(strange.id), "stored_bytes", 7)]
    )
    assert await store.tenants.stored_bytes("red") == 11111
    await store.branches.delete("red", made[-1].id)
    assert await store.tenants.stored_bytes("red") == 1111
    assert await store.tenants.stored_bytes("nobody") == 0
