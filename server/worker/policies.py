"""Cleaning memories unasked, where the operator wants that: after so many writes, above so high an effective rank, or
when a session has been idle for so long.

A cleaning by policy is asked for as a client would ask for it, and goes through the queue: so it is a turn of the
session's history, fenced, durable, and undone by a rewind. Only sessions whose state is in this worker are looked at;
one whose worker has ended is looked at again once it is used. It is asked for only where the session still stands where
it was looked at: a client that goes on is never in its way.

It knows nothing of how a memory is cleaned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from model.memory import Kind, Memory, Operation
from model.state import State
from model.svd_clean import Cut, effective_rank, singular_values
from server.errors import PerennialError
from server.logs import get_logger
from server.store.records import Session, TurnRequest
from server.store.store import Store
from server.worker.metrics import WorkerMetrics

log = get_logger()

# How often idle sessions are looked for, at most, s.
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class CleanPolicy:
    """When to clean; 0 turns a part off. idle_s: seconds without a turn. every_writes: segments or tokens written to a
    layer since it was last cleaned. rank: effective rank, on average over the matrices. cut: what stays."""

    idle_s: float = 0.0
    every_writes: int = 0
    rank: float = 0.0
    cut: Cut = field(default_factory=Cut)

    @property
    def on(self) -> bool:
        """Whether any part of it is."""
        return bool(self.idle_s or self.every_writes or self.rank)


@dataclass(frozen=True, slots=True)
class _Resting:
    """A session since its last turn. since: the loop's time, s."""

    session: Session
    turn: str
    since: float


class Policies:
    """copy: the state that this worker has of a session at a turn, None where it has none any more."""

    def __init__(
        self,
        policy: CleanPolicy,
        memory: Memory | None,
        store: Store,
        copy: Callable[[str, str], Awaitable[State | None]],
        metrics: WorkerMetrics,
    ) -> None:
        self._policy = policy
        self._memory = memory
        self._store = store
        self._copy = copy
        self._metrics = metrics
        self._resting: dict[str, _Resting] = {}  # by session, the longest first

    @property
    def on(self) -> bool:
        """Whether there is anything to do."""
        return self._policy.on and self._memory is not None and bool(self._memory.layers)

    async def committed(self, session: Session, turn: str) -> None:
        """A turn of the conversation was committed, and its state is here."""
        if not self.on:
            return
        self._resting.pop(session.id, None)
        if self._policy.idle_s:
            self._resting[session.id] = _Resting(session, turn, asyncio.get_running_loop().time())
        if (self._policy.every_writes or self._policy.rank) and (state := await self._copy(session.id, turn)):
            why = await asyncio.to_thread(self._due, state)
            if why is not None:
                await self._ask(session, turn, why)

    async def run(self) -> None:
        """Look for idle sessions, until cancelled."""
        if not (self.on and self._policy.idle_s):
            return
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_LOOK_S, self._policy.idle_s / 2))
            for one in list(self._resting.values()):
                if loop.time() - one.since < self._policy.idle_s:
                    break
                del self._resting[one.session.id]
                state = await self._copy(one.session.id, one.turn)
                if state is not None and self._written(state):
                    await self._ask(one.session, one.turn, "idle")

    def _written(self, state: State) -> int:
        assert self._memory is not None
        present = {matrix.layer for matrix in self._memory.matrices(state)}
        return max((self._memory.writes(state, layer) for layer in present), default=0)

    def _due(self, state: State) -> str | None:
        """Which part of the policy this state is due under."""
        assert self._memory is not None
        policy, written = self._policy, self._written(state)
        if not written:
            return None
        if policy.every_writes and written >= policy.every_writes:
            return "writes"
        if policy.rank:
            ranks = [effective_rank(singular_values(matrix.M)) for matrix in self._memory.matrices(state)]
            if ranks and sum(ranks) / len(ranks) > policy.rank:
                return "rank"
        return None

    async def _ask(self, session: Session, turn: str, why: str) -> None:
        """Have the session cleaned, unless it has gone on or can't be now: then it will be due again."""
        operation = Operation(Kind.CLEAN, cut=self._policy.cut).to_json()
        try:
            now = await self._store.sessions.get_session(session.tenant, session.id)
            if now.head != turn or now.running is not None:
                return
            history = await self._store.history.digest(turn)
            asked = TurnRequest(
                *((), 0, {"seed": 0}), on_disconnect="continue", history=history, operation=operation, by="policy"
            )
            await self._store.sessions.accept(now, asked, if_turn=turn)
        except PerennialError as error:
            log.info("memory not cleaned", session=session.id, why=why, error=error.code)
        else:
            self._metrics.policies.labels(why).inc()
