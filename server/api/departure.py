"""Clients that leave before they have their answer: noticed while it is made, not when it is sent.

It does not know what is to become of the work: `leave` does.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import Request

from server.api.body import ClientGoneError

T = TypeVar("T")
Departure = asyncio.Task[None]


@asynccontextmanager
async def departing(request: Request) -> AsyncIterator[Departure]:
    """A task that is done once the client has closed the connection. The request's body has been read."""
    departure = asyncio.create_task(_left(request))
    try:
        yield departure
    finally:
        departure.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_left(work: Coroutine[Any, Any, T], departure: Departure, leave: Callable[[], Awaitable[None]]) -> T:
    """What `work` comes to. Raises what it raises; or, where the client leaves first, ClientGoneError after `leave`."""
    working = asyncio.create_task(work)
    try:
        waited: set[asyncio.Task[Any]] = {working, departure}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await leave()
            raise ClientGoneError
        return working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
