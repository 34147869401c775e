"""Reading what a state has not read yet, for a state that no turn is waiting for: one that a stop string cut, or one
that an operation on the memory is to be done to.

Invariant: every row it made the engine hold is kept under a key that the caller chose, or freed. It knows nothing of
turns or of the store.
"""

from __future__ import annotations

import asyncio

from model.sampling import SamplingParams
from model.state import State
from server.engine.request import EngineStoppedError, Finish, Finished, Request
from server.store.records import Session
from server.worker.connected import Connected
from server.worker.tiers import Restored


class ReadingFailedError(RuntimeError):
    """The model failed to read a log."""


class Reading(Connected):
    """Of one worker's engine."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Finished]] = {}
        self._count = 0

    def finished(self, finished: Finished) -> bool:
        """An output of the engine's: True where it was waited for here."""
        waiting = self._waiting.pop(finished.id, None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(finished)
        return True

    async def to_slot(self, session: Session, restored: Restored, key: str) -> None:
        """Let a warm row of that key stand at the session's head. restored: a state to go on from, or none.

        Raises EngineStoppedError where the engine is draining, ReadingFailedError.
        """
        self._count += 1
        request = Request(
            id=f"read {self._count} {key}",
            session=session.id,
            group=session.tenant,
            tokens=restored.unread[:-1],
            state=restored.state,
            sampling=SamplingParams(),
            max_tokens=0,
        )
        waiting: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = waiting
        try:
            self._engine.submit(request)
            finished = await waiting
        except BaseException:
            self._engine.cancel(request.id)
            self._engine.drop(request.id)
            raise
        finally:
            self._waiting.pop(request.id, None)
        if finished.reason is Finish.error:
            raise ReadingFailedError(f"the model failed: {finished.error}")
        if finished.reason is not Finish.length or not finished.held:
            if finished.held:
                self._engine.drop(request.id)
            raise EngineStoppedError("interrupted")
        self._engine.keep(request.id, key, restored.unread[-1])

    async def state(self, session: Session, restored: Restored) -> State:
        """A copy, nobody else's, of the state at the session's head: all is read but the pending token.

        Raises KeyError where `restored` names a warm row that has gone; and as `to_slot`.
        """
        if restored.warm is not None:
            return await asyncio.wrap_future(self._engine.copy(restored.warm))
        if restored.state is not None and len(restored.unread) == 1:
            return restored.state.clone()
        self._count += 1
        key = f"passing {self._count}"
        await self.to_slot(session, restored, key)
        try:
            return await asyncio.wrap_future(self._engine.copy(key))
        finally:
            self._engine.forget(key)
