"""One pub/sub connection for a whole process, and inboxes that listen on it.

A message only says that there is something: the listener's truth is in the store. So nothing here is reliable, and
everything here says when it was not: an inbox is told to `repair` (look into the store) when its subscription starts
to work, after every reconnection, and when it overflowed because its reader is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.exceptions

from server.store.connection import Connection
from server.store.node import cancellable

_CAPACITY = 512  # messages an inbox holds for a slow reader
_PING_S = 10.0  # a silent connection is asked for a sign of life this often, and given up after as long again


class Inbox:
    """Messages of one channel for one listener."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._wake = asyncio.Event()
        # True: messages may have been missed. The listener resets it before it looks into the store.
        self.repair = True

    def put(self, message: bytes) -> None:
        if len(self._messages) >= _CAPACITY:
            self._messages.clear()
            self.repair = True
        else:
            self._messages.append(message)
        self._wake.set()

    def look(self) -> None:
        """Tell the listener to look into the store."""
        self.repair = True
        self._wake.set()

    def take(self) -> list[bytes]:
        """What has come, oldest first."""
        taken = list(self._messages)
        self._messages.clear()
        return taken

    async def wait(self, timeout_s: float | None) -> bool:
        """Until there is something to take or to repair: True. False when `timeout_s` passed first."""
        if not self._messages:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return False
        self._wake.clear()
        return True


class Channels:
    """Subscriptions that come and go with their listeners. The connection is made for the first and kept."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inboxes: dict[bytes, set[Inbox]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self, channel: str) -> Iterator[Inbox]:
        """An inbox for the channel, while the block runs."""
        name, inbox = channel.encode(), Inbox()
        self._inboxes.setdefault(name, set()).add(inbox)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="store-channels")
        try:
            yield inbox
        finally:
            self._inboxes[name].discard(inbox)
            if not self._inboxes[name]:
                del self._inboxes[name]
            self._changed.set()

    async def close(self) -> None:
        """Drop the connection. Listeners hear nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        """Connect, serve until something breaks, again."""
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            connection: Any = self._connection.dedicated()
            try:
                await cancellable(connection.connect())
                pause = 0.0
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(connection))
                    tasks.create_task(self._subscribe(connection))
            except* (redis.exceptions.RedisError, OSError):
                pause = min(1.0, pause * 2 + 0.02)
            finally:
                await connection.disconnect(nowait=True)
            for inboxes in self._inboxes.values():
                for inbox in inboxes:
                    inbox.look()

    async def _subscribe(self, connection: Any) -> None:
        """Keep what the server has subscribed equal to what is listened to."""
        held: set[bytes] = set()
        while True:
            self._changed.clear()
            wanted = set(self._inboxes)
            if more := wanted - held:
                await cancellable(connection.send_command("SUBSCRIBE", *more))
            if less := held - wanted:
                await cancellable(connection.send_command("UNSUBSCRIBE", *less))
            held = wanted
            await self._changed.wait()

    async def _read(self, connection: Any) -> None:
        silent = False
        while True:
            answer: Any = await connection.read_response(timeout=_PING_S)
            if answer is None:
                if silent:
                    raise redis.exceptions.ConnectionError("the subscription is dead")
                silent = True
                await cancellable(connection.send_command("PING"))
                continue
            silent = False
            kind = answer[0]
            if kind == b"message":
                for inbox in self._inboxes.get(answer[1], ()):
                    inbox.put(answer[2])
            elif kind == b"subscribe":
                # From here on nothing is missed; what came before is in the store.
                for inbox in self._inboxes.get(answer[1], ()):
                    inbox.look()
