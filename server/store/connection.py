"""The one way to Redis or Valkey: a bounded pool, bounded retries, and errors of ours only.

Every command has a timeout, is repeated a few times with growing, jittered pauses when the connection fails, and then
raises StoreUnavailable; so whatever is sent here must bear being sent twice. A full store is StoreFull. No exception
of redis-py leaves this file, and none of ours carries what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from server.errors import PerennialError, StoreFull, StoreUnavailable
from server.store.scripts import Call, Prepared, Scripts, Value

Command = Sequence[Value | float]


def translate(error: Exception) -> PerennialError:
    """What an exception of redis-py means to us. Only the first word of a reply is quoted: the rest may hold data."""
    text = str(error)
    if isinstance(error, redis.exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull()
    if text.startswith("MISCONF") or "No space left on device" in text:
        return StoreFull("The session store can't write to its disk; nothing was written.")
    if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.AuthorizationError):
        return StoreUnavailable("The session store refuses this server's name or password.")
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return StoreUnavailable("The session store is still loading its data; try again shortly.")
    if isinstance(error, redis.exceptions.ResponseError):
        word = text.split(" ", 1)[0]
        return StoreUnavailable(
            f"The session store refused a command ({word if word.isupper() else type(error).__name__})."
        )
    return StoreUnavailable()


def _alone(error: redis.exceptions.ResponseError) -> bool:
    """Whether it is about one call and the keys it names (or a store that fills up), not about the whole server."""
    word = str(error).split(" ", 1)[0]
    plain = type(error) is redis.exceptions.ResponseError and (word == "WRONGTYPE" or not word.isupper())
    return plain or isinstance(translate(error), StoreFull)


@contextmanager
def translated() -> Iterator[None]:
    """Raise `translate`'s error for any of redis-py's, or of the system's, raised inside."""
    try:
        yield
    except (redis.exceptions.RedisError, OSError) as error:
        # A reply's text may hold what was written: it is not chained.
        raise translate(error) from (None if isinstance(error, redis.exceptions.ResponseError) else error)


async def cancellable(work: Awaitable[Any]) -> Any:
    """Await it, and honour a cancellation that it swallowed.

    redis-py writes under `asyncio.wait_for`, which on Python 3.11 drops a cancellation that comes at the moment the
    write is done; a task that then waits for something else would never end.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await work
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


class Connection:
    """Commands, pipelines and scripts over one pool; safe for any number of tasks of one event loop."""

    def __init__(self, url: str, scripts: Scripts, *, timeout_s: float, retries: int, connections: int = 64) -> None:
        """url: redis://, rediss:// or unix://. timeout_s: of every read, write and connect."""
        self.timeout_s = timeout_s
        self._scripts = scripts
        # Untyped in redis-py.
        self._pool: Any = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=timeout_s,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_read_size=1 << 18,
            retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), retries),
        )
        self._redis: Any = Redis(connection_pool=self._pool)

    async def call(self, *command: Value | float) -> Any:
        """One command."""
        with translated():
            return await cancellable(self._redis.execute_command(*command))

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one round trip; the first error among the answers is raised."""
        if not commands:
            return []
        with translated():
            answers = await self._send(commands)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, exceptions among them."""
        pipe = self._redis.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await cancellable(pipe.execute(raise_on_error=False))
        return answers

    async def run(self, call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        """One script, by its hash; in full where the server does not know it yet."""
        script = self._scripts.prepare(call, keys, args)
        with translated():
            try:
                return await cancellable(self._redis.execute_command(*script.by_hash()))
            except redis.exceptions.NoScriptError:
                return await cancellable(self._redis.execute_command(*script.in_full()))

    async def run_many(self, call: Call, calls: Sequence[tuple[Sequence[Value], Sequence[Value]]]) -> list[Any]:
        """One script with several (keys, args), in one round trip, each atomic by itself.

        A call that is refused for its own keys, or by a store that is full by now, has its error in its place; what
        concerns the whole server is raised.
        """
        scripts = [self._scripts.prepare(call, keys, args) for keys, args in calls]
        if not scripts:
            return []
        with translated():
            answers = await self._send([s.by_hash() for s in scripts])
            return [await self._settle(s, answer) for s, answer in zip(scripts, answers, strict=True)]

    async def _settle(self, script: Prepared, answer: Any) -> Any:
        try:
            if isinstance(answer, redis.exceptions.NoScriptError):
                return await cancellable(self._redis.execute_command(*script.in_full()))
            if isinstance(answer, Exception):
                raise answer
        except redis.exceptions.ResponseError as error:
            if not _alone(error):
                raise
            return translate(error)
        return answer

    def dedicated(self) -> Any:
        """A redis-py connection of its own, not connected yet, for pub/sub; its owner closes it."""
        return self._pool.make_connection()

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self._redis.aclose()
        await self._pool.disconnect()
