"""The third entry of the state protocol: a session's memory, to be looked at, reset, cleaned and frozen.

What an architecture remembers beyond its window is a set of matrices (Infini-attention's M, a delta rule's M, an SSM's
state). Each family names them (`Memory.matrices`) and says what a reset of each part is; everything that is done to
matrices is here, once: cleaning them (`svd_clean`), and describing them.

An `Operation` is plain JSON, so that it can be a turn of a session's history; it is complete, so that doing it again to
the same state gives the same state: a cleaning that was carried out carries which components it kept (`done`), for an
SVD of other floats could choose another rank.

It knows nothing of sessions or of where a state lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import Tensor

from model.state import State
from model.svd_clean import Cleaned, Cut, clean, effective_rank, numerical_rank, singular_values


class MemoryOperationError(ValueError):
    """This operation can't be done to this model's memory; the message says why, `param` names what does not fit."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Scope(StrEnum):
    """What a reset empties."""

    MEMORY = "memory"
    WINDOW = "window"
    ALL = "all"


class Kind(StrEnum):
    """The operations. INSPECT changes nothing."""

    RESET = "reset"
    CLEAN = "svd-clean"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    INSPECT = "inspect"


@dataclass(frozen=True, slots=True)
class Matrix:
    """One memory matrix of one session: views of its state, so that writing to M or z changes the state.

    layer, head: where it stands; memory: which of several of a layer, from 0. M (K, V): key side × value side.
    z (K,): its normaliser, None where the family has none. gates: how far each query head that reads it takes what it
    reads, 0 to 1; empty where the family has no gates.
    """

    layer: int
    head: int
    memory: int
    M: Tensor
    z: Tensor | None
    gates: tuple[float, ...]

    @property
    def place(self) -> tuple[int, int, int]:
        """Layer, memory, head: its name within the model."""
        return self.layer, self.memory, self.head


class Memory(Protocol):
    """What an architecture says of its memory. Every `state` is of one row. layers: indices, None for all."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that have one; empty where the model remembers nothing beyond its window."""
        ...

    def matrices(self, state: State, layers: Sequence[int] | None = None) -> list[Matrix]:
        """By layer, memory, head."""
        ...

    def writes(self, state: State, layer: int) -> int:
        """What was written to a layer's memory since it was last emptied or cleaned: segments, or tokens."""
        ...

    def cleaned(self, state: State, layer: int) -> None:
        """The layer's memory was cleaned: its writes count from here."""
        ...

    def reset(self, state: State, scope: Scope, layers: Sequence[int] | None = None) -> None:
        """Back to before the first token, in place; position and pending token stay. Raises `MemoryOperationError`."""
        ...

    def frozen(self, state: State) -> bool:
        """Whether it is read but not written."""
        ...

    def freeze(self, state: State, frozen: bool) -> None:
        """Write to it no more, or again. Raises `MemoryOperationError`."""
        ...


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. layers: indices, None for all. done: of a cleaning that was carried out, what it kept of the
    matrix at each place (layer, memory, head)."""

    kind: Kind
    scope: Scope = Scope.MEMORY
    layers: tuple[int, ...] | None = None
    cut: Cut = field(default_factory=Cut)
    done: Mapping[tuple[int, int, int], tuple[int, int]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with nothing in it that the kind does not use."""
        body: dict[str, Any] = {"kind": self.kind.value}
        if self.kind is Kind.RESET:
            body["scope"] = self.scope.value
        if self.layers is not None:
            body["layers"] = list(self.layers)
        if self.kind is Kind.CLEAN:
            body |= {
                "energy_threshold": self.cut.energy_threshold,
                "max_rank": self.cut.max_rank,
                "drop_top": self.cut.drop_top,
            }
            if self.done is not None:
                body["done"] = [[*place, *kept] for place, kept in self.done.items()]
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Operation:
        """What `to_json` made. Raises ValueError, KeyError or TypeError for anything else."""
        layers, done = body.get("layers"), body.get("done")
        cut = Cut()
        if body["kind"] == Kind.CLEAN:
            cut = Cut(body["energy_threshold"], body.get("max_rank"), body["drop_top"])
        return cls(
            Kind(body["kind"]),
            Scope(body.get("scope", Scope.MEMORY)),
            None if layers is None else tuple(int(layer) for layer in layers),
            cut,
            None if done is None else {(int(a), int(b), int(c)): (int(d), int(e)) for a, b, c, d, e in done},
        )


def operate(memory: Memory, state: State, operation: Operation) -> tuple[Operation, list[dict[str, Any]]]:
    """Do it to a state of one row, in place.

    Returns the operation as it can be done again, and of each matrix that was looked at or cleaned a description, as
    plain JSON. Raises `MemoryOperationError` naming what does not fit; the state is then as it was.
    """
    known = memory.layers
    if strange := [layer for layer in operation.layers or () if layer not in known]:
        have = f"its layers with a memory are {list(known)}" if known else "it has no memory beyond its window"
        raise MemoryOperationError(f"layer {strange[0]} of this model has no memory; {have}", "layers")
    if operation.kind is Kind.INSPECT:
        return operation, [describe(memory, state, matrix) for matrix in memory.matrices(state, operation.layers)]
    if operation.kind is Kind.RESET:
        memory.reset(state, operation.scope, operation.layers)
    elif operation.kind is Kind.CLEAN:
        return _clean(memory, state, operation)
    else:
        memory.freeze(state, operation.kind is Kind.FREEZE)
    return operation, []


def _clean(memory: Memory, state: State, operation: Operation) -> tuple[Operation, list[dict[str, Any]]]:
    matrices = memory.matrices(state, operation.layers)
    if operation.done is not None and operation.done.keys() != {matrix.place for matrix in matrices}:
        raise MemoryOperationError("what a cleaning is said to have kept is not of this model's matrices")
    done, told = {}, []
    for matrix in matrices:
        cut = operation.cut if operation.done is None else operation.done[matrix.place]
        result = clean(matrix.M, matrix.z, cut)
        told.append(_told(matrix, result))
        done[matrix.place] = result.kept
        matrix.M.copy_(result.M)
        if matrix.z is not None and result.z is not None:
            matrix.z.copy_(result.z)
    for layer in {matrix.layer for matrix in matrices}:
        memory.cleaned(state, layer)
    return Operation(operation.kind, operation.scope, operation.layers, operation.cut, done), told


def _told(matrix: Matrix, result: Cleaned) -> dict[str, Any]:
    return {
        "layer": matrix.layer,
        "memory": matrix.memory,
        "head": matrix.head,
        "rank": result.rank_before,
        "retained_rank": result.rank,
        "energy_retained": result.energy,
        "effective_rank": effective_rank(result.singular_values),
        "singular_values": _numbers(result.singular_values),
        "norm": float(torch.linalg.norm(result.singular_values)),
        "norm_after": float(torch.linalg.norm(result.M.double())),
    }


def describe(memory: Memory, state: State, matrix: Matrix) -> dict[str, Any]:
    """One matrix in figures, as plain JSON."""
    s = singular_values(matrix.M)
    return {
        "layer": matrix.layer,
        "memory": matrix.memory,
        "head": matrix.head,
        "norm": float(torch.linalg.norm(s)),
        "norm_z": None if matrix.z is None else float(torch.linalg.norm(matrix.z.double())),
        "rank": numerical_rank(s, matrix.M),
        "effective_rank": effective_rank(s),
        "singular_values": _numbers(s),
        "gates": [round(gate, 6) for gate in matrix.gates],
        "writes": memory.writes(state, matrix.layer),
    }


def shift(before: Tensor, after: Tensor) -> dict[str, float | bool]:
    """What an operation does to the next token's distribution. before, after: logits (V,).

    kl: Σ p log(p/q) in nats, p before, q after. same_top: whether the likeliest token is the same.
    """
    p, q = torch.log_softmax(before.double(), -1), torch.log_softmax(after.double(), -1)
    return {"kl": float((p.exp() * (p - q)).sum().clamp(min=0.0)), "same_top": bool(p.argmax() == q.argmax())}


def _numbers(s: Tensor) -> list[float]:
    """Six digits are enough to draw a spectrum."""
    return [float(f"{value:.6g}") for value in s.tolist()]
