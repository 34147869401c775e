"""The fixture itself: a key that would live for ever does not get past it."""

from __future__ import annotations

import shutil

import pytest

from fixtures_store import immortal_keys, own_keys
from server.store.store import Store
from support.store_play import run_turn


async def test_a_key_without_a_time_to_live_is_found(store: Store) -> None:
    await run_turn(store)
    assert len(await own_keys(store)) > 5
    assert await immortal_keys(store) == []
    leak = f"{store.context.options.prefix}:leak"
    await store.context.connection.call("SET", leak, "x")
    assert await immortal_keys(store) == [leak]
    await store.context.connection.call("DEL", leak)


if shutil.which("redis-server") is None:

    def test_redis_7_is_tested_too() -> None:
        pytest.skip("there is no redis-server on this machine: the store was tested on the embedded Valkey only")
