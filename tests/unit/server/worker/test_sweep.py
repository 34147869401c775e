"""Turns that were accepted and never enqueued."""

from __future__ import annotations

import asyncio
from typing import Any

from server.errors import StoreUnavailable
from server.worker.metrics import WorkerMetrics
from server.worker.sweep import Sweeper


class Store:
    """A queue's notes and generations' statuses."""

    def __init__(self, notes: list[str], queued: set[str]) -> None:
        self.notes = notes
        self.queued = queued
        self.enqueued: list[str] = []
        self.asked: list[float] = []
        self.down = False
        self.looked = asyncio.Event()

    async def forgotten(self, older_than_s: float, limit: int) -> list[str]:
        self.asked.append(older_than_s)
        if self.down:
            self.down = False
            raise StoreUnavailable
        self.looked.set()
        return self.notes[:limit]

    async def waiting(self, ids: list[str]) -> set[str]:
        return {i for i in ids if i in self.queued}

    async def enqueue(self, generation: str) -> None:
        self.notes.remove(generation)
        self.enqueued.append(generation)

    async def dismiss(self, generation: str) -> None:
        self.notes.remove(generation)


def sweeper(store: Any, metrics: WorkerMetrics, **more: float) -> Sweeper:
    return Sweeper(store, store, metrics, older_than_s=7.0, **more)


async def test_the_waiting_are_enqueued_and_the_others_dismissed() -> None:
    store, metrics = Store(["queued", "ended", "unknown"], {"queued"}), WorkerMetrics()
    await sweeper(store, metrics).sweep()
    assert store.enqueued == ["queued"]
    assert store.notes == []
    assert store.asked == [7.0]
    assert metrics.registry.get_sample_value("perennial_swept_total", {"outcome": "enqueued"}) == 1
    assert metrics.registry.get_sample_value("perennial_swept_total", {"outcome": "dismissed"}) == 2


async def test_it_outlasts_a_store_that_is_away() -> None:
    store = Store(["queued"], {"queued"})
    store.down = True
    running = asyncio.create_task(sweeper(store, WorkerMetrics(), every_s=0.001).run())
    await asyncio.wait_for(store.looked.wait(), 20)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(store.asked) >= 2
