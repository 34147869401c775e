"""One connection, and the parts of the store that share it (signatures; the code follows)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.store.events import EventHub
from server.store.queue import WorkQueue
from server.store.sessions import SessionStore
from server.store.snapshots import SnapshotStore
from server.store.turns import TurnStore


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """url: redis://, rediss:// or unix://; times in s. prefix: of every key, so that servers can share a Redis."""

    url: str
    prefix: str = "perennial"
    session_ttl_s: float = 30 * 86400.0
    events_ttl_s: float = 3600.0
    max_queue: int = 256
    timeout_s: float = 5.0
    retries: int = 3
    snapshots_kept: int = 4


@dataclass(frozen=True, slots=True)
class Store:
    """sessions: the api's side; turns, queue, snapshots: the worker's; hub: events for the api."""

    sessions: SessionStore
    turns: TurnStore
    queue: WorkQueue
    snapshots: SnapshotStore
    hub: EventHub

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the store answers."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close every connection."""
        raise NotImplementedError


async def open_store(options: StoreOptions, clock: Callable[[], float] | None = None) -> Store:
    """Connect. Raises StoreUnavailable when it can't be reached. clock: Unix time in s, `time.time` if absent."""
    raise NotImplementedError
