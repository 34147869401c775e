"""Operations on a session's memory: each a turn that appends nothing and changes the state (`model.memory`).

    state at the head → the operation, on a copy → (how it shifts the next token) → commit → RAM, and a snapshot

Invariants: the operation is in the log, complete, before its client hears of it, so that it can be done again where its
snapshot is lost (`settle`); what is only looked at, or tried, leaves no trace; no slot changes under a running turn,
since all is done to a copy. It knows nothing of which operations there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from model.memory import Kind, Memory, MemoryOperationError, Operation, operate, shift
from model.state import State, StateSpec
from server.errors import CorruptState, EmptySession, InvalidRequest
from server.logs import get_logger
from server.store.keys import turn_of
from server.store.records import Begun, Event, Outcome, Result, Turn
from server.store.store import Store
from server.worker.claims import Claims
from server.worker.connected import Connected
from server.worker.endings import Endings
from server.worker.metrics import WorkerMetrics
from server.worker.patience import Patience
from server.worker.reading import Reading
from server.worker.states import to_snapshot
from server.worker.tiers import Restored, UnsettledError, from_store
from server.worker.turn import Ending, RunningTurn
from server.worker.warm import WarmSessions

log = get_logger()


class Operating(Connected):
    """Of one worker. memory: None where its model has none."""

    def __init__(
        self,
        store: Store,
        worker_id: str,
        fingerprint: str,
        spec: StateSpec,
        memory: Memory | None,
        claims: Claims,
        warm: WarmSessions,
        endings: Endings,
        reading: Reading,
        patiently: Patience,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._fingerprint = fingerprint
        self._spec = spec
        self._memory = memory
        self._claims = claims
        self._warm = warm
        self._endings = endings
        self._reading = reading
        self._patiently = patiently
        self._metrics = metrics
        self._clock = clock

    async def restore(self, begun: Begun) -> Restored:
        """The state at the session's head as the store has it, every operation in its log settled."""
        while True:
            try:
                return await self._patiently(lambda: from_store(self._store, begun.session, self._spec), "restore")
            except UnsettledError as unsettled:
                await self._settle(begun, unsettled.turn)

    async def _settle(self, begun: Begun, turn: Turn) -> None:
        """Do an operation again whose state is stored nowhere, and store it."""
        session = begun.session
        log.info("operation done again", session=session.id, turn=turn.id)
        before = replace(session, head=turn.parent, length=turn.length, running=None)
        restored = await self._patiently(lambda: from_store(self._store, before, self._spec), "restore")
        state = await self._reading.state(before, restored)
        assert turn.operation is not None
        try:
            await asyncio.to_thread(operate, self._known, state, Operation.from_json(turn.operation))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptState(f"the operation of turn {turn.id} can't be done again: {error}") from error
        self._metrics.replayed_tokens.labels("log").inc(restored.replayed)
        self._metrics.operations_settled.inc()
        snapshot = await asyncio.to_thread(to_snapshot, state, self._fingerprint)
        outcome = await self._patiently(
            lambda: self._store.snapshots.put_snapshot(session, begun.fence, turn.id, snapshot), "settle"
        )
        if outcome is not Outcome.OK:
            raise CorruptState(f"session {session.id} has left turn {turn.id} behind")

    @property
    def _known(self) -> Memory:
        if self._memory is None:
            raise InvalidRequest("This model has no memory that could be looked at or changed.")
        return self._memory

    async def run(self, turn: RunningTurn) -> None:
        """The whole of a turn whose request is an operation. Raises what its client is to be told."""
        began = self._clock()
        asked, session = turn.begun.request, turn.begun.session
        assert asked.operation is not None
        operation = Operation.from_json(asked.operation)
        memory = self._known
        if session.head is None:
            raise EmptySession
        state = await self._state(turn)
        assert turn.restored is not None
        turn.trace.restored(turn.restored.tier, turn.restored.replayed, then="operation")
        if (start := turn.start()) is not None:
            rows = [(turn.id, turn.begun.fence, [start])]
            [outcome] = await self._patiently(lambda: self._store.turns.append_many(rows), "append")
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is Outcome.FENCED:
                self._endings.lost(turn)
                return
            turn.appended(start.sequence)
        before = state.clone() if operation.kind in (Kind.CLEAN, Kind.RESET) else None
        try:
            done, matrices = await asyncio.to_thread(operate, memory, state, operation)
        except MemoryOperationError as error:
            raise InvalidRequest(str(error), param=error.param) from error
        report: dict[str, Any] = {
            **{name: value for name, value in done.to_json().items() if name != "done"},
            "frozen": memory.frozen(state),
            "matrices": matrices,
        }
        if before is not None:
            report["shift"] = await self._shift(before, state)
        committed = None
        if asked.store:
            committed = Turn(
                id=turn_of(turn.id),
                parent=session.head,
                tokens=(),
                length=session.length,
                end=session.end,
                finish="operation" if asked.by == "client" else asked.by,
                created=self._clock(),
                digest=asked.history,
                operation=done.to_json(),
            )
        final, result = self._result(turn, committed, report, began)
        if not await self._endings.write(turn, Ending(committed, result, final, warm=True), self._worker_id):
            return
        self._metrics.operations.labels(operation.kind.value, asked.by, "kept" if committed else "tried").inc()
        self._metrics.operation_seconds.labels(operation.kind.value).observe(self._clock() - began)
        if committed is not None:
            assert turn.restored is not None
            self._warm.changed(turn.begun, committed, state, self._warm.saved(session, turn.restored.saved))
        await self._claims.release(turn.id)

    async def _state(self, turn: RunningTurn) -> State:
        """The state at the session's head, nobody else's."""
        session = turn.begun.session
        restored = self._warm.at_head(session)
        while True:
            if restored is None:
                restored = await self.restore(turn.begun)
            # Its state is not held on to: it is megabytes.
            turn.restored = replace(restored, state=None)
            try:
                return await self._reading.state(session, restored)
            except KeyError:  # the slot was needed by another
                self._warm.cold(session)
                restored = self._warm.at_head(session)

    async def _shift(self, before: State, after: State) -> dict[str, float | bool]:
        """What the operation does to the next token."""
        token = int(before["pending"][0]) - 1
        first = await asyncio.wrap_future(self._engine.probe(before, token))
        second = await asyncio.wrap_future(self._engine.probe(after.clone(), token))
        return shift(first, second)

    def _result(
        self, turn: RunningTurn, committed: Turn | None, report: dict[str, Any], began: float
    ) -> tuple[Event, Result]:
        session = turn.begun.session
        now, created = self._clock(), turn.begun.generation.created
        timing = {
            "queued_s": round(max(0.0, began - created), 6),
            "first_token_s": None,
            "total_s": round(now - created, 6),
        }
        assert turn.restored is not None
        usage = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "total_tokens": 0,
            "cached_tokens": max(0, session.length - 1 - turn.restored.replayed),
        }
        said: dict[str, Any] = {
            "finish_reason": "operation",
            "usage": usage,
            "timing": timing,
            "position": session.length,
            "turn": committed.id if committed else None,
            "report": report,
        }
        return turn.done(said), Result(**said)
