"""One Valkey and one api for all tests of a process; each test has its own scripted worker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from model.tokenizer import Tokenizer, load_tokenizer
from server.store.embedded import EmbeddedValkey
from support.serving import Process, ScriptedWorker, running_api, scripted_worker, tiny_tokenizer


@dataclass(frozen=True)
class Serving:
    """What the tests talk to."""

    url: str
    process: Process
    redis_url: str
    prefix: str
    tokenizer: Tokenizer
    settings: dict[str, str]
    cwd: Path


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"), fsync="no")
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def serving(valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("api")
    model = tiny_tokenizer(folder / "tiny")
    settings = {
        "redis_url": valkey.url,
        "key_prefix": f"test-{secrets.token_hex(4)}",
        "model": str(model),
        "cache_dir": str(folder / "cache"),
        "max_tokens_limit": "4096",
        "max_tokens_default": "64",
        "max_prompt_tokens": "20000",
        "max_body_bytes": "200000",
        "max_queue": "8",
        "ping_s": "0.2",
        "drain_s": "2",
    }
    with running_api(folder, **settings) as (url, process):
        yield Serving(
            url, process, valkey.url, settings["key_prefix"], load_tokenizer(model, folder / "cache"), settings, folder
        )
    assert "Traceback" not in process.errors()
    assert '"level": "error"' not in process.errors()


@pytest.fixture
async def worker(serving: Serving) -> AsyncIterator[ScriptedWorker]:
    async with scripted_worker(serving.redis_url, serving.prefix, serving.tokenizer.fingerprint) as one:
        yield one


@pytest.fixture
async def client(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=serving.url, timeout=20.0) as one:
        yield one
