"""The work queue, the workers' heartbeats, and the call to cancel.

The queue is one stream before all workers and one before each of them, for turns whose session that worker keeps warm.
A worker with room reads its own stream and everybody's at once, so what is left lying before another belongs to one
that is busy, draining or dead, and is taken by who has room. A delivery is a generation's id in one worker's hands
until it is acknowledged; while it runs it is renewed, and what nobody renews is taken over. A worker's stream is known
by the worker's name among the readers of everybody's stream, and both go when it is dead and the stream is empty.

Tenants take turns: of what nobody has got, a tenant has one turn at most in each stream; its others wait, and each
delivery lets its next in, behind those of the others. So no tenant holds up another by more than one turn in a stream.

All of the queue's keys share one hash tag; a generation is in the queue at most once. It knows nothing of sessions:
whether a delivered generation may still run is `TurnStore.begin`'s to say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

import orjson

from server.errors import StoreUnavailable
from server.store.channels import Channels
from server.store.options import Context
from server.store.records import Delivery, Worker
from server.store.scripts import Call

GROUP = "workers"
# A heartbeat counts for this long.
ALIVE_MS = 3000
# What a worker without a heartbeat has not renewed for this long is taken from it. Not at once: one that has just
# started may claim before its first heartbeat.
_DEAD_MS = ALIVE_MS // 2
# How often a waiting worker looks at what waits before others, and how long something waits there before it does.
_LOOK_MS, _STEAL_MS = 250, 100
# Far above any queue's bound: it only keeps a stream whose entries nobody acknowledges from growing for ever.
_MAXLEN = 100_000

ENQUEUE = Call(
    "enqueue",
    ("queue", "queued", "intended", "stream", "alive", "waiting"),
    ("group", "gid", "prefer", "tenant", "queued_ttl_ms", "maxlen"),
)
CLAIM = Call(
    "claim",
    ("queue", "own", "waiting"),
    ("group", "worker", "count", "steal_ms", "queued", "maxlen"),
    more_keys=("stream", "alive"),
    more_args=("peer",),
)
TAKEOVER = Call(
    "takeover",
    ("queue",),
    ("group", "worker", "idle_ms", "dead_ms", "count", "held"),
    more_keys=("stream", "alive"),
    more_args=("peer",),
)
DEPTH = Call("depth", ("queue", "waiting"), ("group",), more_keys=("stream",))
RENEW = Call("renew", (), ("group", "worker"), more_keys=("stream",), more_args=("id",))
ACK = Call("ack", (), ("group",), more_keys=("stream", "queued"), more_args=("id", "owner"))
GIVE_BACK = Call("give_back", ("queue",), ("group", "worker"), more_keys=("stream", "queued"), more_args=("id", "gid"))
UNQUEUE = Call("unqueue", ("stream", "queued", "intended", "waiting"), ("group", "gid", "place"))
INTEND = Call("intend", ("intended",), ("gid", "now", "ttl_ms", "most"))
BEAT = Call("beat", ("alive", "workers"), ("worker", "info", "now", "alive_ms", "listed_ms"))
RETIRE = Call("retire", ("alive", "workers", "queue", "stream"), ("group", "worker"))
GROUPED = Call("group", ("queue",), ("group",))
CALLS = (ENQUEUE, CLAIM, TAKEOVER, DEPTH, RENEW, ACK, GIVE_BACK, UNQUEUE, INTEND, BEAT, RETIRE, GROUPED)


class WorkQueue:
    """Every method raises StoreUnavailable when the store can't be reached."""

    def __init__(self, context: Context, channels: Channels) -> None:
        self._c = context
        self._channels = channels
        # Workers that may have a stream, as the last look found them: a look that finds others is repeated.
        self._readers: set[str] = set()

    async def prepare(self) -> None:
        """Make everybody's stream and its group, where there are none. Works in a full store."""
        await self._c.connection.run(GROUPED, [self._c.keys.queue], [GROUP])

    def _learn(self, names: Sequence[bytes], *known: str) -> bool:
        """True where a reader is among them whose stream was not looked at."""
        before, self._readers = self._readers, {name.decode() for name in names}
        return bool(self._readers - before - set(known))

    def _peers(self, *more: str, without: str = "") -> tuple[list[str], list[str]]:
        """The readers, and for each the keys of stream and heartbeat."""
        peers, keys = sorted((self._readers | set(more)) - {without}), self._c.keys
        return peers, [key for peer in peers for key in (keys.stream(peer), keys.alive(peer))]

    async def depth(self) -> int:
        """Turns that wait for a worker."""
        keys = self._c.keys
        while True:
            streams = [keys.stream(name) for name in sorted(self._readers)]
            waiting, names = await self._c.connection.run(DEPTH, [keys.queue, keys.waiting, *streams], [GROUP])
            if not self._learn(names):
                return int(waiting)

    async def intend(self, generation_id: str) -> None:
        """Note that this generation is about to be accepted and enqueued, lest it be forgotten. Raises StoreFull."""
        await self._c.connection.run(
            INTEND,
            [self._c.keys.intended],
            [generation_id, repr(self._c.clock()), self._c.options.events_ttl_ms, _MAXLEN],
        )

    async def forgotten(self, older_than_s: float, limit: int) -> list[str]:
        """Up to `limit` generations noted so long ago and neither enqueued nor withdrawn since, oldest first."""
        found = await self._c.connection.call(
            "ZRANGEBYSCORE", self._c.keys.intended, "-inf", repr(self._c.clock() - older_than_s), "LIMIT", 0, limit
        )
        return [name.decode() for name in found]

    async def dismiss(self, generation_id: str) -> None:
        """Drop the note of a generation that need not be enqueued."""
        await self._c.connection.call("ZREM", self._c.keys.intended, generation_id)

    async def enqueue(self, generation_id: str, prefer: str | None = None, tenant: str = "") -> None:
        """Put a generation in the queue, once however often it is called: before the worker `prefer` where that one
        lives, else before everybody; after its tenant's own there, in turn with other tenants'. Raises StoreFull."""
        keys, worker = self._c.keys, prefer or ""
        await self._c.connection.run(
            ENQUEUE,
            [
                *(keys.queue, keys.queued(generation_id), keys.intended, keys.stream(worker), keys.alive(worker)),
                keys.waiting,
            ],
            [GROUP, generation_id, worker, tenant, self._c.options.events_ttl_ms, _MAXLEN],
        )

    async def withdraw(self, generation_id: str) -> None:
        """Take a generation that has ended out of the queue, if it is there, and drop its note."""
        keys = self._c.keys
        queued = keys.queued(generation_id)
        place = (await self._c.connection.call("GET", queued) or b"").decode()
        while True:
            stream = keys.stream("" if place.startswith("\n") else place.partition(" ")[2])
            answer = await self._c.connection.run(
                UNQUEUE, [stream, queued, keys.intended, keys.waiting], [GROUP, generation_id, place]
            )
            if answer == b"OK":
                return
            place = answer.decode()  # given back meanwhile, or let into a stream

    async def claim(self, worker_id: str, count: int, block_ms: int) -> list[Delivery]:
        """Up to `count` new deliveries; waits up to `block_ms` ms for the first (0: not at all).

        The oldest of what waits before this worker and before everybody; where there is none, what waits before others.
        """
        # A read may block for less than a connection's timeout, so a long wait is several reads.
        longest = max(1, min(_LOOK_MS, int(self._c.connection.timeout_s * 500)))
        while not (found := await self._waiting(worker_id, count)) and block_ms > 0:
            wait = min(block_ms, longest)
            block_ms -= wait
            if found := await self._next(worker_id, count, wait):
                if len(found) == count:  # it may not come again soon, and others wait for what comes after these
                    await self._waiting(worker_id, 0)
                break
        return found

    async def _waiting(self, worker_id: str, count: int) -> list[Delivery]:
        """What is there."""
        keys = self._c.keys
        while True:
            peers, peer_keys = self._peers(without=worker_id)
            names, *rows = await self._c.connection.run(
                CLAIM,
                [keys.queue, keys.stream(worker_id), keys.waiting, *peer_keys],
                [GROUP, worker_id, count, _STEAL_MS, keys.queued(""), _MAXLEN, *peers],
            )
            if not self._learn(names, worker_id) or rows:
                return [Delivery(name.decode(), gid.decode(), 1, owner.decode()) for owner, name, gid in rows]

    async def _next(self, worker_id: str, count: int, wait_ms: int) -> list[Delivery]:
        """What comes within this time before this worker or before everybody."""
        owners = {self._c.keys.stream(owner): owner for owner in (worker_id, "")}
        try:
            answer = await self._c.connection.call(
                *("XREADGROUP", "GROUP", GROUP, worker_id, "COUNT", count, "BLOCK", wait_ms),
                *("STREAMS", *owners, ">", ">"),
            )
        except StoreUnavailable as error:
            # The stream is gone: the store was emptied, or this worker was taken for dead. The next look mends it.
            if "NOGROUP" not in error.message and "UNBLOCKED" not in error.message:
                raise
            return []
        found = [
            Delivery(name.decode(), fields[b"generation"].decode(), 1, owners[stream.decode()])
            for stream, entries in answer or ()
            for name, fields in entries
        ]
        # The count is each stream's.
        await self.give_back(worker_id, found[count:])
        return found[:count]

    async def give_back(self, worker_id: str, deliveries: Sequence[Delivery]) -> None:
        """Let others have these at once; this worker has not begun them."""
        if deliveries:
            keys = self._c.keys
            await self._c.connection.run(
                GIVE_BACK,
                [keys.queue, *(k for d in deliveries for k in (keys.stream(d.stream), keys.queued(d.generation)))],
                [GROUP, worker_id, *(v for d in deliveries for v in (d.id, d.generation))],
            )

    async def renew(self, worker_id: str, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Say that these are still being worked on. Returns those that are not this worker's any more."""
        if not deliveries:
            return []
        streams = [self._c.keys.stream(d.stream) for d in deliveries]
        lost = await self._c.connection.run(RENEW, streams, [GROUP, worker_id, *(d.id for d in deliveries)])
        return [deliveries[place - 1] for place in lost]

    async def takeover(
        self, worker_id: str, min_idle_ms: int, count: int = 16, held: Sequence[Delivery] = ()
    ) -> list[Delivery]:
        """Up to `count` deliveries that nobody has renewed for `min_idle_ms`, now this worker's, with their counts.

        Of a worker without a heartbeat sooner. held: what this worker is at work on; never among them while it is its
        own. Removes what dead workers leave empty.
        """
        mine = "\n".join(f"{delivery.stream} {delivery.id}" for delivery in held)
        while True:
            peers, peer_keys = self._peers(worker_id)
            names, *rows = await self._c.connection.run(
                TAKEOVER,
                [self._c.keys.queue, *peer_keys],
                [GROUP, worker_id, min_idle_ms, min(min_idle_ms, _DEAD_MS), count, mine, *peers],
            )
            if not self._learn(names, *peers) or rows:
                return [Delivery(i.decode(), gid.decode(), times, owner.decode()) for owner, i, gid, times in rows]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done with these: they leave the queue."""
        if deliveries:
            keys = self._c.keys
            await self._c.connection.run(
                ACK,
                [k for d in deliveries for k in (keys.stream(d.stream), keys.queued(d.generation))],
                [GROUP, *(v for d in deliveries for v in (d.id, d.stream))],
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
        """Take this worker off the list now, and its stream away where it is empty."""
        keys = self._c.keys
        await self._c.connection.run(
            RETIRE, [keys.alive(worker_id), keys.workers, keys.queue, keys.stream(worker_id)], [GROUP, worker_id]
        )

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
