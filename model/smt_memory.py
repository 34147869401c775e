"""SMT's memory as `model.memory` asks for it: both its parts, Mamba's states and the SSM outputs in the window.

Layer i is Mamba's layer i, with the matrix of its selective scan's state, N × channels; the layer after the last is
what the stack has put out, n outputs × E. It knows the names of the leaves (`Config.state_spec`) and nothing of how
they are read or written.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.memory import Matrix, MemoryOperationError, Scope
from model.state import State


class SmtMemory:
    """Implements `model.memory.Memory`. depth: of the Mamba stack."""

    def __init__(self, depth: int) -> None:
        self._depth = depth

    @property
    def layers(self) -> tuple[int, ...]:
        """Mamba's, and one for its outputs."""
        return tuple(range(self._depth + 1))

    def matrices(self, state: State, layers: Sequence[int] | None = None) -> list[Matrix]:
        """See `Memory.matrices`."""
        found = []
        for layer in self.layers if layers is None else sorted(set(layers)):
            leaf = state["slots" if layer == self._depth else f"ssm.{layer}"]
            found.append(Matrix(layer, 0, 0, leaf[0], None, ()))
        return found

    def writes(self, state: State, layer: int) -> int:
        """See `Memory.writes`: one in `stride` tokens."""
        return int(state["writes"][0, layer])

    def cleaned(self, state: State, layer: int) -> None:
        """See `Memory.cleaned`."""
        state["writes"][0, layer] = 0

    def reset(self, state: State, scope: Scope, layers: Sequence[int] | None = None) -> None:
        """See `Memory.reset`. The window's recent tokens are one for all layers: `layers` choose among memories only.

        Tokens that a next write would have pooled have not been remembered yet, and are not, where all is emptied.
        """
        if scope is not Scope.MEMORY and layers is not None:
            raise MemoryOperationError(
                "the window is one for all layers: leave layers out, or reset the memory alone", "layers"
            )
        if scope is not Scope.WINDOW:
            for layer in self.layers if layers is None else layers:
                names = ("slots", "filled") if layer == self._depth else (f"conv.{layer}", f"ssm.{layer}")
                for name in names:
                    state[name].zero_()
                state["writes"][0, layer] = 0
            if layers is None:
                state["mask"].zero_()
        if scope is not Scope.MEMORY:
            for name in ("tokens", "mask", "phase"):
                state[name].zero_()

    def frozen(self, state: State) -> bool:
        """See `Memory.frozen`."""
        return bool(state["frozen"][0])

    def freeze(self, state: State, frozen: bool) -> None:
        """See `Memory.freeze`."""
        state["frozen"].fill_(int(frozen))
