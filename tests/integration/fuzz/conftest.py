"""One worker on a tiny model and two apis, one that asks for a key: for everything that is thrown at them.

Whatever a test threw, afterwards no process has ended, nothing unexpected is in a log, and a good request is answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from support.checkpoint import tiny_checkpoint
from support.fleet import Fleet, fleet
from support.target import Target

KEY = "key-of-the-fuzzer"
# Nothing that is generated or waited for takes long; bodies and prompts may be as large as with the defaults.
SETTINGS = {
    "slots": "4",
    "sliding_window": "64",
    "max_tokens_default": "4",
    "max_tokens_limit": "128",
    "max_prompt_tokens": "20000",
    "max_wait_s": "10",
    "ping_s": "1",
}


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fuzz")
    with fleet(folder, **SETTINGS | {"model": str(tiny_checkpoint(folder / "tiny"))}) as one:
        worker = one.worker()
        yield one
        assert worker.popen.poll() is None, worker.errors()[-4000:]
        assert "Traceback" not in worker.errors()
        assert '"level": "error"' not in worker.errors()


@pytest.fixture(scope="session")
def _open(running: Fleet) -> Target:
    return Target(*running.api(), {})


@pytest.fixture(scope="session")
def _keyed(running: Fleet) -> Target:
    key = f"fuzz:{hashlib.sha256(KEY.encode()).hexdigest()}"
    return Target(*running.api(api_keys=key), {"Authorization": f"Bearer {KEY}"})


@pytest.fixture
def target(_open: Target) -> Iterator[Target]:
    """An api that asks for no key."""
    yield _open
    _open.check()


@pytest.fixture
def keyed(_keyed: Target) -> Iterator[Target]:
    """An api that asks for a key."""
    yield _keyed
    _keyed.check()
