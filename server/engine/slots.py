"""The dense pool: which row of it belongs to whom.

    rows  0 … n-1             n … S-1
          decoding this tick  reading, parked, finished, warm, free: in any order

Invariants: a row has one owner or none; an owner has one row; after `front(ids)` exactly those ids own the rows 0 to
n-1, so that the decode batch is a view of the pool, never a gather; moving a row never changes its bytes; a row is
overwritten whole when it is given out, so nothing passes from one owner to the next. Warm rows are evicted in the order
in which they were kept, oldest first, and only when no row is free.

It knows nothing of models, tokens or time: an owner is a busy request's id or a warm state's key.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from model.state import State
from server.engine.request import Evicted


@dataclass(slots=True)
class _Owner:
    """name: a request's id, or the key of a warm state."""

    name: str
    session: str
    row: int


class Slots:
    """Rows of one pool and their owners."""

    def __init__(self, pool: State) -> None:
        self._pool = pool
        self._rows: list[_Owner | None] = [None] * pool.rows
        self._busy: dict[str, _Owner] = {}
        self._warm: dict[str, _Owner] = {}  # in the order of `keep`: the first is evicted first

    @property
    def busy(self) -> int:
        """Rows that a request owns."""
        return len(self._busy)

    @property
    def warm(self) -> int:
        """Rows that hold a warm state."""
        return len(self._warm)

    @property
    def free(self) -> int:
        """Rows that nobody owns."""
        return self._pool.rows - self.busy - self.warm

    @property
    def vacant(self) -> int:
        """How many requests `admit` would take now."""
        return self._pool.rows - self.busy

    def owns(self, request_id: str) -> bool:
        """True where that request has a row."""
        return request_id in self._busy

    def is_warm(self, key: str) -> bool:
        """True where that state is warm."""
        return key in self._warm

    def row(self, request_id: str) -> int:
        """The row of a busy request; it changes with `front`. Raises `KeyError`."""
        return self._busy[request_id].row

    def view(self, request_id: str) -> State:
        """A busy request's row as a state of one row that shares the pool's memory."""
        row = self.row(request_id)
        return self._pool.slice(row, row + 1)

    def batch(self, n: int) -> State:
        """The first n rows, sharing the pool's memory."""
        return self._pool.slice(0, n)

    def admit(self, request_id: str, session: str, state: State | None) -> Evicted | None:
        """Give a request a row that holds a copy of `state`, or the empty state.

        Returns what had to go for it. Raises `IndexError` where every row is busy, `StateError` where `state` is of
        another specification (then the row stays free).
        """
        evicted = None
        if not self.free:
            key, owner = next(iter(self._warm.items()), (None, None))
            if key is None or owner is None:
                raise IndexError("every row is busy")
            evicted = Evicted(key, owner.session, self.copy(key))
            self.forget(key)
        row = self._rows.index(None)  # the first: the closer to the front, the less there is to move later
        view = self._pool.slice(row, row + 1)
        if state is None:
            view.clear()
        else:
            view.copy_(state)
        self._rows[row] = self._busy[request_id] = _Owner(request_id, session, row)
        return evicted

    def claim(self, key: str, request_id: str) -> None:
        """The warm row becomes the request's. Raises `KeyError` where there is none of that key."""
        owner = self._warm.pop(key)
        owner.name = request_id
        self._busy[request_id] = owner

    def keep(self, request_id: str, key: str) -> None:
        """The request's row becomes warm under `key`; an older row of that key is freed. Raises `KeyError`."""
        owner = self._busy.pop(request_id)
        self.forget(key)
        owner.name = key
        self._warm[key] = owner

    def release(self, request_id: str) -> bool:
        """Free a request's row. False where it has none."""
        owner = self._busy.pop(request_id, None)
        if owner is None:
            return False
        self._rows[owner.row] = None
        return True

    def forget(self, key: str) -> bool:
        """Free a warm row. False where there is none of that key."""
        owner = self._warm.pop(key, None)
        if owner is None:
            return False
        self._rows[owner.row] = None
        return True

    def copy(self, key: str) -> State:
        """A warm state as one row on the CPU that shares nothing. Raises `KeyError`."""
        row = self._warm[key].row
        return self._pool.slice(row, row + 1).to("cpu", copy=True)

    def front(self, ids: Collection[str]) -> list[str]:
        """Bring these requests' rows to the front; returns the ids in the order of their rows, 0 to n-1.

        Moving a row costs a copy of its state, so nothing moves when a row leaves the front, only here, and only into
        the holes: a row that left and one that came meet in one exchange, and into a free row it is one copy.
        """
        n = len(ids)
        rows = {self.row(request_id) for request_id in ids}
        holes = (row for row in range(n) if row not in rows)
        for stray, hole in zip(sorted(row for row in rows if row >= n), holes, strict=True):
            self._move(stray, hole)
        return [owner.name for owner in self._rows[:n] if owner is not None]

    def _move(self, stray: int, hole: int) -> None:
        """Exchange two rows; where `hole` is free its bytes are of no use, and one copy does."""
        mover, settled = self._rows[stray], self._rows[hole]
        if settled is None:
            self._pool.slice(hole, hole + 1).copy_(self._pool.slice(stray, stray + 1))
        else:
            self._pool.swap(stray, hole)
            settled.row = stray
        assert mover is not None
        mover.row = hole
        self._rows[hole], self._rows[stray] = mover, settled
