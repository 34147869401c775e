"""What redis-py's exceptions mean to us, cancellations it swallows, and servers that say nothing."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.exceptions as theirs

from server.errors import PerennialError, StoreFull, StoreUnavailable
from server.store.connection import Connection, translate, translated, within
from server.store.node import cancellable
from server.store.scripts import Scripts


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (theirs.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), StoreFull, "full"),
        (theirs.ResponseError("OOM command not allowed. script: 1234"), StoreFull, "full"),
        (theirs.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), StoreFull, "disk"),
        (theirs.ResponseError("MISCONF Valkey is configured to save RDB snapshots, but hunter2"), StoreFull, "disk"),
        (theirs.ConnectionError("Error 111 connecting to 10.1.2.3:6379"), StoreUnavailable, "can't be reached"),
        (theirs.TimeoutError("Timeout reading from 10.1.2.3:6379"), StoreUnavailable, "can't be reached"),
        (theirs.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailable, "loading"),
        (theirs.AuthenticationError("WRONGPASS hunter2"), StoreUnavailable, "password"),
        (theirs.NoPermissionError("no"), StoreUnavailable, "refused"),
        (theirs.ReadOnlyError("You can't write against a read only replica."), StoreUnavailable, "refused"),
        (theirs.ClusterDownError("The cluster is down"), StoreUnavailable, "cluster"),
        (theirs.MovedError("1234 10.1.2.3:6379"), StoreUnavailable, "cluster"),
        (theirs.TryAgainError("Multiple keys request during rehashing of slot"), StoreUnavailable, "cluster"),
        (theirs.ResponseError("WRONGTYPE Operation against hunter2"), StoreUnavailable, "WRONGTYPE"),
        (theirs.ResponseError("unknown command hunter2"), StoreUnavailable, r"\(ResponseError\)"),
        (ConnectionResetError("hunter2"), StoreUnavailable, "can't be reached"),
    ],
)
def test_every_exception_of_theirs_is_one_of_ours(error: Exception, kind: type[PerennialError], message: str) -> None:
    ours = translate(error)
    assert type(ours) is kind
    assert "hunter2" not in ours.message
    assert "10.1.2.3" not in ours.message
    with pytest.raises(kind, match=message), translated():
        raise error


def test_what_is_not_theirs_passes() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError("x")


async def test_a_swallowed_cancellation_is_honoured() -> None:
    inside = asyncio.Event()

    async def swallow() -> str:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        raise AssertionError

    task = asyncio.create_task(cancellable(swallow()))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_swallowed_cancellation_is_honoured_where_the_work_then_fails() -> None:
    inside = asyncio.Event()

    async def swallow() -> str:
        inside.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise theirs.ConnectionError from None
        raise AssertionError

    task = asyncio.create_task(cancellable(swallow()))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_in_a_task_that_is_being_cancelled_goes_on() -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "cleaned up"

    async def clean_up() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return str(await cancellable(answer()))
        raise AssertionError

    task = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "cleaned up"


class Curt(asyncio.Protocol):
    """A server that answers next to nothing, or (`mute`) nothing at all."""

    def __init__(self, mute: bool) -> None:
        self.mute = mute
        self.transport = asyncio.Transport()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for name in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", data):
            answer = b"$17\r\ncluster_enabled:0\r\n" if name == b"INFO" else b"+PONG\r\n"
            self.transport.write(b"" if self.mute else answer)


@asynccontextmanager
async def listening(mute: int) -> AsyncIterator[str]:
    """A server whose first `mute` connections are never answered; its url."""
    made = itertools.count()
    server = await asyncio.get_running_loop().create_server(lambda: Curt(next(made) < mute), "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    """However many tries there are, each with its connection to be made anew."""
    async with listening(mute=10**9) as url:
        connection = Connection(url, Scripts({}, ()), timeout_s=0.2, retries=100)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(StoreUnavailable):
            await connection.call("PING")
        assert 0.19 < loop.time() - began < 2.0
        await connection.close()


async def test_a_connection_that_died_silently_is_replaced_within_one_command() -> None:
    async with listening(mute=1) as url:
        connection = Connection(url, Scripts({}, ()), timeout_s=2.0, retries=3)
        assert await connection.call("PING")
        await connection.close()


async def test_a_process_that_was_held_up_itself_asks_again() -> None:
    tries = 0

    async def work() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            time.sleep(0.2)  # noqa: ASYNC251 - what is tried: the whole process stands still
            await asyncio.Event().wait()
        return "answered"

    assert await within(0.05, work) == "answered"
    assert tries == 2
