"""States that lost their slot, kept in the worker's memory: least recently used first to go, bounded in bytes.

Invariants: the bytes held never pass the bound; a session has one state here at most, its newest; a state is found
only by the turn it was left at. What is in here is never written to again: whoever goes on from a state copies it.

It knows nothing of tensors or of the store: what it keeps is its user's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """One session's state as its turn left it."""

    session: str
    turn: str
    nbytes: int
    value: T


class RamStates(Generic[T]):
    """max_bytes: of all states together; 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._held: OrderedDict[str, Held[T]] = OrderedDict()  # by session, the least recently used first
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def all(self) -> tuple[Held[T], ...]:
        """Everything held, the least recently used first."""
        return tuple(self._held.values())

    def put(self, held: Held[T]) -> list[Held[T]]:
        """Keep a state, in place of the session's older one.

        Returns what had to go for it, or the state itself where it is larger than the bound (then it is not kept).
        """
        self.drop(held.session)
        if held.nbytes > self._max:
            return [held]
        gone = []
        while self.nbytes + held.nbytes > self._max:
            gone.append(self._remove(next(iter(self._held))))
        self._held[held.session] = held
        self.nbytes += held.nbytes
        return gone

    def get(self, session: str) -> Held[T] | None:
        """The session's state, which counts as used now."""
        held = self._held.get(session)
        if held is not None:
            self._held.move_to_end(session)
        return held

    def peek(self, session: str) -> Held[T] | None:
        """The session's state, without its counting as used."""
        return self._held.get(session)

    def drop(self, session: str) -> None:
        """Let a session's state go, if it is here."""
        if session in self._held:
            self._remove(session)

    def _remove(self, session: str) -> Held[T]:
        held = self._held.pop(session)
        self.nbytes -= held.nbytes
        return held
