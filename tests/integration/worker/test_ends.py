"""How a worker's turns end on a real store, with an engine that says what the test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures_store import OpenAnother
from model.state import LeafSpec, StateSpec
from model.tokenizer import load_tokenizer
from server.engine.request import (
    Admitted,
    EngineStoppedError,
    Finish,
    Finished,
    Output,
    Request,
    Tier,
    Timings,
    Token,
)
from server.errors import StoreFull
from server.store.records import Delivery, Generation, Status
from server.store.store import Store
from server.worker.main import _drain
from server.worker.metrics import WorkerMetrics
from server.worker.worker import Identity, Policy, Worker
from support.serving import tiny_tokenizer, until
from support.store_play import NEW, request

SPEC = StateSpec({"m": LeafSpec((4,), torch.float32, "a memory")})
TIMINGS = Timings(0.1, 0.2, 0.3)


class Engine:
    """Notes what it is asked to run."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[Request] = asyncio.Queue()
        self.alive = True
        self.draining = False
        self.drained: Future[None] = Future()

    def submit(self, asked: Request) -> None:
        if self.draining:
            raise EngineStoppedError
        self.asked.put_nowait(asked)

    def drain(self, interrupt_after_s: float) -> Future[None]:
        self.draining = True
        return self.drained

    def cancel(self, request_id: str) -> None: ...

    def drop(self, request_id: str) -> None: ...


class Working:
    """A worker on a store."""

    def __init__(self, store: Store, folder: Path) -> None:
        tokenizer = load_tokenizer(str(tiny_tokenizer(folder / "tiny")), folder / "cache")
        policy = Policy(slots=2, snapshot_every=100, patience_s=1.0, takeover_s=0.0, poll_s=0.01)
        self.store = store
        self.worker = Worker(store, tokenizer, Identity("me", NEW.fingerprint, SPEC), policy, WorkerMetrics())
        self.engine: Any = Engine()
        self.worker.connect(self.engine)
        self._publish = self.worker.hand_over(asyncio.get_running_loop())
        self.running = asyncio.create_task(self.worker.run())

    def says(self, *outputs: Output) -> None:
        self._publish(outputs)

    def generates(self, asked: Request, text: str) -> None:
        """It is admitted, generates this, and has reached its `max_tokens`."""
        run = tuple(text.encode())
        for token in run:
            assert asked.watch is not None
            assert not asked.watch.push(token)
        tokens = [Token(asked.id, 3 + i, token, None, ()) for i, token in enumerate(run)]
        last = Finished(asked.id, Finish.length, run, 3, False, None, TIMINGS)
        self.says(Admitted(asked.id, Tier.new), *tokens, last)

    async def accepted(self) -> Generation:
        return await self.store.sessions.accept(NEW, request())

    async def ended(self, generation: Generation) -> Status:
        """Its status, once it has ended."""
        found = generation

        async def over() -> bool:
            nonlocal found
            found = await self.store.sessions.get_generation(generation.tenant, generation.id)
            return found.status.ended

        await until(over)
        return found.status


Start = Callable[..., Awaitable[Working]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(store)`: a worker that is stopped in the end."""
    started: list[Working] = []

    async def begin(store: Store) -> Working:
        started.append(Working(store, tmp_path))
        return started[-1]

    yield begin
    for one in started:
        one.running.cancel()
        await asyncio.gather(one.running, return_exceptions=True)


async def test_a_commit_that_is_refused_ends_in_one_error_right_after_the_tokens(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise StoreFull

    monkeypatch.setattr(store.turns, "commit", full)
    work = await start(store)
    generation = await work.accepted()
    work.generates(await work.engine.asked.get(), "abc")
    assert await work.ended(generation) is Status.FAILED
    events = await store.hub.read(generation.id)
    assert [(event.sequence, event.type) for event in events] == [(1, "start"), (2, "token"), (3, "error")]
    assert events[-1].data["error"]["status"] == 507
    assert (await store.sessions.get_session(generation.tenant, generation.session)).running is None


async def test_what_a_draining_worker_has_not_begun_is_anothers_at_once_and_uncounted(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One turn is interrupted before its first token; another arrives when the engine takes no more."""
    give_back, given_back = store.queue.give_back, list[str]()

    async def noted(worker: str, deliveries: Sequence[Delivery]) -> None:
        # Nobody takes it meanwhile, but the worker itself, as long as it is not told to drain. (A read that has
        # waited in vain gives nothing back.)
        if deliveries:
            work.worker.claims.close()
        await give_back(worker, deliveries)
        given_back.extend(d.generation for d in deliveries)

    monkeypatch.setattr(store.queue, "give_back", noted)
    work = await start(store)
    first = await work.accepted()
    gid = (await work.engine.asked.get()).id
    work.engine.draining = True
    second = await work.accepted()
    await until(lambda: _true(lambda: second.id in given_back))
    assert [d.generation for d in work.worker.claims.held] == [first.id]
    draining = asyncio.create_task(work.worker.drain(1.0))
    work.says(Finished(gid, Finish.interrupted, (), 2, False, None, TIMINGS))
    work.engine.drained.set_result(None)
    await asyncio.wait_for(draining, 20)
    assert work.worker.claims.held == ()
    found = await store.queue.claim("heir", 4, 0)
    assert {(d.generation, d.count) for d in found} == {(first.id, 1), (second.id, 1)}


async def test_a_worker_never_takes_its_own_turns_over(
    store: Store, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody renews them here: the heartbeat is away, and every look finds them idle."""
    work = await start(store)
    await work.accepted()
    await work.engine.asked.get()
    look, looks = store.queue.takeover, 0

    async def counted(*args: Any) -> Any:
        nonlocal looks
        found = await look(*args)
        looks += 1
        return found

    monkeypatch.setattr(store.queue, "takeover", counted)
    await until(lambda: _true(lambda: looks > 3))
    work.worker.claims.close()
    [delivery] = await look("heir", 0)
    assert delivery.count == 2
    assert work.engine.asked.empty()


async def _true(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_a_turn_that_appends_nothing_lives_on(start: Start, open_another: OpenAnother) -> None:
    """Its prompt is read for longer than its record would live."""
    store = await open_another(events_ttl_s=0.5)
    work = await start(store)
    generation = await work.accepted()
    asked = await work.engine.asked.get()
    renewals, lowest = 0, 1000

    async def renewed() -> bool:
        nonlocal renewals, lowest
        left = await store.context.connection.call("PTTL", store.context.keys.generation(generation.id))
        assert left > 0
        if left > lowest + 50:
            renewals, lowest = renewals + 1, 1000
        lowest = min(lowest, left)
        return renewals == 6  # more than its life without any

    await until(renewed)
    work.generates(asked, "abc")
    assert await work.ended(generation) is Status.DONE
    assert [event.type for event in await store.hub.read(generation.id)] == ["start", "token", "done"]


async def test_a_drain_ends_where_the_engine_dies(store: Store, start: Start) -> None:
    work = await start(store)
    await work.accepted()
    await work.engine.asked.get()
    draining = asyncio.create_task(_drain(work.worker, 60.0, asyncio.Event(), work.running))
    await until(lambda: _true(lambda: work.engine.draining))
    work.engine.alive = False
    await asyncio.wait_for(draining, 20)
    with pytest.raises(ExceptionGroup):
        await work.running
