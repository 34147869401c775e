"""One server, as redis-py speaks to it: a bounded pool of connections, and answers that keep their errors.

It knows nothing of which commands belong to this server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio import Connection as TcpConnection
from redis.asyncio import UnixDomainSocketConnection as UnixConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

Command = Sequence[str | bytes | int | float]
Address = tuple[str, int]


async def cancellable(work: Awaitable[Any]) -> Any:
    """Await it, and honour a cancellation that it swallowed.

    redis-py writes under `asyncio.wait_for`, which on Python 3.11 drops a cancellation that comes at the moment the
    write is done; a task that then waits for something else would never end. Nor would one whose work then fails, and
    that goes on after failures.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        result = await work
    except Exception as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


def pauses() -> ExponentialWithJitterBackoff:
    """Between the tries of what failed: growing, jittered, s."""
    return ExponentialWithJitterBackoff(cap=0.5, base=0.02)


class Node:
    """One server's connections; safe for any number of tasks of one event loop."""

    def __init__(
        self, url: str, address: Address | None, *, timeout_s: float, retries: int, connections: int = 64
    ) -> None:
        """url: where it is, and as whom to speak. address: host and port, in place of the url's."""
        self.timeout_s = timeout_s
        # Untyped in redis-py.
        self._pool: Any = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout_s,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_read_size=1 << 18,
            retry=Retry(pauses(), retries),
        )
        if address is not None:
            self._pool.connection_kwargs |= {"host": address[0], "port": address[1]}
            if self._pool.connection_class is UnixConnection:
                self._pool.connection_kwargs.pop("path")
                self._pool.connection_class = TcpConnection
        self.host = str(self._pool.connection_kwargs.get("host", "localhost"))
        self._redis: Any = Redis(connection_pool=self._pool)
        # Its connection failed the last time.
        self.failing = False

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to one round trip, errors among them. Raises redis-py's errors for a connection that fails."""
        if len(commands) == 1:
            try:
                return [await cancellable(self._redis.execute_command(*commands[0]))]
            except redis.exceptions.ResponseError as error:
                return [error]
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await cancellable(pipe.execute(raise_on_error=False))
        return answers

    def dedicated(self) -> Any:
        """A redis-py connection of its own, not connected yet; its owner closes it."""
        return self._pool.make_connection()

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self._redis.aclose()
        await self._pool.disconnect()
