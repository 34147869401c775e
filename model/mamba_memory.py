"""The memory of a state space model as `model.memory` asks for it: the states of its layers.

A Mamba layer's state h is one matrix, N × d; a Mamba-2 layer's S is one for each head, N × P: key side B, by which a
token is written, × value side x. There is no normaliser and no gate. What is emptied with it is the tail of the
convolution in front, whose tokens would otherwise be written anew.

Spectra: h of Mamba has at most N = 16 singular values, each channel with decays of its own; S of Mamba-2 has one decay
for all of a head, so that its singular values are those of a plain sum of outer products, as a linear attention's. To
cut either changes what is read at every later token.

It knows the names of the leaves and nothing of how they are read or written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from model.memory import Matrix, MemoryOperationError, Scope
from model.state import LeafSpec, State

_WINDOW = ("k", "v", "sink_k", "sink_v")


def writes_leaf(layers: int) -> LeafSpec:
    """The leaf `writes` of a model with so many state space layers."""
    return LeafSpec((layers,), torch.int64, "tokens written to each state since it was last emptied or cleaned")


class StateSpaceMemory:
    """Implements `model.memory.Memory`. layers: those with leaves `ssm.{i}` and `conv.{i}`, in the order of the leaf
    `writes`. windowed: whether other layers have a window, with leaves as Senri's and an `origin`."""

    def __init__(self, layers: Iterable[int], *, windowed: bool = False) -> None:
        self.layers = tuple(layers)
        self._windowed = windowed

    def matrices(self, state: State, layers: Sequence[int] | None = None) -> list[Matrix]:
        """See `Memory.matrices`."""
        found = []
        for layer in self.layers if layers is None else layers:
            M = state[f"ssm.{layer}"][0]
            heads = M if M.dim() == 3 else M.unsqueeze(0)
            found += [Matrix(layer, head, 0, heads[head], None, ()) for head in range(len(heads))]
        return found

    def writes(self, state: State, layer: int) -> int:
        """See `Memory.writes`: tokens."""
        return int(state["writes"][0, self.layers.index(layer)])

    def cleaned(self, state: State, layer: int) -> None:
        """See `Memory.cleaned`."""
        state["writes"][0, self.layers.index(layer)] = 0

    def reset(self, state: State, scope: Scope, layers: Sequence[int] | None = None) -> None:
        """See `Memory.reset`. The window is one for all layers: `layers` choose among states only."""
        if scope is Scope.WINDOW and not self._windowed:
            raise MemoryOperationError(
                "this model has no window, only states: reset the memory, which is all it remembers", "scope"
            )
        if scope is not Scope.MEMORY and layers is not None:
            raise MemoryOperationError(
                "layers choose among the memories alone: leave them out, or let the scope be memory", "layers"
            )
        if scope is not Scope.WINDOW:
            for layer in self.layers if layers is None else layers:
                for name in ("ssm", "conv"):
                    state[f"{name}.{layer}"].zero_()
                self.cleaned(state, layer)
        if scope is not Scope.MEMORY and self._windowed:
            for name, leaf in state.items():
                if name.partition(".")[0] in _WINDOW:
                    leaf.zero_()
            state["origin"].copy_(state["position"])

    def frozen(self, state: State) -> bool:
        """See `Memory.frozen`: never."""
        del state  # whatever it holds
        return False

    def freeze(self, state: State, frozen: bool) -> None:
        """Raises `MemoryOperationError`: the recurrence that reads a state is the one that writes it."""
        del state, frozen  # whatever they are
        raise MemoryOperationError(
            "a state space model cannot read its memory without writing it, so it can't be frozen; fork the session to "
            "keep what it holds now"
        )
