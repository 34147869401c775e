"""One turn's spans, as `server.tracing` draws them: told what happens to the turn, it knows when.

Whatever is not told is left out: a turn that fails while it waits for its state has neither a prefill nor a commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from server.store.records import Begun
from server.tracing import NO_SPAN, OFF, Span, Tracing


class TurnTrace:
    """Of one turn in one worker's hands, from when it has begun there."""

    def __init__(
        self, tracing: Tracing, begun: Begun, worker: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        """clock: Unix, s."""
        self._tracing = tracing
        self._clock = clock
        self._turn: Span = NO_SPAN
        self._part: Span = NO_SPAN
        if not tracing.on:
            return
        now, asked, ids = clock(), begun.request.trace, {"generation": begun.generation.id}
        # By the clock of the api that accepted it, which may be ahead of this one's.
        created = min(begun.generation.created, now)
        tracing.begin("queue", "internal", asked, created, **ids).end(now)
        ids |= {"session": begun.session.id, "worker": worker}
        self._turn = tracing.begin("turn", "consumer", asked, now, **ids, resumed_tokens=len(begun.emitted))
        self._next("restore", now)

    def _next(self, name: str, at: float) -> None:
        self._part.end(at)
        self._part = self._tracing.begin(name, "internal", self._turn.within, at) if self._tracing.on else NO_SPAN

    def restored(self, tier: str, replayed: int, then: str = "prefill") -> None:
        """Its state is in a slot, or at hand for an operation on it: `then`."""
        now = self._clock()
        self._part.end(now, tier=tier, replayed_tokens=replayed)
        self._next(then, now)

    def first_token(self) -> None:
        """It has been sampled."""
        now = self._clock()
        self._turn.note("first token", now)
        self._next("decode", now)

    def committing(self) -> None:
        """All has been generated."""
        self._next("commit", self._clock())

    def ended(self, reason: str, *, tokens: int = 0, read: int = 0) -> None:
        """It has ended in the store. tokens: generated; read: of the prompt."""
        now = self._clock()
        self._part.end(now)
        self._turn.end(now, finish_reason=reason, completion_tokens=tokens, prompt_tokens=read)

    def broken(self, why: str) -> None:
        """It has ended with an error, or is not this worker's any more."""
        now = self._clock()
        self._part.end(now, error=why)
        self._turn.end(now, error=why)


def untraced(begun: Begun) -> TurnTrace:
    """Of a turn that nobody traces."""
    return TurnTrace(OFF, begun)
