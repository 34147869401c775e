"""`make bench-store`: what a turn costs in the store, on an embedded Valkey with its log synced every second.

Medians and tails of each call a turn makes, the bytes a commit adds to the log against the bound of 1 KB + 8 bytes per
token, and a snapshot of the default model's shape, written and read. The last line is JSON. Loopback and bounded; it
knows nothing of models.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from server.store import keys as ids
from server.store.embedded import EmbeddedValkey
from server.store.records import (
    Begun,
    End,
    Event,
    LeafBytes,
    NewSession,
    Outcome,
    Result,
    Session,
    Snapshot,
    Turn,
    TurnRequest,
)
from server.store.store import Store, StoreOptions, open_store

T = TypeVar("T")
NEW = NewSession("bench", "bench", "bench", 12_000_000)
READ, GENERATED = 100, 100  # tokens of a turn
ROWS = 8


@dataclass
class Timings:
    """Seconds by what was done."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    async def of(self, what: str, call: Awaitable[T]) -> T:
        """Await a call that has not begun."""
        began = time.perf_counter()
        result = await call
        self.seconds.setdefault(what, []).append(time.perf_counter() - began)
        return result

    def table(self) -> dict[str, tuple[float, float]]:
        """What was done → median and 99th percentile, ms."""
        return {
            what: (
                round(1e3 * statistics.median(times), 2),
                round(1e3 * sorted(times)[min(len(times) - 1, int(len(times) * 0.99))], 2),
            )
            for what, times in self.seconds.items()
        }


def default_state(position: int) -> Snapshot:
    """Random bytes in the shape of SmolLM2-135M's: 30 layers of keys and values, 3 heads, 512 positions, bfloat16."""
    leaves = {
        f"{name}.{layer}": LeafBytes("bfloat16", (3, 512, 64), 1, os.urandom(3 * 512 * 64 * 2))
        for layer in range(30)
        for name in ("k", "v")
    }
    return Snapshot("bench", "bench", position, leaves)


async def begin(store: Store, session: Session | NewSession, timings: Timings) -> Begun:
    """Accept a turn, begin it, stream one event."""
    request = TurnRequest(tuple(range(READ)), GENERATED, {"seed": 1})
    generation = await timings.of("accept", store.sessions.accept(session, request))
    begun = await timings.of("begin", store.turns.begin(generation.id, ids.new_nonce()))
    assert begun is not None
    first = Event(1, "token", {"text": " word", "token_ids": [1]})
    await timings.of("append, 1 row", store.turns.append(generation.id, begun.fence, [first]))
    return begun


async def commit(store: Store, begun: Begun, timings: Timings) -> Session:
    """Commit it."""
    gid, session = begun.generation.id, begun.session
    tokens = tuple(range(READ + GENERATED))
    length = session.length + len(tokens)
    name = ids.turn_of(gid)
    turn = Turn(name, session.head, tokens, length, End.EOS, "stop", time.time())
    usage = {"prompt_tokens": READ, "completion_tokens": GENERATED, "total_tokens": len(tokens), "cached_tokens": 0}
    timing = {"queued_s": 0.001, "first_token_s": 0.1, "total_s": 1.0}
    said = {"finish_reason": "stop", "usage": usage, "timing": timing, "position": length, "turn": name}
    result = Result("stop", usage, timing, length, name)
    final = Event(2, "done", said)
    outcome = await timings.of("commit", store.turns.commit(begun, turn, result, final, worker="bench"))
    assert outcome is Outcome.OK
    return await store.sessions.get_session(NEW.tenant, session.id)


async def commit_bytes(valkey: EmbeddedValkey, store: Store, session: Session) -> tuple[Session, int]:
    """The session one turn later, and what its commit added to the append-only log."""

    async def log_bytes() -> int:
        await store.context.connection.call("WAITAOF", 1, 0, 5000)
        return sum(file.stat().st_size for file in (valkey.data_dir / "appendonlydir").iterdir())

    begun = await begin(store, session, Timings())
    before = await log_bytes()
    session = await commit(store, begun, Timings())
    return session, await log_bytes() - before


async def rows(store: Store, timings: Timings, ticks: int) -> None:
    """Ticks of several streams, each tick's events in one round trip."""
    running = [await begin(store, NEW, Timings()) for _ in range(ROWS)]
    for n in range(2, 2 + ticks):
        event = Event(n, "token", {"text": " word", "token_ids": [n]})
        batch = [(one.generation.id, one.fence, [event]) for one in running]
        await timings.of(f"append, {ROWS} rows", store.turns.append_many(batch))


async def snapshots(store: Store, session: Session, timings: Timings, count: int) -> None:
    """Snapshots of the default model's size, each all new."""
    for _ in range(count):
        begun = await begin(store, session, Timings())
        session = await commit(store, begun, Timings())
        head, state = session.head, default_state(session.length - 1)
        assert head is not None
        put = await timings.of("snapshot put", store.snapshots.put_snapshot(session, begun.fence, head, state))
        assert put is Outcome.OK
        found = await timings.of("snapshot get", store.snapshots.get_snapshot(session.id, head))
        assert found is not None


async def run(turns: int) -> None:
    """Measure, and print."""
    timings = Timings()
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(Path(folder) / "data")
        await valkey.start()
        store = await open_store(StoreOptions(valkey.url, max_queue=10**6))
        try:
            session = await commit(store, await begin(store, NEW, timings), timings)
            for n in range(turns):
                session = await commit(store, await begin(store, session, timings), timings)
                if sys.stderr.isatty():
                    print(f"\rturn {n + 1}/{turns}", end="", file=sys.stderr)
            session, written = await commit_bytes(valkey, store, session)
            await rows(store, timings, turns)
            await snapshots(store, session, timings, 8)
        finally:
            await store.close()
            await valkey.stop()
    bound = 1024 + 8 * (READ + GENERATED)
    print(f"\n{'ms':<16}{'p50':>9}{'p99':>9}")
    for what, (median, tail) in timings.table().items():
        print(f"{what:<16}{median:>9.2f}{tail:>9.2f}")
    print(f"a commit of {READ + GENERATED} tokens writes {written} bytes (at most {bound} by the design)")
    print(json.dumps({"ms": timings.table(), "commit_bytes": written, "commit_bytes_bound": bound}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m server.store.bench", description=__doc__)
    parser.add_argument("--turns", type=int, default=500, help="turns of the one session")
    asyncio.run(run(parser.parse_args().turns))


if __name__ == "__main__":
    main()
