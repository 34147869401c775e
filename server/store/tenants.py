"""What a tenant uses of the server, counted where every api sees it: requests, generations, stored bytes.

Nothing here is given back by whoever took it, since that one may be dead: a bucket of requests fills by itself, and
generations that have ended are noticed when a tenant's places run out. So a crash never locks a tenant out.

It does not know the limits' values, nor what becomes of who exceeds them.
"""

from __future__ import annotations

from contextlib import suppress

from server.errors import PerennialError
from server.store import keys as ids
from server.store.options import Context
from server.store.records import Status
from server.store.scripts import Call

# How long a place may be held by a request that is being tokenised, ms.
TICKET_MS = 30_000
_PAGE = 1000

RATE = Call("rate", ("rate",), ("per_minute",))
RESERVE = Call("reserve", ("running",), ("ticket", "most", "ticket_ms", "key_ms"))
CALLS = (RATE, RESERVE)


class TenantStore:
    """Every method raises StoreUnavailable when the store can't be reached, but for those that say otherwise."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def take_request(self, tenant: str, per_minute: int) -> float:
        """Count one request. How long to wait, in s: 0 where it was counted. A minute's worth may come at once."""
        waited: int = await self._c.connection.run(RATE, [self._c.keys.tenant_rate(tenant)], [per_minute])
        return waited / 1000

    async def reserve(self, tenant: str, most: int) -> str | None:
        """A place for a generation, None where `most` are queued or run: `occupy` or `release` it soon.

        Raises StoreFull.
        """
        ticket = f"ticket_{ids.new_nonce()}"
        if not (holders := await self._reserve(tenant, ticket, most)):
            return ticket
        if not (ended := await self._ended(holders)):
            return None
        await self._c.connection.call("ZREM", self._c.keys.tenant_running(tenant), *ended)
        return None if await self._reserve(tenant, ticket, most) else ticket

    async def _reserve(self, tenant: str, ticket: str, most: int) -> list[str]:
        """Nobody where a place was free, else who holds them."""
        holders: list[bytes] = await self._c.connection.run(
            RESERVE, [self._c.keys.tenant_running(tenant)], [ticket, most, TICKET_MS, self._life_ms]
        )
        return [holder.decode() for holder in holders]

    @property
    def _life_ms(self) -> int:
        """Of a tenant's places altogether, after the last change: longer than a generation's record can wait."""
        return 2 * max(self._c.options.events_ttl_ms, TICKET_MS)

    async def _ended(self, holders: list[str]) -> list[str]:
        """Those that run no more, or whose record has expired."""
        generations = [holder for holder in holders if ids.parse_generation(holder) is not None]
        said = await self._c.connection.pipeline(
            [("HGET", self._c.keys.generation(name), "status") for name in generations]
        )
        return [
            name
            for name, status in zip(generations, said, strict=True)
            if status is None or Status(status.decode()).ended
        ]

    async def occupy(self, tenant: str, ticket: str, generation_id: str) -> None:
        """The place is this generation's now. Raises nothing: what cannot be noted is not counted."""
        running = self._c.keys.tenant_running(tenant)
        with suppress(PerennialError):
            await self._c.connection.pipeline(
                [
                    ("ZADD", running, "+inf", generation_id),
                    ("ZREM", running, ticket),
                    ("PEXPIRE", running, self._life_ms),
                ]
            )

    async def release(self, tenant: str, ticket: str) -> None:
        """Nothing came of it. Raises nothing: a place that is not given back is free again after `TICKET_MS`."""
        with suppress(PerennialError):
            await self._c.connection.call("ZREM", self._c.keys.tenant_running(tenant), ticket)

    async def stored_bytes(self, tenant: str) -> int:
        """What the tenant's sessions take together, with their labels and the records of their responses; what forks
        share is counted for each, but for those records. Slow for very many."""
        index, total, start = self._c.keys.tenant_sessions(tenant), 0, 0
        lineages: set[str] = set()
        while names := [
            n.decode() for n in await self._c.connection.call("ZREVRANGE", index, start, start + _PAGE - 1)
        ]:
            fresh = list(dict.fromkeys(ids.lineage_of(name) for name in names))
            fresh = [lineage for lineage in fresh if lineage not in lineages]
            sizes = await self._c.connection.pipeline(
                [("HMGET", self._c.keys.session(name), "stored_bytes", "label_bytes") for name in names]
                + [("HMGET", self._c.keys.responses(lineage), "bytes") for lineage in fresh]
            )
            total += sum(int(size) for row in sizes for size in row if size is not None)
            lineages.update(fresh)
            start += _PAGE
        return total
