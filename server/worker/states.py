"""A state as the store keeps it, and back: tensors on this side, bytes on the other.

It knows nothing of sessions or of where the bytes lie.
"""

from __future__ import annotations

import torch

from model.state import LeafSpec, State, StateSpec
from server.errors import CorruptState, FingerprintMismatch
from server.store.records import LeafBytes, Snapshot

MAX_POSITION = 1 << 40
MAX_TOKEN = (1 << 31) - 1


def to_snapshot(state: State, fingerprint: str) -> Snapshot:
    """One row's state as bytes: a view of its memory, not a copy, so nobody may write to it any more."""
    leaves = {}
    for name, leaf in state.spec.items():
        data = state[name][0].contiguous().reshape(-1).view(torch.uint8).numpy().data
        leaves[name] = LeafBytes(str(leaf.dtype).removeprefix("torch."), leaf.shape, leaf.ring_axis, data)
    return Snapshot(fingerprint, state.spec.hash(), int(state["position"][0]), leaves)


def from_snapshot(spec: StateSpec, snapshot: Snapshot, fingerprint: str) -> State:
    """The state, one row. Raises `FingerprintMismatch` for another model's, `CorruptState` for what does not fit."""
    if snapshot.fingerprint != fingerprint or snapshot.spec_hash != spec.hash():
        raise FingerprintMismatch(
            f"the snapshot is of model {snapshot.fingerprint}/{snapshot.spec_hash}, this worker runs "
            f"{fingerprint}/{spec.hash()}"
        )
    state = State.zeros(spec, 1)
    for name, leaf in spec.items():
        state[name].view(1, *leaf.shape).copy_(_tensor(name, leaf, snapshot.leaves.get(name)))
    if int(state["position"][0]) != snapshot.position:
        raise CorruptState(f"the snapshot says position {snapshot.position}, its state says {int(state['position'])}")
    _validate(state)
    return state


def _validate(state: State) -> None:
    """The kernels find their place in the window from `position` and, where there is one, `origin`, unchecked: a
    negative or an overflowing one would have them write elsewhere. No other leaf says where anything lies."""
    position, pending = int(state["position"][0]), int(state["pending"][0])
    if not 0 <= position <= MAX_POSITION:
        raise CorruptState(f"the state says position {position}; it is from 0 to {MAX_POSITION}")
    if "origin" in state and not 0 <= (origin := int(state["origin"][0])) <= position:
        raise CorruptState(f"the state says its window began at {origin}; it stands at {position}")
    if not 0 <= pending <= MAX_TOKEN + 1:
        raise CorruptState("the state's pending token is none")


def _tensor(name: str, leaf: LeafSpec, found: LeafBytes | None) -> torch.Tensor:
    if found is None or len(found.data) != leaf.nbytes:
        size = "absent" if found is None else f"{len(found.data)} bytes"
        raise CorruptState(f"leaf {name} of the snapshot is {size}; {leaf.nbytes} bytes are expected")
    return torch.frombuffer(bytearray(found.data), dtype=leaf.dtype).view(1, *leaf.shape)
