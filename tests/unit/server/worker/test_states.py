"""States as bytes: bit-exact there and back, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.state import LeafSpec, State, StateSpec
from server.errors import CorruptState, FingerprintMismatch
from server.store.records import LeafBytes
from server.worker.states import from_snapshot, to_snapshot

SPEC = StateSpec(
    {"ring": LeafSpec((2, 8, 3), torch.bfloat16, "a ring", ring_axis=1), "frozen": LeafSpec((), torch.uint8, "a flag")}
)


def state() -> State:
    one = State.zeros(SPEC, 1)
    one["ring"].copy_(torch.randn(1, 2, 8, 3))
    one["position"].fill_(10**9 + 7)
    one["pending"].fill_(3)
    one["frozen"].fill_(1)
    return one


def test_round_trip_is_bit_exact() -> None:
    original = state()
    snapshot = to_snapshot(original, "model-a")
    assert snapshot.position == 10**9 + 7
    assert snapshot.leaves["ring"].dtype == "bfloat16"
    assert snapshot.leaves["ring"].ring_axis == 1
    assert from_snapshot(SPEC, snapshot, "model-a").equal(original)


def test_another_model_or_specification_is_named() -> None:
    snapshot = to_snapshot(state(), "model-a")
    with pytest.raises(FingerprintMismatch, match=r"model-a.*model-b"):
        from_snapshot(SPEC, snapshot, "model-b")
    other = StateSpec({"ring": LeafSpec((2, 8, 3), torch.float32, "a ring", ring_axis=1), "frozen": SPEC["frozen"]})
    with pytest.raises(FingerprintMismatch):
        from_snapshot(other, snapshot, "model-a")


def test_what_does_not_fit_is_named() -> None:
    snapshot = to_snapshot(state(), "m")
    short = {**snapshot.leaves, "ring": replace(snapshot.leaves["ring"], data=bytes(snapshot.leaves["ring"].data)[:-1])}
    with pytest.raises(CorruptState, match="leaf ring"):
        from_snapshot(SPEC, replace(snapshot, leaves=short), "m")
    absent: dict[str, LeafBytes] = {n: leaf for n, leaf in snapshot.leaves.items() if n != "frozen"}
    with pytest.raises(CorruptState, match="leaf frozen"):
        from_snapshot(SPEC, replace(snapshot, leaves=absent), "m")
    with pytest.raises(CorruptState, match="position"):
        from_snapshot(SPEC, replace(snapshot, position=5), "m")


@pytest.mark.parametrize("position", [-1, -(2**63), 2**40 + 1, 2**63 - 1])
def test_a_position_that_would_lead_the_kernels_astray_is_refused(position: int) -> None:
    lying = state()
    lying["position"].fill_(position)
    with pytest.raises(CorruptState, match=f"position {position}"):
        from_snapshot(SPEC, to_snapshot(lying, "m"), "m")


@pytest.mark.parametrize("pending", [-1, 2**31 + 1])
def test_a_pending_token_that_is_none_is_refused(pending: int) -> None:
    lying = state()
    lying["pending"].fill_(pending)
    with pytest.raises(CorruptState, match="pending"):
        from_snapshot(SPEC, to_snapshot(lying, "m"), "m")
