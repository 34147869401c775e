"""The worker: claims turns, gives each a state, runs it on the engine, streams its events, has it ended.

Everything here runs on one asyncio loop; the engine has its own thread and hands each tick's outputs over. All rows'
events of a tick go to the store in one round trip, before anyone can see them; `done` goes out with the commit.

    worker    takes turns, pumps the engine's outputs      claims   deliveries in hand
    endings   commit, fail, lost, rebuild                  hand     turns and tasks in hand
    operating operations on the memory                     reading  a log into a slot, for no turn
    policies  cleaning memories unasked
    warm      states in slots and RAM (ram), and saved     tiers    a turn's state, from wherever it is
              (saving); the store is told (places)         sweep    turns that nobody enqueued

Invariants: a row that lost its fence writes nothing more; an unreachable store holds turns up for `patience_s`, no
longer, while the engine goes on into the outputs' queue (bounded by each turn's max_tokens). It knows nothing of HTTP
or of how a model computes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from model.memory import Memory
from model.state import StateSpec
from model.tokenizer import Tokenizer
from server.engine.loop import Engine
from server.engine.request import Admitted, Cold, EngineStoppedError, Evicted, Finish, Finished, Output, Token
from server.errors import CorruptState, PerennialError
from server.logs import get_logger
from server.store.keys import new_nonce
from server.store.records import Delivery, Event, Outcome
from server.store.store import Store
from server.tracing import OFF, Tracing
from server.worker.claims import Claims
from server.worker.endings import Endings
from server.worker.hand import InHand
from server.worker.metrics import WorkerMetrics
from server.worker.operating import Operating
from server.worker.patience import Patience
from server.worker.places import Places
from server.worker.policies import CleanPolicy, Policies
from server.worker.reading import Reading
from server.worker.saving import Saver
from server.worker.sweep import Sweeper
from server.worker.tiers import check_fingerprint
from server.worker.trace import TurnTrace
from server.worker.turn import RunningTurn
from server.worker.warm import WarmSessions

log = get_logger()

# A delivery that was handed out more often than this has taken workers down with it.
MAX_DELIVERIES = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker says of itself and checks sessions against. memory: its model's, None where it has none."""

    worker: str
    fingerprint: str
    spec: StateSpec
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """slots: turns in hand at once. snapshot_every: tokens. ram_bytes: of states without a slot. Times in s;
    takeover_s: a claim not renewed for so long is anybody's."""

    slots: int
    snapshot_every: int
    patience_s: float
    ram_bytes: int = 0
    takeover_s: float = 3.0
    poll_s: float = 1.0
    clean: CleanPolicy = field(default_factory=CleanPolicy)


class Worker:
    """One engine's turns. `run` until `drain`."""

    def __init__(
        self,
        store: Store,
        tokenizer: Tokenizer,
        identity: Identity,
        policy: Policy,
        metrics: WorkerMetrics,
        tracing: Tracing = OFF,
    ) -> None:
        self._store = store
        self._tracing = tracing
        self._tokenizer = tokenizer
        self._identity = identity
        self._policy = policy
        self._metrics = metrics
        self._engine: Engine | None = None
        self._outputs: asyncio.Queue[Sequence[Output]] = asyncio.Queue()
        self._hand = InHand()
        self._patiently = Patience(policy.patience_s, metrics)
        self._places = Places(store.turns, identity.worker)
        self._saver = Saver(store.snapshots, identity.fingerprint, metrics)
        self._sweeper = Sweeper(store.queue, store.turns, metrics)
        self._warm = WarmSessions(
            identity.worker,
            self._saver,
            self._places,
            self._hand.spawn,
            metrics,
            snapshot_every=policy.snapshot_every,
            ram_bytes=policy.ram_bytes,
        )
        self.claims = Claims(
            store.queue,
            identity.worker,
            policy.slots,
            self._take,
            takeover_s=policy.takeover_s,
            poll_s=policy.poll_s,
        )
        self._reading = Reading()
        self._policies = Policies(policy.clean, identity.memory, store, self._warm.copy, metrics)
        self._endings = Endings(
            *(store, identity.worker, identity.spec, self._hand, self.claims, self._warm),
            *(self._patiently, self._reading, self._policies, metrics),
        )
        self._operating = Operating(
            *(store, identity.worker, identity.fingerprint, identity.spec, identity.memory, self.claims),
            *(self._warm, self._endings, self._reading, self._patiently, metrics),
        )

    def connect(self, engine: Engine) -> None:
        """The engine whose `publish` is `hand_over`."""
        self._engine = engine
        for part in (self._warm, self._endings, self._reading, self._operating):
            part.connect(engine)

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
            group.create_task(self._places.run(), name="places")
            group.create_task(self._sweeper.run(), name="sweep")
            group.create_task(self._policies.run(), name="policies")

    async def drain(self, within_s: float) -> None:
        """Take no more turns; let the running ones finish, or commit what they have after `within_s`; save states,
        while the store is there. What has not begun is given back."""
        self.claims.close()
        self._saver.drain()
        await asyncio.wrap_future(self.engine.drain(within_s))
        await self._hand.idle()  # the last outputs are on their way through `_pump`
        await self._warm.save_all()

    def hurry(self) -> None:
        """While it drains: interrupt what runs, to be committed as it is, and save no more states."""
        self.engine.drain(0.0)
        self._saver.stop()

    # Taking turns

    def _take(self, delivery: Delivery) -> None:
        self._hand.spawn(self._begin(delivery))

    async def _begin(self, delivery: Delivery) -> None:
        gid = delivery.generation
        try:
            begun = await self._patiently(lambda: self._store.turns.begin(gid, new_nonce()), "begin")
            turn = None if begun is None else RunningTurn(begun, self._tokenizer)
        except CorruptState as error:  # the store has ended it
            log.warning("a damaged turn was ended", generation=gid, error=error.message)
            await self.claims.release(gid)
            return
        except PerennialError as error:  # nothing can be written of it: anybody's, after a while
            log.warning("turn could not be begun", generation=gid, error=error.message, deliveries=delivery.count)
            if delivery.count > MAX_DELIVERIES:
                await self.claims.release(gid)
            self.claims.forget(gid)
            return
        if turn is None:  # it has ended, or expired
            await self.claims.release(gid)
            return
        turn.trace = TurnTrace(self._tracing, turn.begun, self._identity.worker)
        self._hand.add(turn)
        if delivery.count > MAX_DELIVERIES:
            await self._endings.fail(turn, PerennialError("this turn has brought down every worker that tried it"))
            return
        await self._try(turn, self._start)

    async def _try(self, turn: RunningTurn, step: Callable[[RunningTurn], Awaitable[None]]) -> None:
        """A step towards a turn's run: whatever goes wrong, the turn is answered for."""
        try:
            await step(turn)
        except EngineStoppedError:  # draining: as if it had never been taken
            await self._endings.give_back(turn)
        except Exception as error:
            await self._endings.fail(turn, error)

    async def _start(self, turn: RunningTurn) -> None:
        check_fingerprint(turn.begun.session, self._identity.fingerprint)
        if turn.begun.request.operation is not None:
            await self._operating.run(turn)
        elif (finished := turn.complete()) is not None:
            await self._endings.commit(turn, finished, turn.finish(finished)[1])
        else:
            await self._go_on(turn)

    async def _go_on(self, turn: RunningTurn) -> None:
        """Give the engine the turn, and the warmest state there is."""
        session = turn.begun.session
        began = asyncio.get_running_loop().time()
        restored = self._warm.at_head(session)
        if restored is None:
            restored = await self._operating.restore(turn.begun)
            if restored.tier == "redis":
                self._metrics.missed.labels(self._warm.missed(session)).inc()
        self._metrics.load_seconds.labels(restored.tier).observe(asyncio.get_running_loop().time() - began)
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
        turns = self._hand.turns
        events: dict[str, list[Event]] = {}
        after: list[tuple[RunningTurn, Callable[[], Awaitable[None]]]] = []
        for output in outputs:
            if isinstance(output, Evicted):
                self._warm.evict(output)
            elif (turn := turns.get(output.id)) is None:
                if isinstance(output, Finished) and not self._reading.finished(output) and output.held:
                    self.engine.drop(output.id)  # of a turn that lost its fence or failed
            elif isinstance(output, Admitted):
                self._admitted(turn)
                if (start := turn.start()) is not None:
                    events.setdefault(output.id, []).append(start)
            elif isinstance(output, Token):
                turn.push(output)
            elif isinstance(output, Cold):  # the slot was needed by another before this turn had it
                self._warm.cold(turn.begun.session)
                after.append((turn, partial(self._try, turn, self._go_on)))
            elif output.reason is Finish.error:
                error = PerennialError(f"the model failed: {output.error}")
                after.append((turn, partial(self._endings.fail, turn, error)))
            elif output.reason is Finish.interrupted and not output.generated:
                after.append((turn, partial(self._endings.give_back, turn)))
            else:
                last, ending = turn.finish(output)
                events.setdefault(output.id, []).extend(last)
                after.append((turn, partial(self._endings.commit, turn, output, ending)))
        for gid, turn in turns.items():
            if (event := turn.event()) is not None:
                events.setdefault(gid, []).append(event)
        await self._append({gid: batch for gid, batch in events.items() if batch})
        for turn, work in after:
            if turn.id in turns:
                self._hand.spawn(work())

    def _admitted(self, turn: RunningTurn) -> None:
        """The turn has its slot, and its state is in it."""
        restored = turn.restored
        assert restored is not None
        self._metrics.restored.labels(restored.tier).inc()
        self._metrics.replayed_tokens.labels("log").inc(restored.replayed)
        self._metrics.replayed_tokens.labels("stream").inc(len(turn.forced))
        turn.trace.restored(restored.tier, restored.replayed)
        self._warm.taken(turn.begun.session, restored.warm)
        turn.restored = replace(restored, state=None)  # megabytes that the slot has now

    async def _append(self, events: dict[str, list[Event]]) -> None:
        """All rows' events in one round trip; what the store says back may end a turn."""
        rows = [
            (gid, self._hand.turns[gid].begun.fence, batch) for gid, batch in events.items() if gid in self._hand.turns
        ]
        if not rows:
            return
        outcomes: Sequence[Outcome | PerennialError]
        try:
            outcomes = await self._patiently(lambda: self._store.turns.append_many(rows), "append")
        except PerennialError as error:
            outcomes = [error] * len(rows)
        for (gid, _, batch), outcome in zip(rows, outcomes, strict=True):
            turn = self._hand.turns.get(gid)
            if turn is None:
                continue
            if isinstance(outcome, PerennialError):
                self._hand.spawn(self._endings.fail(turn, outcome))
                self._hand.remove(turn)
            elif outcome is Outcome.FENCED:
                self._endings.lost(turn)
            else:
                turn.appended(batch[-1].sequence)
                if outcome is Outcome.CANCEL:
                    self.engine.cancel(gid)

    async def _cancels(self) -> None:
        async for gid in self._store.queue.cancels():
            if gid in self._hand.turns:
                self.engine.cancel(gid)

    async def _watch_over(self) -> None:
        """Ends the worker where its engine has died. And does what appends do, for turns that append nothing (a long
        prompt): asks for cancellations, since the flag is the truth and a call may get lost, and renews their lives."""
        loop = asyncio.get_running_loop()
        every_s = self._store.context.options.events_ttl_s / 4
        renewal = loop.time() + every_s
        while True:
            await asyncio.sleep(min(self._policy.poll_s, every_s))
            if not self.engine.alive:
                raise RuntimeError("the engine has died")
            with contextlib.suppress(PerennialError):
                for gid in await self._store.queue.cancelled(list(self._hand.turns)):
                    self.engine.cancel(gid)
                if loop.time() >= renewal:
                    running = [(turn.id, turn.begun.session.id) for turn in self._hand.turns.values()]
                    await self._store.turns.renew(running)
                    renewal = loop.time() + every_s


def void(_: object) -> None:
    """Take a value and return none."""
