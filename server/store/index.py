"""The list of a tenant's sessions by their last use: an index beside the sessions, mended whenever it is read.

It lives on another hash tag than the sessions, so no script can write both. An entry without a session is dropped on
reading; a session whose entry got lost is back after its next turn.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from server.errors import InvalidRequest, StoreFull
from server.store.keys import parse_session
from server.store.options import Context
from server.store.records import Page, Session

Read = Callable[[Sequence[str]], Awaitable[list[Session | None]]]


class TenantIndex:
    """One sorted set per tenant."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def touch(self, tenant: str, session_id: str) -> None:
        """Put a session on top of its tenant's list. A full store leaves the list as it is."""
        index, now = self._c.keys.tenant_sessions(tenant), self._c.clock()
        # What the list is about is written already, and the next turn tries again.
        with suppress(StoreFull):
            await self._c.connection.pipeline(
                [
                    ("ZADD", index, repr(now), session_id),
                    # Those of sessions that have expired unseen.
                    ("ZREMRANGEBYSCORE", index, "-inf", repr(now - 2 * self._c.options.session_ttl_s)),
                    ("PEXPIRE", index, self._c.options.session_ttl_ms),
                ]
            )

    async def drop(self, tenant: str, session_ids: Sequence[str]) -> None:
        """Take sessions off the list."""
        if session_ids:
            await self._c.connection.call("ZREM", self._c.keys.tenant_sessions(tenant), *session_ids)

    async def page(self, tenant: str, after: str | None, limit: int, read: Read) -> Page:
        """Up to `limit` sessions that `read` finds, from the cursor on. Raises InvalidRequest for a bad cursor."""
        index = self._c.keys.tenant_sessions(tenant)
        # The list's order is (score, id), descending in both.
        bound = (math.inf, "") if after is None else _cursor(after)
        found: list[tuple[float, Session]] = []
        stale: list[str] = []
        offset = 0
        while len(found) <= limit:
            flat = await self._c.connection.call(
                *("ZREVRANGEBYSCORE", index, repr(bound[0]), "-inf", "WITHSCORES", "LIMIT", offset, limit + 1)
            )
            entries = [(float(score), name.decode()) for name, score in zip(flat[::2], flat[1::2], strict=True)]
            if not entries:
                break
            offset += len(entries)
            entries = [entry for entry in entries if entry < bound]
            sessions = await read([name for _, name in entries])
            for (score, name), session in zip(entries, sessions, strict=True):
                if session is None:
                    stale.append(name)
                else:
                    found.append((score, session))
        await self.drop(tenant, stale)
        more = len(found) > limit
        page = found[:limit]
        return Page(tuple(s for _, s in page), f"{page[-1][0]!r}_{page[-1][1].id}" if more else None)


def _cursor(after: str) -> tuple[float, str]:
    score, _, session_id = after.partition("_")
    try:
        number = float(score)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or parse_session(session_id) is None:
        raise InvalidRequest("after is not a cursor this server gave.", param="after")
    return number, session_id
