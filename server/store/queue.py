"""The work queue and the workers' heartbeats (signatures; the code follows)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from server.store.records import Delivery, Worker


class WorkQueue:
    async def depth(self) -> int:
        """Turns that wait for a worker."""
        raise NotImplementedError

    async def enqueue(self, generation_id: str) -> None:
        """Put a generation in the queue, once however often it is called."""
        raise NotImplementedError

    async def claim(self, worker_id: str, count: int, block_ms: int) -> list[Delivery]:
        """Up to `count` new deliveries; waits up to `block_ms` ms for the first (0: not at all)."""
        raise NotImplementedError

    async def renew(self, worker_id: str, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Say that these are still being worked on. Returns those that another worker has taken over."""
        raise NotImplementedError

    async def takeover(self, worker_id: str, min_idle_ms: int, count: int = 16) -> list[Delivery]:
        """Deliveries that nobody has renewed for `min_idle_ms`, now this worker's, with their counts."""
        raise NotImplementedError

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Done with these."""
        raise NotImplementedError

    async def heartbeat(self, worker_id: str, info: Mapping[str, object]) -> None:
        """Say that this worker lives, for three seconds."""
        raise NotImplementedError

    async def retire(self, worker_id: str) -> None:
        """Take this worker off the list now."""
        raise NotImplementedError

    async def live_workers(self) -> list[Worker]:
        """The workers whose heartbeat is fresh."""
        raise NotImplementedError

    def cancels(self) -> AsyncIterator[str]:
        """Generation ids as their cancellation is asked for. Only wakes: the flag in the store is the truth."""
        raise NotImplementedError

    async def cancelled(self, generation_ids: Sequence[str]) -> set[str]:
        """Which of these carry the cancel flag (for a worker that has nothing to append, such as a long prefill)."""
        raise NotImplementedError
