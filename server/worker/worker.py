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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from model.state import State, StateSpec
from model.tokenizer import Tokenizer
from server.engine.loop import Engine
from server.engine.request import Admitted, Cold, EngineStoppedError, Evicted, Finish, Finished, Output, Token
from server.errors import PerennialError, StoreUnavailable
from server.logs import get_logger
from server.store.keys import new_nonce
from server.store.records import Delivery, Event, Fence, Outcome, Session
from server.store.store import Store
from server.worker.claims import Claims
from server.worker.metrics import WorkerMetrics
from server.worker.states import to_snapshot
from server.worker.tiers import check_fingerprint, from_slot, from_store
from server.worker.turn import Ending, RunningTurn

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


@dataclass(frozen=True, slots=True)
class Warm:
    """A session whose state is in a slot. saved: length of the sequence at its last snapshot, 0 for none."""

    session: Session
    fence: Fence
    turn: str
    length: int
    pending: int
    saved: int


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
        self._warm: dict[str, Warm] = {}  # by session
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
            group.create_task(self.claims.claim(), name="claim")
            group.create_task(self.claims.take_over(self._metrics.takeovers.inc), name="take over")
            group.create_task(self._pump(), name="pump")
            group.create_task(self._cancels(), name="cancels")
            group.create_task(self._poll_cancels(), name="poll cancels")

    async def drain(self, within_s: float) -> None:
        """Take no more turns; let the running ones finish, or commit what they have after `within_s`; save states."""
        self.claims.close()
        await asyncio.wrap_future(self.engine.drain(within_s))
        await self._idle.wait()  # the last outputs are on their way through `_pump`
        for warm in list(self._warm.values()):
            if warm.length > warm.saved and warm.length >= self._policy.snapshot_every:
                await self._save_warm(warm)

    # Taking turns

    def _take(self, delivery: Delivery) -> None:
        self._spawn(self._begin(delivery))

    async def _begin(self, delivery: Delivery) -> None:
        gid = delivery.generation
        begun = await self._patiently(lambda: self._store.turns.begin(gid, new_nonce()), "begin")
        if begun is None:  # it has ended, or expired
            await self.claims.release(gid)
            return
        turn = RunningTurn(begun, self._tokenizer)
        self._turns[gid] = turn
        if delivery.count > MAX_DELIVERIES:
            await self._fail(turn, PerennialError("this turn has brought down every worker that tried it"))
            return
        try:
            check_fingerprint(begun.session, self._identity.fingerprint)
            if (finished := turn.complete()) is not None:
                await self._commit(turn, finished, turn.finish(finished)[1])
                return
            warm = self._warm.get(begun.session.id)
            if warm is not None and warm.turn == begun.session.head:
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
        events: dict[str, list[Event]] = {}
        endings: list[tuple[RunningTurn, Finished, Ending]] = []
        for output in outputs:
            if isinstance(output, Evicted):
                self._evicted(output)
                continue
            turn = self._turns.get(output.id)
            if turn is None:  # it lost its fence: nobody waits for this
                if isinstance(output, Finished) and output.held:
                    self.engine.drop(output.id)
            elif isinstance(output, Admitted):
                assert turn.restored is not None
                self._metrics.restored.labels(turn.restored.tier).inc()
                self._warm.pop(turn.begun.session.id, None)
                if (start := turn.start()) is not None:
                    events.setdefault(output.id, []).append(start)
            elif isinstance(output, Token):
                turn.push(output)
            elif isinstance(output, Cold):
                self._warm.pop(turn.begun.session.id, None)
                self._spawn(self._again(turn))
            elif output.reason is Finish.error:
                self._spawn(self._fail(turn, PerennialError(f"the model failed: {output.error}")))
            elif output.reason is Finish.interrupted and not output.generated:
                if output.held:
                    self.engine.drop(turn.id)
                self._forget(turn)
            else:
                last, ending = turn.finish(output)
                events.setdefault(output.id, []).extend(last)
                endings.append((turn, output, ending))
        for gid, turn in self._turns.items():
            if (event := turn.event()) is not None:
                events.setdefault(gid, []).append(event)
        await self._append({gid: batch for gid, batch in events.items() if batch})
        for turn, finished, ending in endings:
            if turn.id in self._turns:
                self._spawn(self._commit(turn, finished, ending))

    async def _append(self, events: dict[str, list[Event]]) -> None:
        """All rows' events in one round trip; what the store says back may end a turn."""
        rows = [(gid, self._turns[gid].begun.fence, batch) for gid, batch in events.items() if gid in self._turns]
        if not rows:
            return
        try:
            outcomes = await self._patiently(lambda: self._store.turns.append_many(rows), "append")
        except PerennialError as error:
            for gid, _, _ in rows:
                self._spawn(self._fail(self._turns[gid], error))
            return
        for (gid, _, _), outcome in zip(rows, outcomes, strict=True):
            if outcome is Outcome.CANCEL:
                self.engine.cancel(gid)
            elif outcome is Outcome.FENCED:
                self._lost(self._turns[gid])

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

    async def _poll_cancels(self) -> None:
        """The flag is the truth: a call that was lost costs a turn that appends nothing (a long prompt) no more."""
        while True:
            await asyncio.sleep(self._policy.poll_s)
            with contextlib.suppress(StoreUnavailable):
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
            if finished.held:
                self.engine.drop(turn.id)
            await self._fail(turn, error)
            return
        if outcome is Outcome.FENCED:
            if finished.held:
                self.engine.drop(turn.id)
            self._lost(turn)
            return
        self._log_end(turn, ending)
        committed = ending.turn
        self._remove(turn)
        if committed is None or not ending.warm or not finished.held:
            if finished.held:
                self.engine.drop(turn.id)
        else:
            assert turn.restored is not None
            saved = turn.restored.saved
            warm = Warm(begun.session, begun.fence, committed.id, committed.length, committed.tokens[-1], saved)
            self.engine.keep(turn.id, committed.id)
            self._warm[begun.session.id] = warm
            if committed.length - saved >= self._policy.snapshot_every:
                self._spawn(self._save_warm(warm))
        await self.claims.release(turn.id)

    async def _save_warm(self, warm: Warm) -> None:
        try:
            state = await asyncio.wrap_future(self.engine.copy(warm.turn))
        except KeyError:  # the next turn has it already, and will save
            return
        await self._save(warm, state)

    async def _save(self, warm: Warm, state: State) -> None:
        """Write a snapshot behind the commit. A newer turn's fence refuses it: that turn will save."""
        state["pending"].fill_(1 + warm.pending)
        try:
            with self._metrics.save_seconds.time():
                snapshot = await asyncio.to_thread(to_snapshot, state, self._identity.fingerprint)
                outcome = await self._store.snapshots.put_snapshot(warm.session, warm.fence, warm.turn, snapshot)
        except PerennialError as error:  # the log is whole without it
            log.warning("snapshot not saved", session=warm.session.id, error=error.message)
            return
        held = self._warm.get(warm.session.id)
        if outcome is Outcome.OK and held is not None and held.turn == warm.turn:
            self._warm[warm.session.id] = Warm(
                held.session, held.fence, held.turn, held.length, held.pending, saved=warm.length
            )

    def _evicted(self, evicted: Evicted) -> None:
        """A slot was needed: what the log alone would be long to rebuild is saved."""
        warm = self._warm.get(evicted.session)
        if warm is None or warm.turn != evicted.key:
            return
        del self._warm[evicted.session]
        if warm.length > warm.saved and warm.length >= self._policy.snapshot_every:
            self._spawn(self._save(warm, evicted.state))

    async def _fail(self, turn: RunningTurn, error: Exception) -> None:
        """End a turn with an error that its client can read."""
        if not isinstance(error, PerennialError):
            log.error("turn failed", generation=turn.id, session=turn.begun.session.id, exc_info=error)
            error = PerennialError()
        self._remove(turn)
        self.engine.cancel(turn.id)
        body: dict[str, object] = {**error.body()["error"], "status": error.status}
        self._metrics.ended.labels("error").inc()
        try:
            await self._patiently(lambda: self._store.turns.fail(turn.begun, body, turn.error(body)), "fail")
        except PerennialError as worse:  # left to a takeover, once the store is back
            log.warning("turn could not be ended", generation=turn.id, error=worse.message)
            self._forget(turn)
            return
        await self.claims.release(turn.id)

    def _lost(self, turn: RunningTurn) -> None:
        """Someone newer holds the session: write nothing, keep nothing."""
        log.warning("fenced", generation=turn.id, session=turn.begun.session.id)
        self._metrics.fenced.inc()
        self.engine.cancel(turn.id)
        self._forget(turn)

    def _forget(self, turn: RunningTurn) -> None:
        """Not acknowledged: the turn is another worker's, or the next start's."""
        self._remove(turn)
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
