"""The embedded Valkey: starts, ends, survives what crashes leave, and says clearly when it can't run."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.errors import StartupError, StoreFull
from server.store.connection import Connection
from server.store.embedded import EmbeddedValkey
from server.store.scripts import Scripts
from server.store.store import Store, StoreOptions, open_store
from support.store_play import NEW, begin, request, run_turn, token

# A server for every test is slow, so these run on the embedded one only.
PARENT = """
import asyncio, sys, time
from pathlib import Path
from server.store.embedded import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]), fsync="always")
async def main():
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    embedded = EmbeddedValkey(tmp_path / "data", fsync="always")
    await embedded.start()
    yield embedded
    await embedded.stop()


async def call(server: EmbeddedValkey, *command: str) -> object:
    connection = Connection(server.url, Scripts({}, ()), timeout_s=5.0, retries=3)
    try:
        return await connection.call(*command)
    finally:
        await connection.close()


def parent_of_a_server(data_dir: Path) -> subprocess.Popen[str]:
    """A process that runs an embedded server on this directory, once that is ready."""
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(data_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return process


async def test_it_is_private_durable_and_never_evicts(server: EmbeddedValkey) -> None:
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    for name, value in {
        "port": b"0",
        "appendonly": b"yes",
        "aof-load-truncated": b"yes",
        "maxmemory-policy": b"noeviction",
        "save": b"",
    }.items():
        answer = await call(server, "CONFIG", "GET", name)
        assert isinstance(answer, list)
        assert answer[1] == value
    assert server.log.exists()


async def test_data_survive_a_stop(server: EmbeddedValkey) -> None:
    await call(server, "SET", "k", "v")
    await server.stop()
    assert server.pid is None
    assert not server.socket.exists()
    await server.start()
    assert await call(server, "GET", "k") == b"v"
    pid = server.pid
    await server.start()  # already running
    assert server.pid == pid


async def test_data_survive_a_kill_that_leaves_its_socket(server: EmbeddedValkey) -> None:
    await call(server, "SET", "k", "v")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while server.pid is not None:
        await asyncio.sleep(0)
    assert server.socket.exists()
    await server.start()
    assert await call(server, "GET", "k") == b"v"


async def test_a_log_cut_short_by_a_power_loss_is_loaded(server: EmbeddedValkey) -> None:
    for i in range(20):
        await call(server, "SET", f"k{i}", "v" * 50)
    await server.stop()
    [log] = (server.data_dir / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 30)
    await server.start()
    assert await call(server, "GET", "k18") == b"v" * 50
    assert await call(server, "GET", "k19") is None


async def test_two_servers_never_share_a_directory(server: EmbeddedValkey) -> None:
    with pytest.raises(StartupError, match=rf"in use .*pid {os.getpid()}"):
        await EmbeddedValkey(server.data_dir).start()
    assert await call(server, "ECHO", "still here") == b"still here"


async def test_another_process_is_named_and_its_death_frees_the_directory(tmp_path: Path) -> None:
    parent = parent_of_a_server(tmp_path / "data")
    heir = EmbeddedValkey(tmp_path / "data")
    try:
        with pytest.raises(StartupError, match=f"pid {parent.pid}"):
            await heir.start()
    finally:
        parent.kill()
        parent.communicate()
    # Its server goes with it (or is told to, where the kernel does not) and then the directory is free.
    await heir.start()
    await heir.stop()


async def test_a_path_too_long_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / ("long" * 30) / "data")
    assert len(os.fsencode(server.socket)) <= 103
    assert not server.socket.is_relative_to(tmp_path)
    assert EmbeddedValkey(tmp_path / "other" / ("long" * 30)).socket != server.socket
    await server.start()
    try:
        assert await call(server, "SET", "k", "v") is True
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    finally:
        await server.stop()
    server.socket.parent.rmdir()


@pytest.mark.parametrize("kind", ["missing", "foreign", "failing"])
async def test_a_binary_that_can_not_run_names_the_way_out(tmp_path: Path, kind: str) -> None:
    binary = tmp_path / "binary"
    if kind == "foreign":
        binary.write_bytes(b"\x7fELF nonsense")
        binary.chmod(0o700)
    elif kind == "failing":
        binary.write_text("#!/bin/sh\nexit 3\n")
        binary.chmod(0o700)
    server = EmbeddedValkey(tmp_path / "data", binary=binary)
    reason = {"missing": "No such file", "foreign": "Exec format error", "failing": "code 3"}[kind]
    with pytest.raises(StartupError, match=f"{reason}.*PERENNIAL_REDIS_URL"):
        await server.start()
    # The lock is free again.
    healthy = EmbeddedValkey(tmp_path / "data")
    await healthy.start()
    await healthy.stop()


async def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_text("#!/bin/sh\nexec sleep 600\n")
    binary.chmod(0o700)
    server = EmbeddedValkey(tmp_path / "data", binary=binary, patience_s=0.2)
    with pytest.raises(StartupError, match="does not answer"):
        await server.start()
    assert server.pid is None


async def test_one_that_ignores_its_end_is_killed(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "data")
    await server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await server.stop(patience_s=0.05)
    assert server.pid is None


async def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="file"):
        await EmbeddedValkey(tmp_path / "file").start()


async def test_loading_a_long_log_tells_its_progress(server: EmbeddedValkey) -> None:
    await call(server, "EVAL", "for i=1,10000 do redis.call('SET', 'k'..i, 'x') end", "0")
    await server.stop()
    told: list[float] = []
    slowly = {"key-load-delay": "50"}
    slow = EmbeddedValkey(server.data_dir, progress=told.append, extra=slowly)
    await slow.start()
    try:
        assert told
        assert told == sorted(told)
        assert all(0.0 <= fraction <= 1.0 for fraction in told)
        assert await call(slow, "DBSIZE") == 10000
    finally:
        await slow.stop()


async def fill(store: Store, size: int) -> list[str]:
    """Write values of this size until the store is full."""
    names: list[str] = []
    try:
        while True:
            names.append(f"ballast:{size}:{len(names)}")
            await store.context.connection.call("SET", names[-1], b"x" * size)
    except StoreFull:
        return names


async def test_a_full_store_refuses_writes_and_keeps_what_it_has(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "data", maxmemory_bytes=8 << 20)
    await server.start()
    store = await open_store(StoreOptions(server.url, timeout_s=2.0))
    try:
        session, turn, _ = await run_turn(store)
        generation = await store.sessions.accept(session, request())
        begun = await begin(store, generation)
        ballast = [await fill(store, size) for size in (1 << 18, 1 << 13, 1 << 8)]
        with pytest.raises(StoreFull):
            await store.turns.append(generation.id, begun.fence, [token(1)])
        with pytest.raises(StoreFull):
            await store.sessions.accept(NEW, request())
        assert await store.turns.read_turns(await store.sessions.get_session("tenant", session.id)) == [turn]
        # What frees memory still works.
        await store.context.connection.call("DEL", *(name for names in ballast for name in names))
        assert await store.turns.append(generation.id, begun.fence, [token(1)]) == "OK"
    finally:
        await store.close()
        await server.stop()


async def test_errors_never_quote_what_was_written(server: EmbeddedValkey) -> None:
    store = await open_store(StoreOptions(server.url))
    try:
        generation = await store.sessions.accept(NEW, request())
        begun = await begin(store, generation)
        key = store.context.keys.events(generation.id)
        await store.context.connection.call("SET", key, "not a stream")
        secret = "the prompt said abracadabra"
        for attempt in (
            store.turns.append(generation.id, begun.fence, [token(1, secret)]),
            store.context.connection.call("XADD", key, "*", "a", secret),
            store.context.connection.call("NOSUCHCOMMAND", secret),
            store.context.connection.pipeline([("XADD", key, "*", "a", secret)]),
        ):
            with pytest.raises(Exception, match="refused a command") as caught:
                await attempt
            chain: BaseException | None = caught.value
            while chain is not None:
                assert "abracadabra" not in str(chain)
                chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    finally:
        await store.close()
