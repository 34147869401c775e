"""The worker's fenced writes (signatures; the code follows)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.store.records import Begun, Event, Fence, Outcome, Result, Session, Turn


class TurnStore:
    async def begin(self, generation_id: str, nonce: str) -> Begun | None:
        """Make a generation this worker's: the fence goes up, the status is running. None: it has ended or expired;
        acknowledge the delivery and forget it."""
        raise NotImplementedError

    async def append(self, generation_id: str, fence: Fence, events: Sequence[Event]) -> Outcome:
        """OK, CANCEL (written; stop soon) or FENCED. Repeating an append is harmless."""
        raise NotImplementedError

    async def append_many(self, rows: Sequence[tuple[str, Fence, Sequence[Event]]]) -> list[Outcome]:
        """`append` for all rows of a tick (generation id, fence, events), in one round trip."""
        raise NotImplementedError

    async def commit(self, begun: Begun, turn: Turn | None, result: Result, final: Event) -> Outcome:
        """End a generation: OK or FENCED. All or nothing: turn, session's head, status, `done` event, TTLs.

        turn None: nothing is kept (cancelled before its first token, or store=false; a session made for a
        store=false request goes with it). The status is cancelled where result.finish_reason is "cancelled".
        """
        raise NotImplementedError

    async def fail(self, begun: Begun, error: Mapping[str, object], final: Event) -> Outcome:
        """End a generation with an `error` event and no turn."""
        raise NotImplementedError

    async def read_turns(self, session: Session, stop: frozenset[str] = frozenset()) -> list[Turn]:
        """The chain from the root (or from the child of the first turn met in `stop`) to the head, oldest first.

        Raises CorruptState for a damaged, missing or discontinuous turn.
        """
        raise NotImplementedError
