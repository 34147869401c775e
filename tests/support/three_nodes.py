"""A cluster of three real nodes on loopback, each with a third of the slots."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot

from server.errors import StartupError
from server.store.embedded import EmbeddedValkey

SLOTS = 16384


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class ThreeNodes:
    """`await start()`, use `url`, `await stop()`. Every write is on the disk when it is answered."""

    def __init__(self, folder: Path, binary: Path | None) -> None:
        self._folder = folder
        self._binary = binary
        self._servers: list[EmbeddedValkey] = []
        self.ports: list[int] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.ports[0]}"

    async def start(self) -> None:
        for attempt in range(3):
            try:
                await self._start(self._folder / str(attempt))
            except StartupError:  # someone took a port that was free
                await self.stop()
            else:
                return
        raise AssertionError("no cluster came up")

    async def _start(self, folder: Path) -> None:
        ports = free_ports(6)
        self.ports, buses = ports[:3], ports[3:]
        self._servers = []
        for port, bus in zip(self.ports, buses, strict=True):
            mode = {
                "cluster-enabled": "yes",
                "port": str(port),
                "cluster-port": str(bus),
                "bind": "127.0.0.1",
                "cluster-node-timeout": "1000",
                # So that a test sees which commands fail while a node is away.
                "cluster-require-full-coverage": "no",
            }
            self._servers.append(EmbeddedValkey(folder / str(port), fsync="always", binary=self._binary, extra=mode))
            await self._servers[-1].start()
        async with self.clients() as clients:
            for i, client in enumerate(clients):
                first, last = i * SLOTS // 3, (i + 1) * SLOTS // 3 - 1
                await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                await client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[0], buses[0])
        await self.whole()

    async def whole(self) -> None:
        """Until every node sees three nodes that have all slots."""
        async with asyncio.timeout(30), self.clients() as clients:
            for client in clients:
                while True:
                    info = (await client.execute_command("CLUSTER", "INFO")).decode()
                    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
                    slots = await client.execute_command("CLUSTER", "SLOTS")
                    if (
                        facts["cluster_state"] == "ok"
                        and facts["cluster_slots_ok"] == str(SLOTS)
                        and len({row[2][1] for row in slots}) == 3
                    ):
                        break
                    await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop()

    def kill(self, node: int) -> None:
        """As a machine that loses power would end."""
        pid = self._servers[node].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def restart(self, *nodes: int) -> None:
        """The same nodes again, with what they had."""
        await asyncio.gather(*(self._servers[node].start() for node in nodes))
        await self.whole()

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[list[Any]]:
        """One plain client per node."""
        async with AsyncExitStack() as stack:
            clients: list[Any] = [Redis(host="127.0.0.1", port=port, protocol=2) for port in self.ports]
            for client in clients:
                stack.push_async_callback(client.aclose)
            yield clients

    async def node_of(self, key: str) -> int:
        """Which node has a key's slot."""
        slot = key_slot(key.encode())
        async with self.clients() as clients:
            for first, last, (_, port, *_), *_ in await clients[0].execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return self.ports.index(port)
        raise AssertionError(f"nobody has slot {slot}")

    async def keys(self, prefix: str) -> dict[str, int]:
        """Every key under a prefix, on all nodes, and its time to live in ms."""
        found: dict[str, int] = {}
        async with self.clients() as clients:
            for client in clients:
                for name in await client.execute_command("KEYS", f"{prefix}:*"):
                    found[name.decode()] = await client.execute_command("PTTL", name)
        return found
