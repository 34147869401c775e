"""The server as a user starts it, with the real weights. One for the tests that need no other settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.conversation import Serve, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The default model in batch-invariant mode, 8 slots."""
    with serving(tmp_path_factory.mktemp("server"), batch_invariant="true", slots="8") as one:
        yield one
