"""The pool under any series of operations, against a dictionary that holds the same states."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model.state import LeafSpec, State, StateError, StateSpec
from server.engine.slots import Slots

SPEC = StateSpec({"a": LeafSpec((3,), torch.float32, "numbers"), "b": LeafSpec((2, 2), torch.int64, "more")})


def state(seed: int) -> State:
    """One row of noise."""
    made = State.zeros(SPEC, 1)
    noise = torch.Generator().manual_seed(seed)
    made["a"].copy_(torch.randn(1, 3, generator=noise))
    made["b"].copy_(torch.randint(0, 99, (1, 2, 2), generator=noise))
    made["position"].fill_(seed)
    return made


class Model(RuleBasedStateMachine):
    """Every operation of `Slots`, beside the states that its owners ought to have."""

    @initialize(rows=st.integers(1, 5))
    def make(self, rows: int) -> None:
        self.rows = rows
        self.slots = Slots(State.zeros(SPEC, rows))
        self.busy: dict[str, State] = {}
        self.warm: OrderedDict[str, State] = OrderedDict()
        self.serial = 0

    def name(self) -> str:
        self.serial += 1
        return f"n{self.serial}"

    @rule(seed=st.none() | st.integers(0, 999))
    def admit(self, seed: int | None) -> None:
        name = self.name()
        given = None if seed is None else state(seed)
        if len(self.busy) == self.rows:
            with pytest.raises(IndexError):
                self.slots.admit(name, "s", given)
            return
        full = len(self.busy) + len(self.warm) == self.rows
        evicted = self.slots.admit(name, f"session {name}", given)
        assert (evicted is not None) == full, "evicts only when it must"
        if evicted is not None:
            key, held = self.warm.popitem(last=False)
            assert evicted.key == key
            assert evicted.state.equal(held)
        self.busy[name] = State.zeros(SPEC, 1) if given is None else given

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), seed=st.integers(0, 999))
    def write(self, data: st.DataObject, seed: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.busy)))
        self.busy[name] = state(seed)
        self.slots.view(name).copy_(self.busy[name])

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.busy)))
        key = data.draw(st.sampled_from([f"key {name}", *sorted(self.warm)]))
        self.slots.keep(name, key)
        self.warm.pop(key, None)
        self.warm[key] = self.busy.pop(name)

    @precondition(lambda self: self.warm)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.warm)))
        name = self.name()
        self.slots.claim(key, name)
        self.busy[name] = self.warm.pop(key)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([*sorted(self.busy), "nobody"]))
        assert self.slots.release(name) == (self.busy.pop(name, None) is not None)

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([*sorted(self.warm), "nothing"]))
        assert self.slots.forget(key) == (self.warm.pop(key, None) is not None)

    @rule(data=st.data())
    def front(self, data: st.DataObject) -> None:
        chosen = data.draw(st.permutations(sorted(self.busy)))
        chosen = chosen[: data.draw(st.integers(0, len(chosen)))]
        order = self.slots.front(chosen)
        assert sorted(order) == sorted(chosen)
        assert [self.slots.row(name) for name in order] == list(range(len(chosen)))
        batch = self.slots.batch(len(chosen))
        assert all(batch.slice(row, row + 1).equal(self.busy[name]) for row, name in enumerate(order))

    @rule()
    def refuse_another_specification(self) -> None:
        other = State.zeros(StateSpec({"c": LeafSpec((), torch.int64, "other")}), 1)
        if len(self.busy) + len(self.warm) < self.rows:
            with pytest.raises(StateError):
                self.slots.admit("foreign", "s", other)
            assert not self.slots.owns("foreign")

    @invariant()
    def nobody_shares_a_row_and_no_byte_has_changed(self) -> None:
        if not hasattr(self, "slots"):
            return
        rows = [self.slots.row(name) for name in self.busy]
        assert len(set(rows)) == len(rows)
        assert all(self.slots.view(name).equal(held) for name, held in self.busy.items())
        assert all(self.slots.copy(key).equal(held) for key, held in self.warm.items())
        assert (self.slots.busy, self.slots.warm) == (len(self.busy), len(self.warm))
        assert self.slots.free == self.rows - len(self.busy) - len(self.warm)
        assert self.slots.vacant == self.rows - len(self.busy)


TestSlots = Model.TestCase
TestSlots.settings = settings(max_examples=50)


def test_a_copy_shares_nothing_with_the_pool() -> None:
    slots = Slots(State.zeros(SPEC, 1))
    slots.admit("a", "s", state(1))
    slots.keep("a", "k")
    copied = slots.copy("k")
    copied.clear()
    assert slots.copy("k").equal(state(1))


def test_rows_move_only_for_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving the front moves nothing; one that left and one that came meet in one exchange."""
    swaps: list[tuple[int, int]] = []
    plain = State.swap
    monkeypatch.setattr(State, "swap", lambda self, a, b: (swaps.append((a, b)), plain(self, a, b))[0])
    slots = Slots(State.zeros(SPEC, 4))
    for name in "abcd":
        slots.admit(name, "s", state(ord(name)))
    assert slots.front(["a", "b", "c"]) == ["a", "b", "c"]
    assert slots.front(["a", "b"]) == ["a", "b"]
    assert swaps == []
    assert slots.front(["a", "d"]) == ["a", "d"]
    assert swaps == [(3, 1)]
    slots.release("a")
    assert slots.front(["b", "d"]) == ["b", "d"], "b is copied into the free row"
    assert len(swaps) == 1
    assert slots.view("b").equal(state(ord("b")))
