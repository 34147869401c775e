"""A request while it runs: what it has read, what it has generated, and whether that ends it.

Invariants: `position` is that of the row's state; the row has read everything before `ahead` tokens; after a sampled
token exactly that token is ahead. It knows nothing of slots, batches or threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model.sampling import History, Sampled
from server.engine.request import Finish, Request, Timings
from server.engine.scheduler import Reader


@dataclass(slots=True, eq=False)
class Job:
    """arrived: a serial number. submitted, admitted, first: the clock, in seconds. served: see `Reader`."""

    request: Request
    arrived: int
    submitted: float
    admitted: float | None = None
    first: float | None = None
    position: int = 0
    served: int = 0
    read: int = 0  # of the request's tokens and forced
    parked: bool = False
    generated: list[int] = field(init=False)
    history: History = field(init=False)
    ended: Finish | None = field(init=False)  # over once it has read what it can: nothing is to be sampled
    _todo: tuple[int, ...] = field(init=False)
    _at: int = 0

    def __post_init__(self) -> None:
        """Take the tokens emitted before a takeover as generated; they may already have ended the generation."""
        request = self.request
        self._todo = request.tokens + request.forced
        self.generated = list(request.forced)
        self.history = History(request.penalised)
        for token in request.forced:
            self.history.push(token)
        self.ended = None
        if request.forced and request.forced[-1] in request.stop_ids:
            self.ended = Finish.eos
        elif len(request.forced) >= request.max_tokens:
            self.ended = Finish.length

    @property
    def id(self) -> str:
        """The request's id."""
        return self.request.id

    @property
    def ahead(self) -> int:
        """Tokens the row has not read yet."""
        return len(self._todo) - self._at

    @property
    def readable(self) -> int:
        """Tokens it may read now: all, but the last generated one of a generation that is over stays pending."""
        return self.ahead - (1 if self.ended and self.generated else 0)

    @property
    def holds(self) -> bool:
        """True where the row has read everything but the last generated token: as a turn leaves it."""
        return self.ahead == (1 if self.generated else 0)

    @property
    def pending(self) -> int:
        """The state's `pending` leaf for a row that `holds`."""
        return 1 + self.generated[-1] if self.generated else 0

    def reader(self) -> Reader:
        """This job as the scheduler sees it."""
        return Reader(self.id, self.readable, self.served, self.arrived)

    def upcoming(self, count: int) -> tuple[int, ...]:
        """The next `count` tokens to read."""
        return self._todo[self._at : self._at + count]

    def advance(self, count: int) -> bool:
        """Note that the row has read `count` more. True where its next token is to be sampled now."""
        self.read = min(self.read + count, len(self.request.tokens) + len(self.request.forced))
        self.position += count
        self._at += count
        return self.ahead == 0 and self.ended is None

    def take(self, sampled: Sampled, now: float) -> Finish | None:
        """Add a sampled token; returns what ended the generation with it, if anything. Raises what `watch` raises."""
        token, request = sampled.token, self.request
        self.first = now if self.first is None else self.first
        self.generated.append(token)
        self.history.push(token)
        self._todo, self._at = (token,), 0
        if token in request.stop_ids:
            return Finish.eos
        if request.watch is not None and request.watch.push(token):
            return Finish.stop
        return Finish.length if len(self.generated) >= request.max_tokens else None

    def timings(self, now: float) -> Timings:
        """Seconds since it was submitted."""

        def since(then: float | None) -> float | None:
            return None if then is None else then - self.submitted

        return Timings(since(self.admitted), since(self.first), now - self.submitted)
