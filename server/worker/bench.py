"""`make bench-snapshots`: what writing snapshots costs the streams that run beside it, with the default model.

Streams decode without a pause; windows of 64 tokens with a snapshot, taken and written as a worker does, alternate with
windows without one. Every block of the state is another each time, which is the most there can be to send. The last
line is JSON: the share of decoding time at one snapshot per 512 tokens and stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from model.kernels import choose_ops
from model.registry import load_model
from model.sampling import SamplingParams
from model.state import State
from server.engine.loop import Engine
from server.engine.request import Output, Request, Token
from server.store import keys as ids
from server.store.embedded import EmbeddedValkey
from server.store.records import Begun, End, Event, NewSession, Outcome, Result, Session, Turn, TurnRequest
from server.store.store import Store, StoreOptions, open_store
from server.worker.states import to_snapshot

WINDOW = 64  # tokens of each stream
EVERY = 512  # tokens between two snapshots of a session
FINGERPRINT = "bench"


class Ticks:
    """When the first stream's tokens came."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._heard = threading.Condition()

    def hear(self, outputs: Sequence[Output]) -> None:
        """The engine's `publish`."""
        if any(isinstance(output, Token) and output.id == "0" for output in outputs):
            with self._heard:
                self._times.append(time.perf_counter())
                self._heard.notify_all()

    @property
    def count(self) -> int:
        """Tokens so far."""
        return len(self._times)

    def at(self, count: int) -> float:
        """The time of that token, once it has come."""
        with self._heard:
            self._heard.wait_for(lambda: len(self._times) > count, 120)
            return self._times[count]


async def one_turn(store: Store, session: Session | NewSession) -> tuple[Session, Begun]:
    """A turn whose state can be saved."""
    generation = await store.sessions.accept(session, TurnRequest((1, 2, 3), 8, {"seed": 1}))
    begun = await store.turns.begin(generation.id, ids.new_nonce())
    assert begun is not None
    length = begun.session.length + WINDOW
    turn = Turn(
        *(ids.turn_of(generation.id), begun.session.head, (7,) * WINDOW, length, End.RAW, "length", time.time())
    )
    result, final = Result("length", {}, {}, length, turn.id), Event(1, "done", {})
    assert await store.turns.commit(begun, turn, result, final) is Outcome.OK
    return await store.sessions.get_session("bench", begun.session.id), begun


async def measure(store: Store, state: State, ticks: Ticks, windows: int) -> dict[str, float]:
    """Medians in s of a window without and with a snapshot, and of the snapshot itself."""
    session: Session | NewSession = NewSession("bench", "bench", FINGERPRINT, state.spec.nbytes)
    seconds: dict[str, list[float]] = {"without": [], "with": [], "snapshot": []}
    for window in range(2 * windows):
        session, begun = await one_turn(store, session)
        for name, leaf in state.items():
            if state.spec[name].ring_axis is not None:
                leaf.add_(1)
        start = ticks.count + 1
        began = await asyncio.to_thread(ticks.at, start)
        if window % 2:
            took = time.perf_counter()
            snapshot = await asyncio.to_thread(to_snapshot, state, FINGERPRINT)
            assert session.head is not None
            await store.snapshots.put_snapshot(session, begun.fence, session.head, snapshot)
            seconds["snapshot"].append(time.perf_counter() - took)
        ended = await asyncio.to_thread(ticks.at, start + WINDOW)
        seconds["with" if window % 2 else "without"].append(ended - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


async def run(streams: int, windows: int) -> None:
    """Measure, and print."""
    torch.set_num_threads(os.cpu_count() or 1)
    ops = choose_ops("auto")
    model = load_model("smollm2-135m", ops, sliding_window_size=512).model
    ops.warm_up()
    state = State.zeros(model.spec, 1)
    for leaf in state.values():
        if leaf.is_floating_point():
            leaf.copy_(torch.randn_like(leaf.float()).to(leaf.dtype))
    ticks = Ticks()
    engine = Engine(model, streams, 256, 64, ticks.hear)
    engine.start()
    for i in range(streams):
        sampling = SamplingParams(seed=i)
        engine.submit(Request(str(i), f"session {i}", tuple(range(10, 20)), sampling, WINDOW * (2 * windows + 4)))
    with tempfile.TemporaryDirectory() as folder:
        valkey = EmbeddedValkey(Path(folder) / "data")
        await valkey.start()
        store = await open_store(StoreOptions(valkey.url))
        try:
            found = await measure(store, state, ticks, windows)
        finally:
            await store.close()
            await valkey.stop()
            engine.stop()
    apart = EVERY / streams / WINDOW * found["without"]  # s between two snapshots of any of the streams
    share = (found["with"] - found["without"]) / apart
    milliseconds = {name: round(1e3 * seconds, 1) for name, seconds in found.items()}
    print(f"{streams} streams, {WINDOW} tokens each: {milliseconds} ms; snapshots cost {share:.2%} of decoding")
    print(json.dumps({"streams": streams, "ms": milliseconds, "share": round(share, 4)}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m server.worker.bench", description=__doc__)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--windows", type=int, default=20, help="of each kind")
    given = parser.parse_args()
    asyncio.run(run(given.streams, given.windows))


if __name__ == "__main__":
    main()
