"""The work queue (a stream with one consumer group), the workers' heartbeats, and the call to cancel.

A delivery is a generation's id in one worker's hands until it is acknowledged; while it runs it is renewed, and what
nobody renews can be taken over. All of the queue's keys share one hash tag. A generation is in the queue at most
once. It knows nothing of sessions: whether a delivered generation may still run is `TurnStore.begin`'s to say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import orjson

from server.errors import StoreUnavailable
from server.store.channels import Channels
from server.store.options import Context
from server.store.records import Delivery, Worker
from server.store.scripts import Call

GROUP = "workers"
# A heartbeat counts for this long.
ALIVE_MS = 3000
# Far above any queue's bound: it only keeps a stream whose entries nobody acknowledges from growing for ever.
_MAXLEN = 100_000

ENQUEUE = Call("enqueue", ("queue", "queued"), ("gid", "queued_ttl_ms", "maxlen"))
RENEW = Call("renew", ("queue",), ("group", "worker"), more_args=("id",))
ACK = Call("ack", ("queue",), ("group",), more_keys=("queued",), more_args=("id",))
COUNTS = Call("counts", ("queue",), ("group",), more_args=("id",))
BEAT = Call("beat", ("alive", "workers"), ("worker", "info", "now", "alive_ms", "listed_ms"))
GROUPED = Call("group", ("queue",), ("group",))
UNQUEUE = Call("unqueue", ("queue", "queued"), ("group",))
CALLS = (ENQUEUE, RENEW, ACK, COUNTS, BEAT, GROUPED, UNQUEUE)


class WorkQueue:
    """Every method raises StoreUnavailable when the store can't be reached."""

    def __init__(self, context: Context, channels: Channels) -> None:
        self._c = context
        self._channels = channels

    async def prepare(self) -> None:
        """Make the consumer group, where there is none. Works in a full store."""
        await self._c.connection.run(GROUPED, [self._c.keys.queue], [GROUP])

    async def depth(self) -> int:
        """Turns that wait for a worker."""
        queue = self._c.keys.queue
        try:
            length, summary = await self._c.connection.pipeline([("XLEN", queue), ("XPENDING", queue, GROUP)])
        except StoreUnavailable as error:
            if "NOGROUP" not in error.message:
                raise
            return int(await self._c.connection.call("XLEN", queue))
        return max(0, int(length) - int(summary["pending"]))

    async def _grouped(self, *command: str | int) -> Any:
        """A command that needs the group; it is made again where it has vanished (a store that was emptied)."""
        try:
            return await self._c.connection.call(*command)
        except StoreUnavailable as error:
            if "NOGROUP" not in error.message:
                raise
        await self.prepare()
        return await self._c.connection.call(*command)

    async def enqueue(self, generation_id: str) -> None:
        """Put a generation in the queue, once however often it is called. Raises StoreFull."""
        await self._c.connection.run(
            ENQUEUE,
            [self._c.keys.queue, self._c.keys.queued(generation_id)],
            [generation_id, self._c.options.events_ttl_ms, _MAXLEN],
        )

    async def withdraw(self, generation_id: str) -> None:
        """Take a generation that has ended out of the queue, if it is there."""
        keys = self._c.keys
        await self._c.connection.run(UNQUEUE, [keys.queue, keys.queued(generation_id)], [GROUP])

    async def claim(self, worker_id: str, count: int, block_ms: int) -> list[Delivery]:
        """Up to `count` new deliveries; waits up to `block_ms` ms for the first (0: not at all)."""
        # A read may block for less than a connection's timeout, so a long wait is several reads.
        longest = max(1, int(self._c.connection.timeout_s * 500))
        while True:
            wait = min(block_ms, longest)
            block_ms -= wait
            answer = await self._grouped(
                *("XREADGROUP", "GROUP", GROUP, worker_id, "COUNT", count),
                *(("BLOCK", wait) if wait else ()),
                *("STREAMS", self._c.keys.queue, ">"),
            )
            entries = answer[0][1] if answer else []
            if entries or block_ms <= 0:
                return [Delivery(name.decode(), fields[b"generation"].decode()) for name, fields in entries]

    async def renew(self, worker_id: str, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Say that these are still being worked on. Returns those that are not this worker's any more."""
        if not deliveries:
            return []
        lost = await self._c.connection.run(
            RENEW, [self._c.keys.queue], [GROUP, worker_id, *(d.id for d in deliveries)]
        )
        return [d for d in deliveries if d.id.encode() in lost]

    async def takeover(self, worker_id: str, min_idle_ms: int, count: int = 16) -> list[Delivery]:
        """Up to `count` deliveries that nobody has renewed for `min_idle_ms`, now this worker's, with their counts."""
        queue, cursor = self._c.keys.queue, b"0-0"
        taken: list[tuple[str, str]] = []
        while len(taken) < count:
            answer = await self._grouped(
                *("XAUTOCLAIM", queue, GROUP, worker_id, min_idle_ms, cursor.decode(), "COUNT", count - len(taken))
            )
            taken += [(name.decode(), fields[b"generation"].decode()) for name, fields in answer[1] if fields]
            cursor = answer[0]
            if cursor == b"0-0":
                break
        if not taken:
            return []
        counts = await self._c.connection.run(COUNTS, [queue], [GROUP, *(name for name, _ in taken)])
        return [Delivery(n, gid, int(count)) for (n, gid), count in zip(taken, counts, strict=True)]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done with these: they leave the queue."""
        if deliveries:
            await self._c.connection.run(
                ACK,
                [self._c.keys.queue, *(self._c.keys.queued(d.generation) for d in deliveries)],
                [GROUP, *(d.id for d in deliveries)],
            )

    async def heartbeat(self, worker_id: str, info: Mapping[str, object]) -> None:
        """Say that this worker lives, for three seconds; in a full store too. info: plain JSON."""
        keys = self._c.keys
        await self._c.connection.run(
            BEAT,
            [keys.alive(worker_id), keys.workers],
            [worker_id, orjson.dumps(dict(info)), repr(self._c.clock()), ALIVE_MS, 20 * ALIVE_MS],
        )

    async def retire(self, worker_id: str) -> None:
        """Take this worker off the list now."""
        keys = self._c.keys
        await self._c.connection.pipeline([("DEL", keys.alive(worker_id)), ("ZREM", keys.workers, worker_id)])

    async def live_workers(self) -> list[Worker]:
        """The workers whose heartbeat is fresh, in no order that means anything."""
        keys = self._c.keys
        names = [name.decode() for name in await self._c.connection.call("ZRANGE", keys.workers, 0, -1)]
        if not names:
            return []
        infos = await self._c.connection.call("MGET", *(keys.alive(name) for name in names))
        if dead := [name for name, info in zip(names, infos, strict=True) if info is None]:
            await self._c.connection.call("ZREM", keys.workers, *dead)
        return [Worker(n, orjson.loads(info)) for n, info in zip(names, infos, strict=True) if info is not None]

    async def cancels(self) -> AsyncGenerator[str]:
        """Generation ids as their cancellation is asked for. Only wakes: the flag in the store is the truth."""
        with self._channels.listen(self._c.keys.control) as inbox:
            while True:
                await inbox.wait(None)
                for message in inbox.take():
                    yield message.decode()

    async def cancelled(self, generation_ids: Sequence[str]) -> set[str]:
        """Which of these carry the cancel flag (for a worker that has nothing to append, as in a long prefill)."""
        flags = await self._c.connection.pipeline(
            [("HEXISTS", self._c.keys.generation(gid), "cancel") for gid in generation_ids]
        )
        return {gid for gid, flag in zip(generation_ids, flags, strict=True) if flag}
