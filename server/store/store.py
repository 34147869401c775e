"""One connection, and the parts of the store that share it.

sessions   the api's side: sessions, accepting and cancelling turns
branches   the api's side: forking, rewinding, deleting
turns      the worker's side: begin, append, commit, fail, the chain of turns
queue      deliveries, heartbeats, the call to cancel
snapshots  states as blocks
archive    sessions as files
retention  what is still needed of a lineage
history    conversations that are sent again
responses  what OpenAI's clients know turns and sessions by
tenants    what each tenant uses: requests, generations, bytes
hub        a generation's events, for whoever streams them
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.errors import StartupError
from server.store import archive, branches, queue, responses, retention, sessions, snapshots, tenants, turns
from server.store.archive import ArchiveStore
from server.store.branches import BranchStore
from server.store.channels import Channels
from server.store.connection import Connection
from server.store.events import EventHub
from server.store.history import HistoryIndex
from server.store.keys import Keys
from server.store.options import Context, StoreOptions
from server.store.queue import WorkQueue
from server.store.responses import ResponseStore
from server.store.retention import Retention
from server.store.scripts import Scripts, packaged
from server.store.sessions import SessionStore
from server.store.snapshots import SnapshotStore
from server.store.tenants import TenantStore
from server.store.turns import TurnStore

__all__ = ["Store", "StoreOptions", "open_store"]

CALLS = (
    *archive.CALLS,
    *branches.CALLS,
    *queue.CALLS,
    *responses.CALLS,
    *retention.CALLS,
    *sessions.CALLS,
    *snapshots.CALLS,
    *tenants.CALLS,
    *turns.CALLS,
)


@dataclass(frozen=True, slots=True)
class Store:
    """Belongs to one event loop; a thread with a loop of its own opens a store of its own."""

    sessions: SessionStore
    branches: BranchStore
    turns: TurnStore
    queue: WorkQueue
    snapshots: SnapshotStore
    archive: ArchiveStore
    retention: Retention
    history: HistoryIndex
    responses: ResponseStore
    tenants: TenantStore
    hub: EventHub
    context: Context
    channels: Channels

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the store answers."""
        await self.context.connection.call("PING")

    async def close(self) -> None:
        """Close every connection; streams that are still open end as their consumers close them."""
        await self.channels.close()
        await self.context.connection.close()


def check_version(info: Mapping[str, object]) -> None:
    """info: the answer to INFO. Raises StartupError for what can't run our scripts all or nothing."""
    version = str(info.get("redis_version", "0"))
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < 7:
        raise StartupError(f"The session store is Redis {version}; Redis 7, Valkey 7.2 or newer is needed.")


async def open_store(options: StoreOptions, clock: Callable[[], float] = time.time) -> Store:
    """Connect. clock: Unix time, s.

    Raises StoreUnavailable when the store can't be reached, StartupError when it is older than Redis 7.
    """
    connection = Connection(
        options.url, Scripts(packaged(), CALLS), timeout_s=options.timeout_s, retries=options.retries
    )
    context = Context(connection, Keys(options.prefix), options, clock)
    channels = Channels(connection)
    work = WorkQueue(context, channels)
    kept, retained = SessionStore(context, work), Retention(context)
    branched, committed, saved = (
        BranchStore(context, kept, retained),
        TurnStore(context),
        SnapshotStore(context, retained),
    )
    store = Store(
        sessions=kept,
        branches=branched,
        turns=committed,
        queue=work,
        snapshots=saved,
        archive=ArchiveStore(context, kept, branched, committed, saved),
        retention=retained,
        history=HistoryIndex(context),
        responses=ResponseStore(context),
        tenants=TenantStore(context),
        hub=EventHub(context, channels),
        context=context,
        channels=channels,
    )
    try:
        check_version(await connection.call("INFO", "server"))
        await work.prepare()
    except BaseException:
        await store.close()
        raise
    return store
