"""One server on a tiny model for all clients: what each of them says is its own tenant's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from openai import OpenAI

from support.checkpoint import tiny_checkpoint
from support.fleet import Fleet, fleet
from support.openai_clients import KEYS, of
from support.serving import Process


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Workers and apis on one store; a tenant for each client."""
    folder = tmp_path_factory.mktemp("clients")
    hashes = [f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()]
    settings = {
        "model": str(tiny_checkpoint(folder / "tiny")),
        "slots": "4",
        "sliding_window": "64",
        "batch_invariant": "true",
        "api_keys": ",".join(hashes),
        "model_aliases": "gpt-4o-mini,other=somewhere-else",
        "max_tokens_limit": "4096",
        "max_tokens_default": "16",
    }
    with fleet(folder, **settings) as one:
        yield one


@pytest.fixture(scope="session")
def workers(running: Fleet) -> list[Process]:
    """Those that run; a test that ends one puts another in its place."""
    return [running.worker()]


@pytest.fixture(scope="session")
def url(running: Fleet, workers: list[Process]) -> str:
    return running.api()[0]


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with of(url) as one:
        yield one
