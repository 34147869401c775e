"""The one way to Redis or Valkey, one server or a cluster: bounded pools, bounded retries, and errors of ours only.

A command is repeated a few times with growing, jittered pauses when the connection fails, and raises StoreUnavailable
within `timeout_s` of its beginning, however its server fails: refuses, resets, hangs, or is behind a network that
swallows everything. So whatever is sent here must bear being sent twice, and late. A full store is StoreFull. No
exception of redis-py leaves this file, and none of ours carries what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis.exceptions

from server.errors import PerennialError, StoreFull, StoreUnavailable
from server.store.cluster import Cluster
from server.store.node import Command, Node
from server.store.scripts import Call, Prepared, Scripts, Value

# Of a command's time, what one try may take.
TRY_SHARE = 0.6
# Of a wait's time: where it ends so much too late, it was this process that did not run.
LATE_SHARE = 0.5

T = TypeVar("T")


async def within(seconds: float, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` comes to. Raises TimeoutError where that takes longer.

    Not where this process itself was held up meanwhile (stopped, starved of its cores): the answer may have come and
    nobody was there to read it, so it is asked for again.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + seconds
        try:
            async with asyncio.timeout_at(due):
                return await work()
        except TimeoutError:
            if loop.time() < due + LATE_SHARE * seconds:
                raise


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
    if isinstance(
        error, redis.exceptions.ClusterDownError | redis.exceptions.AskError | redis.exceptions.TryAgainError
    ):
        return StoreUnavailable("The session store's cluster is incomplete or being changed; try again shortly.")
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


class Connection:
    """Commands, pipelines and scripts; safe for any number of tasks of one event loop."""

    def __init__(self, url: str, scripts: Scripts, *, timeout_s: float, retries: int) -> None:
        """url: redis://, rediss:// or unix://, of a server or of any node of a cluster: the first answer says which.

        timeout_s: of every command (or of several in one round trip), all its tries and the waiting for a free
        connection included.
        """
        self.timeout_s = timeout_s
        self._within_s = timeout_s
        # One try has less than all of them, so that where only the connection is dead, a new one gets its chance.
        self._try_s = TRY_SHARE * timeout_s
        self._scripts = scripts
        self._url = url
        self._retries = retries
        self._server: Node | Cluster = Node(url, None, timeout_s=self._try_s, retries=retries)
        self._known = False
        self._lock = asyncio.Lock()

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, exceptions among them. Raises TimeoutError, an OSError, where they do not come in time."""

        async def send() -> list[Any]:
            if not self._known:
                await self._find_out()
            return await self._server.send(commands)

        return await within(self._within_s, send)

    async def _find_out(self) -> None:
        """Whether it is a cluster."""
        async with self._lock:
            if not self._known:
                [info] = await self._server.send([("INFO", "cluster")])
                if isinstance(info, Exception):
                    raise info
                if info.get("cluster_enabled"):
                    await self._server.close()
                    self._server = Cluster(self._url, timeout_s=self._try_s, retries=self._retries)
                self._known = True

    async def _one(self, command: Command) -> Any:
        [answer] = await self._send([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def call(self, *command: Value | float) -> Any:
        """One command."""
        with translated():
            return await self._one(command)

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

    async def run(self, call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        """One script, by its hash; in full where the server does not know it yet."""
        script = self._scripts.prepare(call, keys, args)
        with translated():
            try:
                return await self._one(script.by_hash())
            except redis.exceptions.NoScriptError:
                return await self._one(script.in_full())

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
                return await self._one(script.in_full())
            if isinstance(answer, Exception):
                raise answer
        except redis.exceptions.ResponseError as error:
            if not _alone(error):
                raise
            return translate(error)
        return answer

    def dedicated(self) -> Any:
        """A redis-py connection of its own, not connected yet, for pub/sub; its owner closes it."""
        return self._server.dedicated()

    async def close(self) -> None:
        """Close every connection."""
        await self._server.close()
