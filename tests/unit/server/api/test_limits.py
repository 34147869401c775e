"""Limits: what is looked at, how often, and what a failing store means."""

from __future__ import annotations

from typing import Any

import pytest

from server.access import Access, Limits
from server.api.limits import COUNTED_S, OVER_S, Limiter
from server.errors import InvalidRequest, RateLimited, StorageLimit, StoreFull, StoreUnavailable, TooManyGenerations


class Tenants:
    """A tenant's figures as a test sets them; every look is noted."""

    def __init__(self) -> None:
        self.bytes, self.wait, self.free = 0, 0.0, True
        self.full = False
        self.looks: list[str] = []

    async def take_request(self, tenant: str, per_minute: int) -> float:
        self.looks.append("request")
        if self.full:
            raise StoreFull
        return self.wait

    async def stored_bytes(self, tenant: str) -> int:
        self.looks.append("bytes")
        return self.bytes

    async def reserve(self, tenant: str, most: int) -> str | None:
        self.looks.append("reserve")
        return "ticket" if self.free else None

    async def occupy(self, tenant: str, ticket: str, generation: str) -> None:
        self.looks.append(f"occupy {generation}")

    async def release(self, tenant: str, ticket: str) -> None:
        self.looks.append("release")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limiter(tenants: Tenants, limits: Limits, clock: Clock | None = None) -> Limiter:
    class Store:
        pass

    store: Any = Store()
    store.tenants = tenants
    return Limiter(Access({}, {"red": limits}, Limits()), lambda: store, clock or Clock())


async def test_what_nobody_limits_costs_nothing():
    def away() -> Any:
        raise StoreUnavailable

    free = Limiter(Access({}, {}, Limits()), away)
    await free.request("red")
    await free.storage("red")
    async with free.admit("red") as place:
        place.generation = "gen"
    assert (free.max_tokens("red", None, 9), free.max_tokens("red", 5000, 9)) == (9, 5000)
    bound = Limiter(Access({}, {}, Limits(1, 1, 1, 1)), away)
    for looking in (bound.request("red"), bound.storage("red"), bound.admit("red").__aenter__()):
        with pytest.raises(StoreUnavailable):
            await looking


async def test_a_wait_is_told_and_a_full_store_still_lets_one_read():
    tenants = Tenants()
    limits = limiter(tenants, Limits(rpm=60))
    tenants.wait = 12.3
    with pytest.raises(RateLimited) as caught:
        await limits.request("red")
    assert caught.value.retry_after == 12.3
    tenants.full = True
    await limits.request("red")


async def test_stored_bytes_are_counted_now_and_then():
    tenants, clock = Tenants(), Clock()
    limits = limiter(tenants, Limits(stored_bytes=100), clock)
    tenants.bytes = 99
    for _ in range(3):
        await limits.storage("red")
    assert tenants.looks == ["bytes"]
    tenants.bytes = 100
    clock.now += COUNTED_S
    for _ in range(2):
        with pytest.raises(StorageLimit, match="100 bytes of the 100"):
            await limits.storage("red")
    assert len(tenants.looks) == 2
    # Who has too many is looked at again soon: it may be deleting some.
    tenants.bytes = 0
    clock.now += OVER_S
    await limits.storage("red")


async def test_a_place_is_given_back_or_kept():
    tenants = Tenants()
    limits = limiter(tenants, Limits(concurrent=1))
    async with limits.admit("red") as place:
        place.generation = "gen"
    with pytest.raises(KeyError):
        async with limits.admit("red"):
            raise KeyError
    assert tenants.looks == ["reserve", "occupy gen", "reserve", "release"]
    tenants.free = False
    with pytest.raises(TooManyGenerations):
        await limits.admit("red").__aenter__()


def test_max_tokens_are_lowered_only_where_none_were_asked_for():
    limits = limiter(Tenants(), Limits(max_tokens=50))
    assert [limits.max_tokens("red", asked, 64) for asked in (None, 1, 50)] == [50, 1, 50]
    assert limits.max_tokens("red", None, 20) == 20
    with pytest.raises(InvalidRequest, match="at most 50"):
        limits.max_tokens("red", 51, 64)
