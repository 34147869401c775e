"""RSM's memory as `model.memory` asks for it: the slots of each layer as one matrix, S slots × E.

What is shown, cleaned and emptied is what a session's slots have become less the learned ones they began as; so an
empty memory is a matrix of zeros, and cleaning cuts into what was written and not into what was learned.

It knows the names of the leaves (`Config.state_spec`); what follows from the slots is brought up to date by the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from model.memory import Matrix, MemoryOperationError, Scope
from model.state import State

# Leaves of one layer beside M; the tokens that wait to be written have not been remembered yet, and go too.
_BESIDE = ("slot_k", "slot_v", "mask", "writes")


class RsmMemory:
    """Implements `model.memory.Memory`. follow(state, layers): brings what is derived from these layers' M after it."""

    def __init__(self, layers: int, follow: Callable[[State, range], None]) -> None:
        self._layers = layers
        self._follow = follow

    @property
    def layers(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self._layers))

    def matrices(self, state: State, layers: Sequence[int] | None = None) -> list[Matrix]:
        """See `Memory.matrices`: M (S, E), one per layer."""
        chosen = self.layers if layers is None else sorted(set(layers))
        return [Matrix(layer, 0, 0, state[f"M.{layer}"][0], None, ()) for layer in chosen]

    def writes(self, state: State, layer: int) -> int:
        """See `Memory.writes`: chunks."""
        return int(state[f"writes.{layer}"][0])

    def cleaned(self, state: State, layer: int) -> None:
        """See `Memory.cleaned`."""
        state[f"writes.{layer}"].zero_()
        self._follow(state, range(layer, layer + 1))

    def reset(self, state: State, scope: Scope, layers: Sequence[int] | None = None) -> None:
        """See `Memory.reset`. The window is the chunk being filled, one for all layers: `layers` choose among memories
        only."""
        if scope is not Scope.MEMORY and layers is not None:
            raise MemoryOperationError(
                "the chunk is one for all layers: leave layers out, or reset the memory alone", "layers"
            )
        if scope is not Scope.WINDOW:
            for layer in self.layers if layers is None else layers:
                for name in ("M", *_BESIDE):
                    state[f"{name}.{layer}"].zero_()
                self._follow(state, range(layer, layer + 1))
        if scope is not Scope.MEMORY:
            for name, leaf in state.items():
                if name.partition(".")[0] in ("k", "v", "mask", "top", "filled"):
                    leaf.zero_()
        if scope is Scope.ALL:
            state["chunks"].zero_()

    def frozen(self, state: State) -> bool:
        """See `Memory.frozen`."""
        return bool(state["frozen"][0])

    def freeze(self, state: State, frozen: bool) -> None:
        """See `Memory.freeze`."""
        state["frozen"].fill_(int(frozen))
