"""Files that are sent and received: places among them, and how long one may take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.api import files
from server.api.body import ClientGoneError
from server.api.files import Download
from server.api.transfers import Transfers
from server.errors import QueueFull


def test_a_tenant_has_half_of_the_places() -> None:
    transfers = Transfers(4)
    mine = [transfers.take("a") for _ in range(2)]
    with pytest.raises(QueueFull, match="of your sessions"):
        transfers.take("a")
    theirs = [transfers.take("b") for _ in range(2)]
    with pytest.raises(QueueFull, match="Too many sessions"):
        transfers.take("c")
    mine[0]()
    mine[0]()  # once is enough
    theirs[0]()
    transfers.take("c")
    transfers.take("a")
    with pytest.raises(QueueFull):
        transfers.take("d")


def test_a_single_place_is_anybodys() -> None:
    transfers = Transfers(1)
    transfers.take("a")()
    transfers.take("b")
    with pytest.raises(QueueFull):
        transfers.take("a")


async def test_a_reader_who_is_never_quite_too_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk is taken in time; the file as a whole is not."""
    monkeypatch.setattr(files, "DOWNLOAD_S", 0.05)
    monkeypatch.setattr(files, "CHUNK", 1)
    ended: list[bool] = []
    sent: list[Any] = []

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    endless = 10_000_000
    download = Download(bytes(endless), "x", lambda: ended.append(True))
    receive: Any = None
    with pytest.raises(ClientGoneError):
        await download({}, receive, send)
    assert ended == [True]
    assert 0 < len(sent) < endless


async def test_a_file_that_is_read_is_whole() -> None:
    data, sent = bytes(range(256)) * 3000, list[Any]()

    async def send(message: Any) -> None:
        sent.append(message)

    receive: Any = None
    await Download(data, "x", lambda: None)({}, receive, send)
    assert b"".join(message["body"] for message in sent[1:]) == data
    assert [message["more_body"] for message in sent[1:]] == [True, True, False]
