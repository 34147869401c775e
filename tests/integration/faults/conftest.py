"""A tiny random model in batch-invariant mode, the same for every test here, and its oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoint import tiny_checkpoint
from support.fleet import Fleet, fleet
from support.oracle import Oracle

WINDOW = 32


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def oracle(checkpoint: Path) -> Oracle:
    return Oracle(checkpoint, WINDOW)


@pytest.fixture(scope="session")
def settings(checkpoint: Path) -> dict[str, str]:
    return {
        "model": str(checkpoint),
        "slots": "8",
        "sliding_window": str(WINDOW),
        "snapshot_every": "24",
        "batch_invariant": "true",
    }


@pytest.fixture
def empty_fleet(tmp_path: Path, settings: dict[str, str]) -> Iterator[Fleet]:
    """A store, and nobody on it yet."""
    with fleet(tmp_path, **settings) as made:
        yield made
