"""The worker: claims turns, gives each a state, runs it on the engine, streams its events, commits it.

Everything here runs on one asyncio loop; the engine has its own thread and hands each tick's outputs over. All rows'
events of a tick go to the store in one round trip, before anyone can see them; `done` goes out with the commit.

Invariants: a delivery is acknowledged only after its generation has ended in the store; a row that lost its fence
writes nothing more; an unreachable store holds turns up for `patience_s`, no longer, while the engine goes on into the
outputs' queue (bounded by each turn's max_tokens). It knows nothing of HTTP or of how a model computes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from model.sampling import SamplingParams
from model.state import StateSpec
from model.tokenizer import Tokenizer
from server.engine.loop import Engine
from server.engine.request import (
    Admitted,
    Cold,
    EngineStoppedError,
    Evicted,
    Finish,
    Finished,
    Output,
    Request,
    Token,
)
from server.errors import PerennialError, StoreUnavailable
from server.logs import get_logger
from server.store.keys import new_nonce
from server.store.records import Begun, Delivery, Event, Outcome, Turn
from server.store.store import Store
from server.worker.claims import Claims
from server.worker.metrics import WorkerMetrics
from server.worker.tiers import check_fingerprint, from_slot, from_store
from server.worker.turn import Ending, RunningTurn
from server.worker.warm import WarmSessions

T = TypeVar("T")
log = get_logger()

# A delivery that was handed out more often than this has taken workers down with it.
MAX_DELIVERIES = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker says of itself and checks sessions against."""

    worker: str
    fingerprint: str
    spec: StateSpec


@dataclass(frozen=True, slots=True)
class Policy:
    """slots: turns in hand at once. snapshot_every: tokens. Times in s; takeover_s: a claim not renewed for so long is
    anybody's."""

    slots: int
    snapshot_every: int
    patience_s: float
    takeover_s: float = 3.0
    poll_s: float = 1.0


class Worker:
    """One engine's turns. `run` until `drain`."""

    def __init__(
        self, store: Store, tokenizer: Tokenizer, identity: Identity, policy: Policy, metrics: WorkerMetrics
    ) -> None:
        self._store = store
        self._tokenizer = tokenizer
        self._identity = identity
        self._policy = policy
        self._metrics = metrics
        self._engine: Engine | None = None
        self._outputs: asyncio.Queue[Sequence[Output]] = asyncio.Queue()
        self._turns: dict[str, RunningTurn] = {}
        self._rebuilding: dict[str, tuple[Begun, Turn, int]] = {}  # by the engine's request
        self._warm = WarmSessions(store.snapshots, identity.fingerprint, policy.snapshot_every, metrics)
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.claims = Claims(
            store.queue,
            identity.worker,
            policy.slots,
            self._take,
            takeover_s=policy.takeover_s,
            poll_s=policy.poll_s,
        )

    def connect(self, engine: Engine) -> None:
        """The engine whose `publish` is `hand_over`."""
        self._engine = engine

    def hand_over(self, loop: asyncio.AbstractEventLoop) -> Callable[[Sequence[Output]], None]:
        """The engine's `publish`: called on its thread, it only wakes this loop."""
        return lambda outputs: void(loop.call_soon_threadsafe(self._outputs.put_nowait, outputs))

    @property
    def engine(self) -> Engine:
        """The connected engine."""
        assert self._engine is not None
        return self._engine

    async def run(self) -> None:
        """Work until cancelled, or until one of its parts fails."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.claims.run(self._metrics.takeovers.inc), name="claim")
            group.create_task(self._pump(), name="pump")
            group.create_task(self._cancels(), name="cancels")
            group.create_task(self._watch_over(), name="watch over")

    async def drain(self, within_s: float) -> None:
        """Take no more turns; let the running ones finish, or commit what they have after `within_s`; save states."""
        self.claims.close()
        await asyncio.wrap_future(self.engine.drain(within_s))
        await self._idle.wait()  # the last outputs are on their way through `_pump`
        await self._warm.save_all(self.engine)

    # Taking turns

    def _take(self, delivery: Delivery) -> None:
        self._spawn(self._begin(delivery))

    async def _begin(self, delivery: Delivery) -> None:
        gid = delivery.generation
        try:
            begun = await self._patiently(lambda: self._store.turns.begin(gid, new_nonce()), "begin")
            turn = None if begun is None else RunningTurn(begun, self._tokenizer)
        except PerennialError as error:  # nothing can be written of it: anybody's, after a while
            log.warning("turn could not be begun", generation=gid, error=error.message, deliveries=delivery.count)
            if delivery.count > MAX_DELIVERIES:
                await self.claims.release(gid)
            self.claims.forget(gid)
            return
        if begun is None or turn is None:  # it has ended, or expired
            await self.claims.release(gid)
            return
        self._turns[gid] = turn
        if delivery.count > MAX_DELIVERIES:
            await self._fail(turn, PerennialError("this turn has brought down every worker that tried it"))
            return
        try:
            check_fingerprint(begun.session, self._identity.fingerprint)
            if (finished := turn.complete()) is not None:
                await self._commit(turn, finished, turn.finish(finished)[1])
                return
            warm = self._warm.at_head(begun.session)
            if warm is not None:
                self.engine.submit(turn.request(from_slot(begun.session, warm.pending, warm.saved)))
            else:
                await self._restore(turn)
        except EngineStoppedError:  # draining: as if it had never been taken
            self._forget(turn)
        except Exception as error:
            await self._fail(turn, error)

    async def _restore(self, turn: RunningTurn) -> None:
        """Go on from the store."""
        with self._metrics.load_seconds.time():
            session = turn.begun.session
            restored = await self._patiently(lambda: from_store(self._store, session, self._identity.spec), "restore")
        self._metrics.replayed_tokens.inc(restored.replayed)
        self.engine.submit(turn.request(restored))

    # What the engine says

    async def _pump(self) -> None:
        while True:
            outputs = list(await self._outputs.get())
            while not self._outputs.empty():
                outputs += self._outputs.get_nowait()
            await self._handle(outputs)

    async def _handle(self, outputs: Sequence[Output]) -> None:
        """One batch: all its events go to the store in one round trip, then what ended is ended."""
        events: dict[str, list[Event]] = {}
        after: list[partial[Coroutine[None, None, None]]] = []
        for output in outputs:
            if isinstance(output, Evicted):
                if (unsaved := self._warm.evict(output.session, output.key)) is not None:
                    self._spawn(self._warm.save(unsaved, output.state))
                continue
            turn = self._turns.get(output.id)
            if turn is None:
                self._of_no_turn(output)
            elif isinstance(output, Admitted):
                assert turn.restored is not None
                self._metrics.restored.labels(turn.restored.tier).inc()
                self._warm.forget(turn.begun.session)
                if (start := turn.start()) is not None:
                    events.setdefault(output.id, []).append(start)
            elif isinstance(output, Token):
                turn.push(output)
            elif isinstance(output, Cold):
                self._warm.forget(turn.begun.session)
                after.append(partial(self._again, turn))
            elif output.reason is Finish.error:
                after.append(partial(self._fail, turn, PerennialError(f"the model failed: {output.error}")))
            elif output.reason is Finish.interrupted and not output.generated:
                self._forget(turn)
            else:
                last, ending = turn.finish(output)
                events.setdefault(output.id, []).extend(last)
                after.append(partial(self._commit, turn, output, ending))
        for gid, turn in self._turns.items():
            if (event := turn.event()) is not None:
                events.setdefault(gid, []).append(event)
        await self._append({gid: batch for gid, batch in events.items() if batch})
        for work in after:
            if work.args[0].id in self._turns:
                self._spawn(work())

    def _of_no_turn(self, output: Admitted | Cold | Token | Finished) -> None:
        """Of a turn that lost its fence or failed, nobody waits for anything; a rebuilt state is kept."""
        if not isinstance(output, Finished):
            return
        rebuilt = self._rebuilding.pop(output.id, None)
        if not output.held:
            return
        if rebuilt is None:
            self.engine.drop(output.id)
            return
        begun, turn, saved = rebuilt
        self.engine.keep(output.id, turn.id, turn.tokens[-1])
        if any(other.begun.session.id == begun.session.id for other in self._turns.values()):
            self.engine.forget(turn.id)  # the session has gone on without it
        else:
            self._spawn(self._warm.save_from(self.engine, self._warm.keep(begun, turn, saved)))

    async def _append(self, events: dict[str, list[Event]]) -> None:
        """All rows' events in one round trip; what the store says back may end a turn."""
        rows = [(gid, self._turns[gid].begun.fence, batch) for gid, batch in events.items() if gid in self._turns]
        if not rows:
            return
        outcomes: Sequence[Outcome | PerennialError]
        try:
            outcomes = await self._patiently(lambda: self._store.turns.append_many(rows), "append")
        except PerennialError as error:
            outcomes = [error] * len(rows)
        for (gid, _, _), outcome in zip(rows, outcomes, strict=True):
            turn = self._turns.get(gid)
            if turn is None:
                continue
            if isinstance(outcome, PerennialError):
                self._spawn(self._fail(turn, outcome))
                self._remove(turn)
            elif outcome is Outcome.FENCED:
                self._lost(turn)
            else:
                turn.appended()
                if outcome is Outcome.CANCEL:
                    self.engine.cancel(gid)

    async def _again(self, turn: RunningTurn) -> None:
        """The slot was needed by another before this turn had it."""
        try:
            await self._restore(turn)
        except EngineStoppedError:
            self._forget(turn)
        except Exception as error:
            await self._fail(turn, error)

    async def _cancels(self) -> None:
        async for gid in self._store.queue.cancels():
            if gid in self._turns:
                self.engine.cancel(gid)

    async def _watch_over(self) -> None:
        """Ends the worker where its engine has died. And asks for cancellations: the flag is the truth, a call that was
        lost costs a turn that appends nothing (a long prompt) no more than this pause."""
        while True:
            await asyncio.sleep(self._policy.poll_s)
            if not self.engine.alive:
                raise RuntimeError("the engine has died")
            with contextlib.suppress(PerennialError):
                for gid in await self._store.queue.cancelled(list(self._turns)):
                    self.engine.cancel(gid)

    # How a turn ends

    async def _commit(self, turn: RunningTurn, finished: Finished, ending: Ending) -> None:
        begun = turn.begun
        try:
            with self._metrics.commit_seconds.time():
                outcome = await self._patiently(
                    lambda: self._store.turns.commit(begun, ending.turn, ending.result, ending.final), "commit"
                )
        except PerennialError as error:
            await self._fail(turn, error)
            return
        if outcome is Outcome.FENCED:
            self._lost(turn)
            return
        self._log_end(turn, ending)
        self._remove(turn)
        committed = ending.turn
        assert turn.restored is not None
        saved = turn.restored.saved
        if committed is not None and ending.warm and finished.held:
            self.engine.keep(turn.id, committed.id, committed.tokens[-1])
            warm = self._warm.keep(begun, committed, saved)
            if self._warm.due(committed, saved):
                self._spawn(self._warm.save_from(self.engine, warm))
        else:
            if finished.held:
                self.engine.drop(turn.id)
            if committed is not None and self._warm.due(committed, saved):
                self._spawn(self._rebuild(begun, committed, saved))
        await self.claims.release(turn.id)

    async def _rebuild(self, begun: Begun, turn: Turn, saved: int) -> None:
        """Read a turn that a stop string cut anew, so that it can be saved: else its log would grow without bound."""
        session = replace(begun.session, head=turn.id, length=turn.length, end=turn.end)
        try:
            restored = await from_store(self._store, session, self._identity.spec)
            request = Request(
                id=f"rebuild {turn.id}",
                session=session.id,
                group=session.tenant,
                tokens=restored.unread[:-1],
                state=restored.state,
                sampling=SamplingParams(),
                max_tokens=0,
            )
            self._rebuilding[request.id] = (begun, turn, saved)
            self.engine.submit(request)
        except (PerennialError, EngineStoppedError) as error:  # the log is whole without it
            log.warning("state not rebuilt", session=session.id, error=str(error))

    async def _fail(self, turn: RunningTurn, error: Exception) -> None:
        """End a turn with an error that its client can read."""
        if not isinstance(error, PerennialError):
            log.error("turn failed", generation=turn.id, session=turn.begun.session.id, exc_info=error)
            error = PerennialError()
        self._remove(turn)
        self._let_go(turn)
        body: dict[str, object] = {**error.body()["error"], "status": error.status}
        self._metrics.ended.labels("error").inc()
        final = turn.error(body)
        try:
            await self._patiently(lambda: self._store.turns.fail(turn.begun, body, final), "fail")
        except PerennialError as worse:  # left to a takeover, once the store is back
            log.warning("turn could not be ended", generation=turn.id, error=worse.message)
            self._forget(turn)
            return
        await self.claims.release(turn.id)

    def _lost(self, turn: RunningTurn) -> None:
        """Someone newer holds the session: write nothing, keep nothing."""
        log.warning("fenced", generation=turn.id, session=turn.begun.session.id)
        self._metrics.fenced.inc()
        self._forget(turn)

    def _let_go(self, turn: RunningTurn) -> None:
        """Of its row, whether it runs or has finished."""
        self.engine.cancel(turn.id)
        self.engine.drop(turn.id)

    def _forget(self, turn: RunningTurn) -> None:
        """Not acknowledged: the turn is another worker's, or the next start's."""
        self._remove(turn)
        self._let_go(turn)
        self.claims.forget(turn.id)

    # Helpers

    async def _patiently(self, call: Callable[[], Awaitable[T]], what: str) -> T:
        """Repeat while the store is unreachable, for `patience_s`. Every call of the store can be repeated."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._policy.patience_s
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                self._metrics.store_errors.inc()
                if loop.time() >= deadline:
                    raise
                log.warning("store unreachable, waiting", doing=what, error=error.message)
                await asyncio.sleep(0.2)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._settle()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a turn's task failed", exc_info=error)

    def _remove(self, turn: RunningTurn) -> None:
        self._turns.pop(turn.id, None)
        self._settle()

    def _settle(self) -> None:
        """Nothing in hand and nothing on its way: what `drain` waits for."""
        if not self._turns and not self._tasks:
            self._idle.set()

    def _log_end(self, turn: RunningTurn, ending: Ending) -> None:
        result = ending.result
        self._metrics.ended.labels(result.finish_reason).inc()
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


def void(_: object) -> None:
    """Take a value and return none."""
