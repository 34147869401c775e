"""The whole server on a tiny random model in batch-invariant mode: 2 slots, a Valkey that the tests can reach."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_store import open_another, store
from server.store.embedded import EmbeddedValkey
from support.checkpoint import tiny_checkpoint
from support.conversation import Serve, generate, serving

__all__ = ["open_another", "store"]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), fsync="no")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def settings(valkey: EmbeddedValkey, checkpoint: Path) -> dict[str, str]:
    return {
        "redis_url": valkey.url,
        "model": str(checkpoint),
        "slots": "2",
        "sliding_window": "32",
        "snapshot_every": "24",
        "batch_invariant": "true",
        "drain_s": "1",
    }


@pytest.fixture(scope="session")
def server(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("serve"), key_prefix="shared", **settings) as one:
        yield one


@pytest.fixture(scope="session")
def state_bytes(server: Serve) -> int:
    """Of one session of the tiny model."""
    answer = generate(server.url, prompt="abc", max_tokens=1)
    found: int = server.session(answer.start["session"])["state_bytes"]
    return found
