"""Fixtures for whatever needs a real store: `valkey` (one per test session), `store`, `open_another`.

A conftest takes them with `from fixtures_store import open_another, store, valkey`. Each test has a key prefix of its
own, and fails when it leaves a key without a time to live, except the queue's streams.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from server.store.embedded import EmbeddedValkey
from server.store.store import Store, StoreOptions, open_store

OpenAnother = Callable[..., Awaitable[Store]]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A running embedded Valkey."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


async def own_keys(store: Store) -> list[str]:
    """All keys under the store's prefix."""
    cursor, found = b"0", list[bytes]()
    while True:
        cursor, page = await store.context.connection.call(
            "SCAN", cursor.decode(), "MATCH", f"{store.context.options.prefix}:*", "COUNT", 500
        )
        found += page
        if int(cursor) == 0:
            return [name.decode() for name in found]
        cursor = str(cursor).encode() if isinstance(cursor, int) else cursor


async def immortal_keys(store: Store) -> list[str]:
    """Those without a time to live, the queue's streams aside: everybody's, and one per worker."""
    queue = store.context.keys.queue
    names = [name for name in await own_keys(store) if name != queue and not name.startswith(f"{queue}:")]
    lives = await store.context.connection.pipeline([("PTTL", name) for name in names])
    return [name for name, life in zip(names, lives, strict=True) if life == -1]


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[Store]:
    """A store of this test's own."""
    options = StoreOptions(valkey.url, prefix=f"test-{secrets.token_hex(6)}", poll_s=0.25)
    opened = await open_store(options)
    yield opened
    leaked = await immortal_keys(opened)
    if names := await own_keys(opened):
        await opened.context.connection.call("DEL", *names)
    await opened.close()
    if leaked:
        pytest.fail(f"keys without a time to live: {leaked}")


@pytest.fixture
async def open_another(store: Store) -> AsyncIterator[OpenAnother]:
    """`await open_another(max_queue=3, clock=…)`: a second store on the same keys, with other options."""
    opened: list[Store] = []

    async def another(clock: Callable[[], float] | None = None, **changes: Any) -> Store:
        options = replace(store.context.options, **changes)
        opened.append(await (open_store(options) if clock is None else open_store(options, clock)))
        return opened[-1]

    yield another
    for other in opened:
        await other.close()
