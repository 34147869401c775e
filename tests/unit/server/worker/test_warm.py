"""Sessions whose state is here: what is used, what is freed, what is saved, and what the store is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.state import LeafSpec, State, StateSpec
from server.engine.request import Evicted
from server.errors import StoreUnavailable
from server.store.records import End, Fence, Outcome, Session, Turn
from server.worker.metrics import WorkerMetrics
from server.worker.places import Places
from server.worker.saving import Saver
from server.worker.warm import WarmSessions

SPEC = StateSpec({"m": LeafSpec((4,), torch.float32, "a memory")})
EVERY = 10


def session(name: str, head: str | None, length: int, **more: Any) -> Session:
    return Session(
        id=name,
        tenant="t",
        model="m",
        fingerprint="f",
        head=head,
        length=length,
        end=End.RAW,
        created=0.0,
        updated=0.0,
        expires=9e9,
        running=None,
        state_bytes=1,
        stored_bytes=1,
        turns=1,
        kept=1,
        **more,
    )


class Here:
    """`WarmSessions` with an engine and a store that note what they are asked."""

    def __init__(self, ram_states: int) -> None:
        self.forgotten: list[str] = []
        self.snapshots: list[str] = []
        self.placed: list[tuple[str, str, str]] = []
        self.down = False
        self.tried = 0
        self.outcome: Outcome | Exception = Outcome.OK
        self.go = asyncio.Event()
        self.go.set()
        self.states: dict[str, State] = {}
        self._tasks: list[asyncio.Future[None]] = []
        metrics = WorkerMetrics()
        self.sample = metrics.registry.get_sample_value
        store: Any = self
        self.places = Places(store, "me")
        self.saver = Saver(store, "f", metrics)
        self.warm = WarmSessions(
            "me",
            self.saver,
            self.places,
            self.spawn,
            metrics,
            snapshot_every=EVERY,
            ram_bytes=ram_states * SPEC.nbytes,
        )
        engine: Any = SimpleNamespace(forget=self.forgotten.append, copy=self.copy)
        self.warm.connect(engine)

    # The engine

    def copy(self, key: str) -> Future[State]:
        future: Future[State] = Future()
        if key in self.states:
            future.set_result(self.states[key].clone())
        else:
            future.set_exception(KeyError(key))
        return future

    # The store

    async def put_snapshot(self, _session: Session, _fence: Fence, turn: str, _snapshot: Any) -> Outcome:
        self.tried += 1
        await self.go.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.snapshots.append(turn)
        return self.outcome

    async def place(self, worker: str, rows: list[tuple[str, str, str]]) -> None:
        assert worker == "me"
        if self.down:
            raise StoreUnavailable
        self.placed += rows

    # The worker

    def spawn(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def settled(self) -> None:
        while self._tasks:
            await self._tasks.pop()
        await self.places.flush()

    def keep(self, name: str, turn: str, length: int, saved: int = 0, head: str | None = None) -> None:
        """A turn of that session, which stood at `head`, was committed, and its row kept."""
        state = State.zeros(SPEC, 1)
        state["position"].fill_(length - 1)
        self.states[turn] = state
        begun: Any = SimpleNamespace(session=session(name, head, 0), fence=Fence("1-x"))
        self.warm.keep(begun, Turn(turn, None, (1, 5), length, End.RAW, "length", "g", 0.0), saved)

    def evict(self, name: str, turn: str) -> None:
        self.warm.evict(Evicted(turn, name, self.states.pop(turn)))


@pytest.fixture
async def here() -> Here:
    return Here(ram_states=2)


async def test_from_slot_to_ram_to_the_store(here: Here) -> None:
    for name in "abc":
        here.keep(name, f"{name}1", 5)
    assert here.warm.at_head(session("a", "a1", 5)) is not None
    slot = here.warm.at_head(session("a", "a1", 5))
    assert slot is not None
    assert (slot.tier, slot.warm, slot.state, slot.unread) == ("slot", "a1", None, (5,))
    here.evict("a", "a1")
    ram = here.warm.at_head(session("a", "a1", 5))
    assert ram is not None
    assert (ram.tier, ram.warm, ram.unread, ram.replayed) == ("ram", None, (5,), 0)
    assert ram.state is not None
    assert int(ram.state["position"]) == 4
    here.evict("b", "b1")
    here.evict("c", "c1")
    await here.settled()
    assert here.warm.at_head(session("a", "a1", 5)) is None
    assert here.warm.missed(session("a", "a1", 5, worker=None)) == "evicted"
    # Of a session, the last move is said.
    assert set(here.placed) == {("a", "a1", "redis"), ("b", "b1", "ram"), ("c", "c1", "ram")}
    assert here.sample("perennial_ram_bytes") == 2 * SPEC.nbytes
    assert here.sample("perennial_ram_states") == 2
    assert here.snapshots == []  # their logs are short


async def test_admitted_it_is_in_one_place() -> None:
    here = Here(ram_states=1)
    here.keep("a", "a1", 5)
    here.evict("a", "a1")
    here.warm.taken(session("a", "a1", 5), None)
    assert here.sample("perennial_ram_states") == 0
    assert here.warm.at_head(session("a", "a1", 5)) is None
    here.keep("b", "b1", 5)
    here.warm.taken(session("b", "b1", 5), "b1")
    assert here.forgotten == []
    here.keep("b", "b1", 5)  # the commit's answer came after the session's next turn was begun elsewhere in this worker
    here.warm.taken(session("b", "b2", 9), None)
    assert here.forgotten == ["b1"]


@pytest.mark.parametrize("evicted", [False, True])
async def test_a_state_at_another_turn_is_freed_when_it_is_seen(here: Here, evicted: bool) -> None:
    for name, head, length, why in (("a", "a0", 3, "rewound"), ("b", "b2", 9, "moved")):
        here.keep(name, f"{name}1", 5)
        if evicted:
            here.evict(name, f"{name}1")
        now = session(name, head, length)
        assert here.warm.at_head(now) is None
        assert here.warm.missed(now) == why
    assert here.forgotten == ([] if evicted else ["a1", "b1"])
    assert here.sample("perennial_ram_states") in (None, 0)
    assert here.warm.at_head(session("a", "a1", 5)) is None


async def test_why_a_state_is_not_here(here: Here) -> None:
    missed = here.warm.missed
    assert missed(session("a", "a1", 5)) == "cold"
    assert missed(session("a", "a1", 5, worker="me")) == "cold"
    assert missed(session("a", "a1", 5, worker="other")) == "moved"
    assert missed(session("a", "a1", 5, origin=("s", "a1"))) == "forked"
    here.warm.cut(session("a", "a1", 5), Turn("a2", "a1", (1,), 6, End.RAW, "stop", "g", 0.0))
    assert missed(session("a", "a2", 6)) == "cut"
    here.warm.dropped(session("a", "a2", 6))
    assert missed(session("a", "a2", 6)) == "dropped"
    here.keep("b", "b1", 5)
    here.warm.dropped(session("b", "b1", 5))  # it still has its slot
    await here.settled()
    assert here.placed == [("a", "a2", "redis")]


async def test_saved_when_due_on_eviction_and_on_drain(here: Here) -> None:
    here.keep("a", "a1", EVERY - 1)
    here.keep("b", "b1", EVERY + 5, saved=EVERY)
    here.keep("c", "c1", 2 * EVERY, saved=EVERY)
    await here.settled()
    assert here.snapshots == ["c1"]  # due at once
    here.evict("b", "b1")
    await here.settled()
    assert here.snapshots == ["c1", "b1"]
    parked = here.warm.at_head(session("b", "b1", EVERY + 5))
    assert parked is not None
    assert parked.saved == EVERY + 5
    here.keep("d", "d1", EVERY + 3, saved=EVERY)
    await here.warm.save_all()
    assert here.snapshots == ["c1", "b1", "d1"]
    assert ("d", "d1", "redis") in here.placed
    assert ("b", "b1", "redis") in here.placed


async def test_what_could_not_be_saved_is_saved_as_it_leaves_ram(here: Here) -> None:
    here.outcome = StoreUnavailable()
    here.keep("a", "a1", 2 * EVERY)
    here.keep("b", "b1", EVERY + 1, saved=EVERY)
    await here.settled()
    here.evict("a", "a1")
    here.evict("b", "b1")
    await here.settled()
    assert here.snapshots == []
    here.outcome = Outcome.OK
    here.keep("c", "c1", 5)
    here.keep("d", "d1", 5)
    here.evict("c", "c1")
    here.evict("d", "d1")
    await here.settled()
    assert here.snapshots == ["a1"]  # b's log is short enough


async def test_without_ram_an_evicted_state_is_saved_once(here: Here) -> None:
    here = Here(ram_states=0)
    here.outcome = StoreUnavailable()
    here.keep("a", "a1", 2 * EVERY)
    await here.settled()
    here.outcome = Outcome.OK
    here.evict("a", "a1")
    await here.settled()
    assert here.snapshots == ["a1"]
    assert here.placed == [("a", "a1", "redis")]
    assert here.warm.missed(session("a", "a1", 2 * EVERY)) == "evicted"


@pytest.mark.parametrize("evicted", [False, True])
async def test_a_session_that_is_no_more_is_freed(here: Here, evicted: bool) -> None:
    here.outcome = Outcome.ENDED
    here.keep("a", "a1", EVERY + 1, saved=EVERY if evicted else 0)
    if evicted:
        here.evict("a", "a1")
    await here.settled()
    assert here.snapshots == ["a1"]
    assert here.warm.at_head(session("a", "a1", EVERY + 1)) is None
    assert here.forgotten == ([] if evicted else ["a1"])


async def test_a_stranger_evicted_is_nobodys(here: Here) -> None:
    here.keep("a", "a2", 2 * EVERY, saved=2 * EVERY)
    here.warm.evict(Evicted("a1", "a", State.zeros(SPEC, 1)))
    assert here.sample("perennial_ram_states") == 0
    still = here.warm.at_head(replace(session("a", "a2", 2 * EVERY)))
    assert still is not None
    assert still.tier == "slot"


async def test_places_that_the_store_does_not_take_are_dropped(here: Here) -> None:
    here.down = True
    here.places.say("a", "a1", "ram")
    await here.places.flush()
    here.down = False
    here.places.say("b", "b1", "ram")
    running = asyncio.create_task(here.places.run())
    async with asyncio.timeout(20):
        while not here.placed:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert here.placed == [("b", "b1", "ram")]


async def test_a_snapshot_that_was_written_behind_the_next_turn_counts(here: Here) -> None:
    """Its turns are quick: each is committed before the snapshot of the one before is there."""
    here.go.clear()
    here.keep("a", "a1", EVERY + 2)
    async with asyncio.timeout(20):
        while not here.tried:
            await asyncio.sleep(0)
    here.warm.taken(session("a", "a1", EVERY + 2), "a1")
    here.go.set()
    await here.settled()
    assert here.snapshots == ["a1"]
    at_head = session("a", "a1", EVERY + 2)
    assert here.warm.saved(at_head, 0) == EVERY + 2
    here.keep("a", "a2", EVERY + 6, head="a1")  # what its turn knew when it began: nothing was saved
    await here.settled()
    assert here.snapshots == ["a1"]
    again = here.warm.at_head(session("a", "a2", EVERY + 6))
    assert again is not None
    assert again.saved == EVERY + 2
    here.keep("a", "a3", 2 * EVERY + 2, head="a2")
    await here.settled()
    assert here.snapshots == ["a1", "a3"]
    # Gone back and gone on from there: what was saved after that is no more.
    assert here.warm.saved(session("a", "a1", EVERY + 2), 0) == 0
    here.keep("a", "b2", 2 * EVERY, head="a1")
    await here.settled()
    assert here.snapshots == ["a1", "a3", "b2"]


async def test_a_drain_with_the_store_away_tries_one_state_and_says_nothing(here: Here) -> None:
    for name in "abc":
        here.keep(name, f"{name}1", EVERY + 5, saved=EVERY)
    here.evict("c", "c1")
    await here.settled()
    here.placed.clear()
    here.outcome = StoreUnavailable()
    here.tried = 0
    here.saver.drain()
    await here.warm.save_all()
    assert here.tried == 1
    assert here.placed == []
