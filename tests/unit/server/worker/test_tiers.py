"""A state from the store, where what was listed may vanish before it is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model.state import LeafSpec, State, StateSpec
from server.errors import CorruptState
from server.store.records import End, Session, Snapshot, Turn
from server.worker.states import to_snapshot
from server.worker.tiers import LOOKS, from_store

SPEC = StateSpec({"m": LeafSpec((4,), torch.float32, "a memory")})
SESSION = Session(
    id="s",
    tenant="t",
    model="m",
    fingerprint="f",
    head="t3",
    length=9,
    end=End.RAW,
    created=0.0,
    updated=0.0,
    expires=9e9,
    running=None,
    state_bytes=1,
    stored_bytes=1,
    turns=3,
    kept=3,
)
RUNS = {"t1": (1, 2, 3), "t2": (4, 5, 6), "t3": (7, 8, 9)}


def turn(name: str) -> Turn:
    n = int(name[1])
    return Turn(name, f"t{n - 1}" if n > 1 else None, RUNS[name], 3 * n, End.RAW, "length", f"g{n}", 0.0)


def snapshot(name: str) -> Snapshot:
    """The state as that turn left it."""
    length = turn(name).length
    state = State.zeros(SPEC, 1)
    state["position"].fill_(length - 1)
    state["pending"].fill_(1 + RUNS[name][-1])
    return to_snapshot(state, "f")


class Stored:
    """Snapshots at these turns; what is done after each listing may change that."""

    def __init__(self, *listings: set[str]) -> None:
        self.listings = list(listings)
        self.there: set[str] = set()
        self.looks = 0
        self.instead: dict[str, str] = {}  # under this turn's name lies that one's snapshot
        self.snapshots = self.turns = self

    async def snapshot_turns(self, session_id: str) -> frozenset[str]:
        """Each listing is out of date at once: what is there is what the next one says."""
        self.looks += 1
        listed = self.listings[0]
        if len(self.listings) > 1:
            del self.listings[0]
        self.there = self.listings[0]
        return frozenset(listed)

    async def get_snapshot(self, session_id: str, name: str) -> Snapshot | None:
        name = self.instead.get(name, name)
        return snapshot(name) if name in self.there else None

    async def read_turns(self, session: Session, stop: frozenset[str]) -> list[Turn]:
        turns: list[Turn] = []
        wanted = session.head
        while wanted is not None and wanted not in stop:
            turns.append(turn(wanted))
            wanted = turns[-1].parent
        return turns[::-1]


async def restored(stored: Stored) -> Any:
    store: Any = SimpleNamespace(snapshots=stored, turns=stored)
    return await from_store(store, SESSION, SPEC)


async def test_the_nearest_snapshot_and_the_log_after_it() -> None:
    got = await restored(Stored({"t1"}))
    assert (got.tier, got.unread, got.replayed, got.saved) == ("redis", (3, 4, 5, 6, 7, 8, 9), 6, 3)
    got = await restored(Stored({"t1", "t3"}))
    assert (got.tier, got.unread, got.replayed, got.saved) == ("redis", (9,), 0, 9)
    got = await restored(Stored(set()))
    assert (got.tier, got.unread, got.replayed, got.saved) == ("redis", (1, 2, 3, 4, 5, 6, 7, 8, 9), 8, 0)


async def test_a_snapshot_that_was_pruned_meanwhile_is_looked_for_again() -> None:
    stored = Stored({"t1"}, {"t2"}, {"t3"})
    got = await restored(stored)
    assert (got.saved, stored.looks) == (9, 3)


async def test_a_list_that_never_rests_is_given_up() -> None:
    stored = Stored(*({f"t{1 + n % 3}"} for n in range(9)))
    with pytest.raises(CorruptState, match="is missing"):
        await restored(stored)
    assert stored.looks == LOOKS


async def test_what_is_missing_while_nothing_changes_is_damage() -> None:
    stored = Stored({"t2"})
    stored.instead = {"t2": "t1"}
    with pytest.raises(CorruptState, match="turn t2"):
        await restored(stored)
    assert stored.looks == 2


async def test_a_snapshot_that_does_not_reach_the_log_is_damage() -> None:
    stored = Stored({"t1", "t2"})
    stored.instead = {"t2": "t1"}
    with pytest.raises(CorruptState, match="do not make 9 tokens"):
        await restored(stored)
