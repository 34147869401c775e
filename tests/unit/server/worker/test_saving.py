"""Snapshots behind everything else: few at once, few waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from model.state import LeafSpec, State, StateSpec
from server.errors import StoreFull, StoreUnavailable
from server.store.records import Outcome
from server.worker.metrics import WorkerMetrics
from server.worker.saving import AT_ONCE, WAITING, Saver

SPEC = StateSpec({"m": LeafSpec((4,), torch.float32, "a memory")})


class Snapshots:
    """Writes when it is let; counts how many try at once."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.full = self.away = False
        self.now = self.most = self.written = 0

    async def put_snapshot(self, *_: Any) -> Outcome:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        if self.full:
            raise StoreFull
        if self.away:
            raise StoreUnavailable
        self.written += 1
        return Outcome.OK


def counted(metrics: WorkerMetrics, outcome: str) -> float | None:
    return metrics.registry.get_sample_value("perennial_snapshots_total", {"outcome": outcome})


@pytest.fixture
def warm() -> Any:
    class Warm:
        session = type("S", (), {"id": "s"})
        fence, turn = "1-x", "t1"

    return Warm


async def test_so_many_at_once_and_so_many_waiting(warm: Any) -> None:
    snapshots, metrics = Snapshots(), WorkerMetrics()
    store: Any = snapshots
    saver = Saver(store, "f", metrics)
    saving = [asyncio.create_task(saver.save(warm, State.zeros(SPEC, 1))) for _ in range(WAITING + 3)]
    assert await asyncio.gather(*saving[-3:]) == [None] * 3
    async with asyncio.timeout(20):
        while snapshots.now < AT_ONCE:
            await asyncio.sleep(0)
    snapshots.go.set()
    assert await asyncio.gather(*saving[:-3]) == [Outcome.OK] * WAITING
    assert snapshots.most == AT_ONCE
    assert (counted(metrics, "written"), counted(metrics, "left_out")) == (WAITING, 3)
    assert await saver.save(warm, State.zeros(SPEC, 1)) is Outcome.OK  # there is room again


async def test_a_slot_is_copied_when_its_turn_comes_and_may_be_gone_by_then(warm: Any) -> None:
    snapshots, metrics = Snapshots(), WorkerMetrics()
    snapshots.go.set()
    store: Any = snapshots
    saver = Saver(store, "f", metrics)

    async def copy() -> State:
        return State.zeros(SPEC, 1)

    async def gone() -> State:
        raise KeyError("t1")

    assert await saver.save_from(copy, warm) is Outcome.OK
    assert await saver.save_from(gone, warm) is None
    assert snapshots.written == 1


async def test_a_failure_is_counted_and_raises_nothing(warm: Any) -> None:
    snapshots, metrics = Snapshots(), WorkerMetrics()
    snapshots.full = True
    snapshots.go.set()
    store: Any = snapshots
    assert await Saver(store, "f", metrics).save(warm, State.zeros(SPEC, 1)) is None
    assert counted(metrics, "failed") == 1


async def test_a_drain_tries_a_store_that_is_away_once(warm: Any) -> None:
    snapshots, metrics = Snapshots(), WorkerMetrics()
    snapshots.away = True
    snapshots.go.set()
    store: Any = snapshots
    saver = Saver(store, "f", metrics)
    assert await saver.save(warm, State.zeros(SPEC, 1)) is None
    assert not saver.stopped  # while it works, the next may find the store again
    saver.drain()
    assert await saver.save(warm, State.zeros(SPEC, 1)) is None
    assert saver.stopped
    snapshots.away = False
    assert await saver.save(warm, State.zeros(SPEC, 1)) is None
    assert (snapshots.written, counted(metrics, "failed")) == (0, 2)


async def test_stopped_it_gives_up_what_it_writes(warm: Any) -> None:
    snapshots, metrics = Snapshots(), WorkerMetrics()
    store: Any = snapshots
    saver = Saver(store, "f", metrics)
    saving = [asyncio.create_task(saver.save(warm, State.zeros(SPEC, 1))) for _ in range(AT_ONCE + 1)]
    async with asyncio.timeout(20):
        while snapshots.now < AT_ONCE:
            await asyncio.sleep(0)
        saver.stop()
        assert await asyncio.gather(*saving) == [None] * (AT_ONCE + 1)
    assert snapshots.written == 0
