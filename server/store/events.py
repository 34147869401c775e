"""The events hub (signatures; the code follows)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from server.store.records import Event


class EventHub:
    def events(self, generation_id: str, after: int = 0) -> AsyncIterator[Event]:
        """The generation's events with sequence > after, in order, each once; ends after done or error.

        Raises GenerationNotFound when the stream has expired, StoreUnavailable when the store stays away too long.
        """
        raise NotImplementedError

    async def read(self, generation_id: str, after: int = 0) -> list[Event]:
        """What is in the stream now."""
        raise NotImplementedError

    async def close(self) -> None:
        """Drop the subscription; every open iterator ends with StoreUnavailable."""
