"""Who reads what in the next tick. Pure: no torch, no clock, no slots.

There are no phases: every row has tokens to read, and catches up. A row that has one left is decoding, and all of those
are read in one call, every tick. Prompts are read in chunks beside them, each chunk a call of its own, up to a budget
of tokens per tick: so a tick has a longest duration, whatever anyone sends, and no stream ever misses one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

# A request that has just come goes before prompts that were read from in the last few ticks (it may be short, and is
# the one whose first token is waited for), but never before one that has been passed over for longer than this: so
# a flood of short prompts delays a long one and does not starve it. In ticks.
HEAD_START = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """Prompt tokens. chunk: the most in one call; beside: the most per tick while streams run; alone: otherwise.

    Beside streams it should be small: a chunk of 64 reads at three quarters of the speed of one of 512 (SmolLM2-135M,
    two cores: 221 and 290 tokens/s) and holds the streams up for a sixth of the time (0.3 and 1.8 s). `alone` has
    a bound too, so that a cancel or a new request is heard within one tick.
    """

    chunk: int
    beside: int
    alone: int

    def __post_init__(self) -> None:
        """Raise `ValueError` unless 1 ≤ chunk and 1 ≤ beside ≤ alone."""
        if self.chunk < 1 or not 1 <= self.beside <= self.alone:
            raise ValueError(f"{self}: it must be 1 <= chunk and 1 <= beside <= alone")


@dataclass(frozen=True, slots=True)
class Reader:
    """A row with something to read.

    readable: tokens it could read now, at least 1. served: the tick a chunk of it was last read in, or for a new one
    the tick it came less `HEAD_START`. arrived: a serial number, for ties.
    """

    id: str
    readable: int
    served: int
    arrived: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `count` tokens of that row, in one call."""

    id: str
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """decode: rows that read one token each, in one call. chunks: read in this order, each in a call of its own."""

    decode: tuple[str, ...]
    chunks: tuple[Chunk, ...]


def plan(readers: Iterable[Reader], budget: Budget) -> Plan:
    """All decoding rows, and prompt chunks up to the budget, those first that were served longest ago.

    A prompt is cut at full chunks only: a smaller remainder of the budget goes to prompts that end with it, since
    a call costs a whole pass over the weights however little it reads.
    """
    waiting = sorted(readers, key=lambda reader: (reader.served, reader.arrived))
    decode = tuple(reader.id for reader in waiting if reader.readable == 1)
    unread = {reader.id: reader.readable for reader in waiting if reader.readable > 1}
    left = budget.beside if decode else budget.alone
    full = min(budget.chunk, left)
    chunks: list[Chunk] = []
    planned = -1
    while planned != len(chunks):  # another round, as long as the last one found room
        planned = len(chunks)
        for reader_id, tokens in unread.items():
            count = min(tokens, full)
            if 0 < count <= left:
                chunks.append(Chunk(reader_id, count))
                unread[reader_id] -= count
                left -= count
    return Plan(decode, tuple(chunks))


class FairQueue(Generic[T]):
    """First come, first served within a group; round-robin between groups."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __iter__(self) -> Iterator[T]:
        return (item for items in self._groups.values() for item in items)

    def put(self, group: str, item: T) -> None:
        """Queue an item; a group that had none waiting takes its turn after the others."""
        self._groups.setdefault(group, deque()).append(item)

    def take(self) -> T:
        """The next item. Raises `IndexError` where none waits."""
        if not self._groups:
            raise IndexError("nothing waits")
        group, items = self._groups.popitem(last=False)
        item = items.popleft()
        if items:
            self._groups[group] = items
        return item

    def remove(self, match: Callable[[T], bool]) -> None:
        """Take out everything that matches."""
        for group, items in list(self._groups.items()):
            kept = deque(item for item in items if not match(item))
            if kept:
                self._groups[group] = kept
            else:
                del self._groups[group]
