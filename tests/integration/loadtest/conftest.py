"""One small server for all runs, with a key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.access import digest_of
from support.checkpoint import tiny_checkpoint
from support.fleet import fleet

KEY = "the-load-tests-own-key"


@pytest.fixture(scope="session")
def key() -> str:
    return KEY


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("loaded")
    settings = {
        "model": str(tiny_checkpoint(folder / "tiny")),
        "slots": "4",
        "sliding_window": "64",
        "api_keys": f"load:{digest_of(KEY)}",
    }
    with fleet(folder, **settings) as one:
        one.worker()
        yield one.api()[0]
