"""How a turn ends: committed, failed, lost to a newer owner, or left to another worker; and the rebuild of a state that
a stop string cut.

Invariants: a delivery is acknowledged only after its generation has ended in the store; a turn that lost its fence
writes nothing more; every row of a turn that ended is kept, or freed. It knows nothing of how a turn came to run.
"""

from __future__ import annotations

from dataclasses import replace

from model.state import StateSpec
from server.engine.request import EngineStoppedError, Finished
from server.errors import PerennialError
from server.logs import get_logger
from server.store.records import Begun, Outcome, Turn
from server.store.store import Store
from server.worker.claims import Claims
from server.worker.connected import Connected
from server.worker.hand import InHand
from server.worker.metrics import WorkerMetrics
from server.worker.patience import Patience
from server.worker.policies import Policies
from server.worker.reading import Reading, ReadingFailedError
from server.worker.tiers import UnsettledError, from_store
from server.worker.turn import Ending, RunningTurn
from server.worker.warm import WarmSessions

log = get_logger()


class Endings(Connected):
    """Of one worker's turns."""

    def __init__(
        self,
        store: Store,
        worker_id: str,
        spec: StateSpec,
        hand: InHand,
        claims: Claims,
        warm: WarmSessions,
        patiently: Patience,
        reading: Reading,
        policies: Policies,
        metrics: WorkerMetrics,
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._spec = spec
        self._hand = hand
        self._claims = claims
        self._warm = warm
        self._patiently = patiently
        self._reading = reading
        self._policies = policies
        self._metrics = metrics

    async def commit(self, turn: RunningTurn, finished: Finished, ending: Ending) -> None:
        """End a turn with what it generated, and keep its row warm where that is the session's state."""
        begun, committed = turn.begun, ending.turn
        keeps = committed is not None and ending.warm and finished.held
        if not await self.write(turn, ending, self._worker_id if keeps else None):
            return
        assert turn.restored is not None
        saved = self._warm.saved(begun.session, turn.restored.saved)
        if keeps:
            assert committed is not None
            self._engine.keep(turn.id, committed.id, committed.tokens[-1])
            self._warm.keep(begun, committed, saved)
            if self._policies.on:
                self._hand.spawn(self._policies.committed(begun.session, committed.id))
        else:
            if finished.held:
                self._engine.drop(turn.id)
            if committed is None:
                self._warm.dropped(begun.session)
            else:
                self._warm.cut(begun.session, committed)
                if self._warm.due(committed, saved):
                    self._hand.spawn(self._rebuild(begun, committed, saved))
        await self._claims.release(turn.id)

    async def write(self, turn: RunningTurn, ending: Ending, worker: str | None) -> bool:
        """End a turn in the store. False where it could not be: it has then been failed, or lost. worker: who keeps the
        state warm."""
        begun, committed = turn.begun, ending.turn
        turn.trace.committing()
        try:
            if committed is not None and committed.digest is not None:
                digest, session, name = committed.digest, begun.session.id, committed.id
                await self._patiently(lambda: self._store.history.note(digest, session, name), "note")
            with self._metrics.commit_seconds.time():
                outcome = await self._patiently(
                    lambda: self._store.turns.commit(begun, committed, ending.result, ending.final, worker), "commit"
                )
        except PerennialError as error:
            await self.fail(turn, error)
            return False
        if outcome is Outcome.FENCED:
            self.lost(turn)
            return False
        self._log(turn, ending)
        self._hand.remove(turn)
        return True

    async def fail(self, turn: RunningTurn, error: Exception) -> None:
        """End a turn with an error that its client can read."""
        if not isinstance(error, PerennialError):
            log.error("turn failed", generation=turn.id, session=turn.begun.session.id, exc_info=error)
            error = PerennialError()
        turn.trace.broken(error.code)
        self._hand.remove(turn)
        self._let_go(turn)
        self._warm.dropped(turn.begun.session)
        body: dict[str, object] = {**error.body()["error"], "status": error.status}
        self._metrics.ended.labels("error").inc()
        final = turn.error(body)
        try:
            await self._patiently(lambda: self._store.turns.fail(turn.begun, body, final), "fail")
        except PerennialError as worse:  # left to a takeover, once the store is back
            log.warning("turn could not be ended", generation=turn.id, error=worse.message)
            self.forget(turn)
            return
        await self._claims.release(turn.id)

    def lost(self, turn: RunningTurn) -> None:
        """Someone newer holds the session: write nothing, keep nothing."""
        log.warning("fenced", generation=turn.id, session=turn.begun.session.id)
        self._metrics.fenced.inc()
        turn.trace.broken("fenced")
        self.forget(turn)

    async def give_back(self, turn: RunningTurn) -> None:
        """It has generated nothing and the worker is about to end: it is another worker's, at once."""
        turn.trace.broken("given back")
        self._hand.remove(turn)
        self._let_go(turn)
        await self._claims.give_back(turn.id)

    def forget(self, turn: RunningTurn) -> None:
        """Not acknowledged: the turn is another worker's, or the next start's."""
        self._hand.remove(turn)
        self._let_go(turn)
        self._claims.forget(turn.id)

    def _let_go(self, turn: RunningTurn) -> None:
        """Of its row, whether it runs or has finished."""
        self._engine.cancel(turn.id)
        self._engine.drop(turn.id)

    # States that a stop string cut

    async def _rebuild(self, begun: Begun, turn: Turn, saved: int) -> None:
        """Read a turn that a stop string cut anew, so that it can be saved: else its log would grow without bound."""
        session = replace(begun.session, head=turn.id, length=turn.length, end=turn.end)
        try:
            restored = await from_store(self._store, session, self._spec)
            await self._reading.to_slot(session, restored, turn.id)
        except (PerennialError, EngineStoppedError, ReadingFailedError, UnsettledError) as error:
            # The log is whole without it.
            log.warning("state not rebuilt", session=session.id, error=str(error))
            return
        if self._hand.runs(begun.session.id):
            self._engine.forget(turn.id)  # the session has gone on without it
        else:
            self._warm.keep(begun, turn, saved)

    def _log(self, turn: RunningTurn, ending: Ending) -> None:
        result = ending.result
        self._metrics.ended.labels(result.finish_reason).inc()
        used = result.usage
        turn.trace.ended(result.finish_reason, tokens=used["completion_tokens"], read=used["prompt_tokens"])
        log.info(
            "turn ended",
            generation=turn.id,
            session=turn.begun.session.id,
            finish=result.finish_reason,
            restored=turn.restored.tier if turn.restored else None,
            position=result.position,
            **{k: v for k, v in result.usage.items() if k != "total_tokens"},
            seconds=result.timing["total_s"],
        )
