"""What a server must be to hold our sessions."""

from __future__ import annotations

import pytest

from server.errors import StartupError
from server.store.store import check_version


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.1.0", "255.0"])
def test_redis_7_and_what_calls_itself_newer_will_do(version: str) -> None:
    check_version({"redis_version": version})


@pytest.mark.parametrize("info", [{"redis_version": "6.2.14"}, {"redis_version": "x"}, {}])
def test_an_older_one_is_refused_by_its_version(info: dict[str, object]) -> None:
    with pytest.raises(StartupError, match="Redis 7"):
        check_version(info)
