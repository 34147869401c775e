"""Each tenant's limits, where requests meet them: before anything is tokenised.

    request      requests in a minute           429  rate_limit_exceeded   every /v1 route
    max_tokens   of one generation              400                        what begins a generation
    storage      bytes its sessions take        403  storage_limit         what begins one that is stored; an import
    admit        generations queued or running  429  too_many_generations  what begins a generation

A limit that nobody set costs nothing, and one that is set is never passed because it could not be looked at: a store
that is away is StoreUnavailable here as anywhere.

It knows nothing of HTTP, nor how the counting is done (`server.store.tenants`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from server.access import Access, Limits
from server.errors import InvalidRequest, RateLimited, StorageLimit, StoreFull, TooManyGenerations
from server.store.store import Store

COUNTED_S = 5.0  # how long a tenant's stored bytes are taken to be what they were
OVER_S = 0.5  # the same, of a tenant who has too many and may be deleting some
COUNTING_SHARE = 20.0  # and at least so many times as long as it took to count them


@dataclass(slots=True)
class Place:
    """A place among the tenant's generations. generation: to be set to the one that was accepted, if one was."""

    generation: str | None = None


class Limiter:
    """See the module."""

    def __init__(self, access: Access, store: Callable[[], Store], clock: Callable[[], float] = time.monotonic) -> None:
        """store: raises StoreUnavailable while there is none. clock: s."""
        self._access = access
        self._store = store
        self._clock = clock
        self._counting = asyncio.Lock()
        self._counted: dict[str, tuple[int, float]] = {}  # tenant → stored bytes, and until when that counts

    def of(self, tenant: str) -> Limits:
        """A tenant's limits."""
        return self._access.limits.get(tenant, self._access.default)

    async def request(self, tenant: str) -> None:
        """Count one request. Raises RateLimited."""
        most = self.of(tenant).rpm
        if not most:
            return
        # In a full store one must still be able to read and to delete.
        with suppress(StoreFull):
            wait = await self._store().tenants.take_request(tenant, most)
            if wait:
                raise RateLimited(
                    f"More than {most} requests in a minute; try again in {wait:.1f} s.", retry_after=wait
                )

    def max_tokens(self, tenant: str, asked: int | None, default: int) -> int:
        """How many tokens a generation may have. asked: by the request, if it did. Raises InvalidRequest."""
        most = self.of(tenant).max_tokens
        if most and asked is not None and asked > most:
            raise InvalidRequest(f"max_tokens: should be at most {most} with this API key.", param="max_tokens")
        if asked is not None:
            return asked
        return min(default, most) if most else default

    async def storage(self, tenant: str) -> None:
        """Whether the tenant may store more. Raises StorageLimit. What it has just stored may not be counted yet."""
        most = self.of(tenant).stored_bytes
        if not most:
            return
        store = self._store()
        async with self._counting:
            stored, until = self._counted.get(tenant, (0, 0.0))
            if (began := self._clock()) >= until:
                stored = await store.tenants.stored_bytes(tenant)
                now = self._clock()
                life = max(COUNTED_S if stored < most else OVER_S, COUNTING_SHARE * (now - began))
                self._counted[tenant] = stored, now + life
        if stored >= most:
            raise StorageLimit(
                f"The sessions of this tenant take {stored} bytes of the {most} they may; delete some of them first."
            )

    @asynccontextmanager
    async def admit(self, tenant: str) -> AsyncIterator[Place]:
        """A place for a generation that is accepted within. Raises TooManyGenerations, StoreFull."""
        place, most = Place(), self.of(tenant).concurrent
        if not most:
            yield place
            return
        tenants = self._store().tenants
        ticket = await tenants.reserve(tenant, most)
        if ticket is None:
            raise TooManyGenerations(f"{most} generations of this tenant are queued or running, as many as may be.")
        try:
            yield place
        finally:
            if place.generation is None:
                await tenants.release(tenant, ticket)
            else:
                await tenants.occupy(tenant, ticket, place.generation)
