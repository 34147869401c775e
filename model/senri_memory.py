"""Senri's memory as `model.memory` asks for it: Infini-attention's M and z, or a delta rule's M, per layer and head.

It knows the names of the leaves (`Config.state_spec`) and nothing of how they are read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.memory import Matrix, MemoryOperationError, Scope
from model.state import State

# Leaves of one memory layer, beside M: whatever is there is emptied with it. What waits to be written has not been
# remembered yet, and goes too.
_BESIDE = ("z", "seg_k", "seg_v", "seg_mask", "conv_q", "conv_k", "conv_v", "waiting", "writes")
_WINDOW = ("k", "v", "sink_k", "sink_v", "waiting")


class SenriMemory:
    """Implements `model.memory.Memory`. heads: H query heads; gates: memory layer → its (H,) read gates' logits, None
    where every one is closed."""

    def __init__(self, heads: int, gates: Mapping[int, Tensor | None]) -> None:
        self._heads = heads
        self._gates = gates

    @property
    def layers(self) -> tuple[int, ...]:
        """Those with a memory of their own."""
        return tuple(self._gates)

    def matrices(self, state: State, layers: Sequence[int] | None = None) -> list[Matrix]:
        """See `Memory.matrices`. A leaf M (G, K, V), or (N, G, K, V) where a layer has several memories."""
        found = []
        for layer in self._chosen(state, layers):
            M, z = state[f"M.{layer}"][0], state[f"z.{layer}"][0] if f"z.{layer}" in state else None
            if M.dim() == 3:
                M, z = M.unsqueeze(0), None if z is None else z.unsqueeze(0)
            for memory in range(M.shape[0]):
                for head in range(M.shape[1]):
                    normaliser = None if z is None else z[memory, head]
                    gates = self._gates_of(layer, head, M.shape[1]) if z is not None else ()
                    found.append(Matrix(layer, head, memory, M[memory, head], normaliser, gates))
        return found

    def _gates_of(self, layer: int, head: int, groups: int) -> tuple[float, ...]:
        """Of the query heads that read this key/value head's matrix."""
        each = self._heads // groups
        gate = self._gates[layer]
        if gate is None:
            return (0.0,) * each
        return tuple(torch.sigmoid(gate[head * each : (head + 1) * each]).tolist())

    def _chosen(self, state: State, layers: Sequence[int] | None) -> list[int]:
        """The memory layers that have leaves: where one memory is shared by all, the first."""
        return [i for i in self.layers if f"M.{i}" in state and (layers is None or i in layers)]

    def writes(self, state: State, layer: int) -> int:
        """See `Memory.writes`."""
        return int(state[f"writes.{layer}"][0])

    def cleaned(self, state: State, layer: int) -> None:
        """See `Memory.cleaned`."""
        state[f"writes.{layer}"].zero_()

    def reset(self, state: State, scope: Scope, layers: Sequence[int] | None = None) -> None:
        """See `Memory.reset`. The window is one for all layers: `layers` choose among memories only."""
        if scope is not Scope.MEMORY and layers is not None:
            raise MemoryOperationError(
                "the window is one for all layers: leave layers out, or reset the memory alone", "layers"
            )
        if scope is not Scope.WINDOW:
            one = len(self._chosen(state, None)) < len(self.layers)  # shared by all layers, whichever were named
            for layer in self.layers if one or layers is None else layers:
                for name in ("M", *_BESIDE):
                    if f"{name}.{layer}" in state:
                        state[f"{name}.{layer}"].zero_()
        if scope is not Scope.MEMORY:
            for name, leaf in state.items():
                if name.partition(".")[0] in _WINDOW:
                    leaf.zero_()
            state["origin"].copy_(state["position"])

    def frozen(self, state: State) -> bool:
        """See `Memory.frozen`."""
        return bool(state["frozen"][0])

    def freeze(self, state: State, frozen: bool) -> None:
        """See `Memory.freeze`."""
        if not self.layers:
            raise MemoryOperationError("this model has no memory beyond its window; there is nothing to freeze")
        state["frozen"].fill_(int(frozen))
