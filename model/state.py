"""The state protocol: one verb, `advance`, over a state of fixed size.

A session is one row of a `State`: a set of named leaves whose shapes follow from the config alone, so that the
millionth token costs what the tenth did. Everything an architecture needs to go on is in its leaves; nothing mutable
hangs on a module. The seven laws every architecture keeps are in `tests/laws/`.

Glossary, used in every file of this package:
    B  rows of a batch          T  tokens of a row (right-padded to the longest)
    V  vocabulary               E  width of the residual stream
    H  query heads              G  key/value heads          D  width of a head
    W  window, in positions     S  slots of a pool          p  absolute position of a token, from 0
    M  memory matrix (D, D)     z  its normaliser (D,)

It knows nothing of text, sessions or storage.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.spec_hash import spec_hash

if TYPE_CHECKING:
    from model.memory import Memory


class StateError(ValueError):
    """The state does not fit its specification."""


@dataclass(frozen=True, slots=True)
class LeafSpec:
    """One leaf of a state.

    shape: of one row, without the batch axis; () is a scalar per row.
    ring_axis: the axis of `shape` that is a ring over positions (position p is written at index p mod its length),
        or None for a leaf that is rewritten as a whole. The store cuts rings in blocks and shares the full ones.
    meaning: what one row holds, in a few words, for `perennial inspect` and error messages.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    meaning: str
    ring_axis: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize


# Every architecture has these two, so that a state alone says where it stands (law 1).
POSITION = LeafSpec((), torch.int64, "tokens read so far; also the counter of the sampling noise")
PENDING = LeafSpec((), torch.int64, "1 + the sampled token not read yet; 0 where there is none")


class StateSpec(Mapping[str, LeafSpec]):
    """Leaf name → `LeafSpec`, in a fixed order, known from the config alone (law 2)."""

    def __init__(self, leaves: Mapping[str, LeafSpec]) -> None:
        self._leaves = {"position": POSITION, "pending": PENDING, **leaves}

    def __getitem__(self, name: str) -> LeafSpec:
        return self._leaves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    @property
    def nbytes(self) -> int:
        """Bytes of one session's state."""
        return sum(leaf.nbytes for leaf in self.values())

    @property
    def window(self) -> int | None:
        """Positions that are attended to exactly, the length of the longest ring; None where there is no ring."""
        return max((s.shape[s.ring_axis] for s in self.values() if s.ring_axis is not None), default=None)

    def hash(self) -> str:
        """16 hex digits that change with any name, shape, dtype or ring axis: a state is loaded only by its like."""
        return spec_hash((n, s.shape, str(s.dtype).removeprefix("torch."), s.ring_axis) for n, s in self.items())


class State(Mapping[str, Tensor]):
    """Rows of a preallocated pool: leaf name → tensor (B, *leaf.shape), views all of them.

    `state[a:b]` is a `State` over rows a to b that shares their memory; `advance` writes through it.
    """

    __slots__ = ("_leaves", "rows", "spec")

    def __init__(self, spec: StateSpec, leaves: Mapping[str, Tensor]) -> None:
        self.spec = spec
        self._leaves = dict(leaves)
        self.rows = next(iter(self._leaves.values())).shape[0]

    @classmethod
    def zeros(cls, spec: StateSpec, rows: int, device: torch.device | str = "cpu") -> State:
        """A pool of `rows` empty states. A row of zeros is the state before the first token, for every architecture."""
        return cls(spec, {n: torch.zeros(rows, *s.shape, dtype=s.dtype, device=device) for n, s in spec.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._leaves[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    @property
    def device(self) -> torch.device:
        """Where its leaves are."""
        return self["position"].device

    def slice(self, start: int, stop: int) -> State:
        """Rows start to stop, sharing memory."""
        if not 0 <= start <= stop <= self.rows:
            raise StateError(f"rows {start}:{stop} of a state of {self.rows} rows")
        return State(self.spec, {n: t[start:stop] for n, t in self._leaves.items()})

    def clone(self) -> State:
        """A copy that shares nothing."""
        return State(self.spec, {n: t.clone() for n, t in self._leaves.items()})

    def to(self, device: torch.device | str, *, copy: bool = False) -> State:
        """The same rows on a device. What is there already is shared, unless `copy`."""
        return State(self.spec, {n: t.to(device, copy=copy) for n, t in self._leaves.items()})

    def clear(self) -> None:
        """Every row back to before the first token."""
        for t in self._leaves.values():
            t.zero_()

    def copy_(self, other: State) -> None:
        """Overwrite these rows with the rows of `other`. Raises `StateError` where the specifications differ."""
        if other.spec.hash() != self.spec.hash() or other.rows != self.rows:
            raise StateError("a state can only be copied over one of the same specification and number of rows")
        for name, t in self._leaves.items():
            t.copy_(other[name])

    def swap(self, a: int, b: int) -> None:
        """Exchange rows a and b."""
        if a == b:
            return
        for t in self._leaves.values():
            held = t[a].clone()
            t[a].copy_(t[b])
            t[b].copy_(held)

    def followed_by(self, leaves: Mapping[str, Tensor], read: Tensor) -> State:
        """A new state with these leaves where rows `read` (B,) bool something, in the dtypes they have here.

        A row that read nothing keeps its bits, even where the computation's dtype is the narrower one.
        """
        after = dict(self._leaves)
        for name, leaf in leaves.items():
            old = after[name]
            after[name] = torch.where(read.view(-1, *[1] * (old.dim() - 1)), leaf.to(old.dtype), old)
        return State(self.spec, after)

    def equal(self, other: State) -> bool:
        """True where every leaf is bit-identical."""
        return self.spec.hash() == other.spec.hash() and all(torch.equal(t, other[n]) for n, t in self.items())


def to_bytes(state: State) -> bytes:
    """A state as one safetensors file, with the hash of its specification in the header."""
    return save({n: t.contiguous() for n, t in state.items()}, metadata={"state_spec": state.spec.hash()})


def from_bytes(spec: StateSpec, data: bytes) -> State:
    """The state that `to_bytes` wrote, bit for bit. Raises `StateError` for anything else, naming what does not fit."""
    try:
        leaves = load(data)
    except SafetensorError as error:
        raise StateError(f"not a whole safetensors file: {error}") from error
    if missing := [n for n in spec if n not in leaves]:
        raise StateError(f"leaf {missing[0]} is missing")
    for name, t in leaves.items():
        if name not in spec:
            raise StateError(f"leaf {name} is not one of this model's")
        if tuple(t.shape[1:]) != spec[name].shape or t.dtype != spec[name].dtype:
            raise StateError(
                f"leaf {name} is {t.dtype} {tuple(t.shape[1:])}; this model's is {spec[name].dtype} {spec[name].shape}"
            )
    if len({t.shape[0] for t in leaves.values()}) != 1:
        raise StateError("the leaves differ in their number of rows")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    written = header.get("__metadata__", {}).get("state_spec")
    if written != spec.hash():
        raise StateError(f"written under the state specification {written}; this model's is {spec.hash()}")
    return State(spec, {n: leaves[n] for n in spec})


class Model(Protocol):
    """What the engine, the trainer and the laws know of an architecture."""

    @property
    def spec(self) -> StateSpec:
        """The leaves of one session's state."""
        ...

    @property
    def vocab_size(self) -> int:
        """V, the width of the logits."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes: the device of the tokens, lengths and states it reads, and of its logits."""
        ...

    @property
    def memory(self) -> Memory:
        """What it remembers beyond its window, to be looked at, reset, cleaned and frozen."""
        ...

    def advance(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """Read tokens into the state, in place.

        tokens (B, T) int64, right-padded; lengths (B,) int64, 0 to T; state of B rows. Returns the logits (B, V)
        float32 after each row's last real token (a row of length 0: unspecified), and the same state.
        A row of length 0 keeps its state bit for bit (law 5).
        """
        ...


class Trainable(Protocol):
    """What the trainer knows of an architecture: the same function of text and state, kept for the backward pass."""

    @property
    def spec(self) -> StateSpec:
        """The leaves of one session's state."""
        ...

    @property
    def vocab_size(self) -> int:
        """V, the width of the logits."""
        ...

    def unroll(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        """Read tokens, out of place and differentiable.

        tokens (B, T) int64, right-padded; lengths (B,) int64, 0 to T; state of B rows, left as it is. Returns the
        logits (B, T, V) after every token, 0 where it is padding, and a new state through which gradients flow.
        """
        ...


def as_rows(tokens: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Right-pad lists of token ids: tokens (B, T) int64 and lengths (B,) int64, on a device."""
    lengths = [len(row) for row in tokens]
    padded = torch.zeros(len(tokens), max(lengths, default=0), dtype=torch.int64)
    for b, row in enumerate(tokens):
        padded[b, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded.to(device), torch.tensor(lengths, dtype=torch.int64).to(device)
