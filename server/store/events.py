"""The events hub: a generation's events in order, each once, however they travel.

The stream is the truth, a live message is a short cut: one that follows the last event is used as it is; anything
else (a gap, a reconnection, the start, a while without news) is repaired by reading the stream. So a lost message
only delays, and a repeated one is nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.errors import CorruptState, GenerationNotFound, StoreUnavailable
from server.store import keys as ids
from server.store.channels import Channels, Inbox
from server.store.codec import decode_event, stream_event
from server.store.options import Context
from server.store.records import Event, Status

_PAGE = 256  # events read at once


class EventHub:
    """Any number of streams over one subscription connection."""

    def __init__(self, context: Context, channels: Channels) -> None:
        self._c = context
        self._channels = channels

    async def read(self, generation_id: str, after: int = 0, count: int | None = None) -> list[Event]:
        """What the stream holds now with sequence > after, at most `count`. Raises CorruptState for a hole."""
        bound = () if count is None else ("COUNT", count)
        entries = await self._c.connection.call(
            "XRANGE", self._c.keys.events(generation_id), f"{after + 1}-0", "+", *bound
        )
        events = [stream_event(generation_id, entry) for entry in entries]
        for due, event in enumerate(events, after + 1):
            if event.sequence != due:
                raise CorruptState(f"the event stream of generation {generation_id} has no event {due}")
        return events

    async def events(self, generation_id: str, after: int = 0) -> AsyncGenerator[Event]:
        """The events with sequence > after, in order, each once; ends after done or error, or where that is past.

        Raises GenerationNotFound when there is no such generation or it has expired, CorruptState for a hole,
        StoreUnavailable when the store stays away for longer than the bound. Close it (`aclosing`) when done early.
        """
        if ids.parse_generation(generation_id) is None:
            raise GenerationNotFound
        after = max(after, 0)
        with self._channels.listen(self._c.keys.live(generation_id)) as inbox:
            async with aclosing(self._follow(generation_id, after, inbox)) as events:
                async for event in events:
                    yield event
                    if event.final:
                        return

    async def _follow(self, generation_id: str, last: int, inbox: Inbox) -> AsyncGenerator[Event]:
        away_since: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            if inbox.repair:
                inbox.repair = False
                try:
                    events = await self.read(generation_id, last, _PAGE)
                    if not events and await self._ended(generation_id):
                        # It may have ended since the stream was read.
                        events = await self.read(generation_id, last, _PAGE)
                        if not events and last == 0:
                            raise GenerationNotFound
                        if not events:
                            return
                    away_since = None
                except StoreUnavailable:
                    away_since = away_since or loop.time()
                    if loop.time() - away_since > self._c.options.outage_s:
                        raise
                    events = []
                for event in events:
                    yield event
                    last = event.sequence
                if len(events) == _PAGE:
                    inbox.repair = True
                    continue
            for message in inbox.take():
                sequence, kind, data = message.split(b" ", 2)
                if int(sequence) == last + 1:
                    yield decode_event(generation_id, sequence, kind, data)
                    last += 1
                elif int(sequence) > last:
                    inbox.repair = True
                    break
            if not inbox.repair and not await inbox.wait(self._c.options.poll_s):
                inbox.repair = True

    async def _ended(self, generation_id: str) -> bool:
        """Raises GenerationNotFound."""
        status = await self._c.connection.call("HGET", self._c.keys.generation(generation_id), "status")
        if status is None:
            raise GenerationNotFound
        return Status(status.decode()).ended
