"""Every test of this folder runs on the embedded Valkey and, in `make test-full`, on Redis 7; the latter is skipped,
visibly, where no `redis-server` is installed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_store import open_another, store
from server.store.embedded import EmbeddedValkey

__all__ = ["open_another", "store", "valkey"]

REDIS = shutil.which("redis-server")


@pytest.fixture(scope="session", params=["valkey", pytest.param("redis", marks=pytest.mark.full)])
def valkey(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    if request.param == "redis" and REDIS is None:
        pytest.skip("redis-server is not installed (Debian and Ubuntu: apt-get install redis-server)")
    binary = Path(REDIS) if REDIS and request.param == "redis" else None
    server = EmbeddedValkey(tmp_path_factory.mktemp("store"), binary=binary)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
