"""What the parts of the store share: settings, key names, the connection, a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.store.connection import Connection
from server.store.keys import Keys

# How much longer than a session's life its owner is told that it is gone, s.
GONE_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Settings of the store; times in s.

    url: redis://, rediss:// or unix://. prefix: of every key, so that servers can share one Redis.
    session_ttl_s: a session's life after its last use. events_ttl_s: how long a generation can be read, counted from
    its last event; also the longest a turn may wait in the queue. max_queue: turns that may wait. timeout_s: of every
    command, its repeats included. retries: of a command whose connection failed. turns_kept: at least so many of a
    session can be rewound to. snapshots_kept: of a session. branches_max: of a lineage. poll_s: how often an open event
    stream looks for a message that got lost. outage_s: how long it bears an unreachable store.
    """

    url: str
    prefix: str = "perennial"
    session_ttl_s: float = 30 * 86400.0
    events_ttl_s: float = 3600.0
    max_queue: int = 256
    timeout_s: float = 5.0
    retries: int = 3
    turns_kept: int = 64
    snapshots_kept: int = 4
    branches_max: int = 256
    poll_s: float = 1.0
    outage_s: float = 30.0

    @property
    def session_ttl_ms(self) -> int:
        return int(self.session_ttl_s * 1000)

    @property
    def events_ttl_ms(self) -> int:
        return int(self.events_ttl_s * 1000)

    @property
    def gone_ttl_ms(self) -> int:
        return int((self.session_ttl_s * 1.02 + GONE_S) * 1000)


@dataclass(frozen=True, slots=True)
class Context:
    """clock: Unix time, s."""

    connection: Connection
    keys: Keys
    options: StoreOptions
    clock: Callable[[], float]
