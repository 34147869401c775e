"""The engine: one thread that ticks (`tick.py`). Commands in by an inbox, each tick's outputs out by one callback.

Invariants: no method waits for a tick, but `stop` for the last one; the thread waits for nothing but commands, and when
there is nothing to do it sleeps.

It knows nothing of asyncio, Redis, HTTP or text. `publish` is called on the engine thread and must only hand over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread

from torch import Tensor

from model.state import Model, State
from server.engine.inbox import Cancel, Copy, Drain, Drop, Forget, Inbox, Keep, Park, Probe, Submit
from server.engine.request import Output, Request, Stats
from server.engine.runner import Runner
from server.engine.scheduler import Budget
from server.engine.slots import Slots
from server.engine.tick import Ticker


class Engine:
    """Runs requests on `slots` rows of one model.

    Every method but `tick` may be called from any thread, and none of them waits, but `stop`. chunk_tokens: the most
    prompt tokens in one call of the model; prompt_budget: the most per tick beside running streams;
    prompt_budget_alone: the most per tick otherwise (default: four times `prompt_budget`). clock: seconds.
    """

    def __init__(
        self,
        model: Model,
        slots: int,
        chunk_tokens: int,
        prompt_budget: int,
        publish: Callable[[Sequence[Output]], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        prompt_budget_alone: int | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"an engine of {slots} slots")
        budget = Budget(chunk_tokens, prompt_budget, prompt_budget_alone or 4 * prompt_budget)
        rows = Slots(State.zeros(model.spec, slots, model.device))
        self._model = model
        self._clock = clock
        self._inbox = Inbox()
        self._ticker = Ticker(Runner(model, rows), rows, budget, self._inbox, publish, clock)
        self._thread: Thread | None = None

    def start(self) -> None:
        """Start the engine thread."""
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Run a request.

        Raises `EngineStoppedError` after `drain` or `stop`; `ValueError` where its id is live, a token is none of the
        model's, or its state is not of the model's specification.
        """
        for token in (*request.tokens, *request.forced, *request.penalised):
            if not 0 <= token < self._model.vocab_size:
                raise ValueError(f"token {token} is not in a vocabulary of {self._model.vocab_size}")
        if request.state is not None and request.state.spec.hash() != self._model.spec.hash():
            raise ValueError("the state is not of this model's specification")
        self._inbox.submit(Submit(request, self._clock()))

    def cancel(self, request_id: str) -> None:
        """End a request within one tick, waiting or running. One that is over is left as it is."""
        self._inbox.put(Cancel(request_id))

    def keep(self, request_id: str, key: str, pending: int | None = None) -> None:
        """The turn of a finished request was committed: its row becomes warm under `key`.

        pending: the turn's last token as it was committed, where that is not the last one generated.
        """
        self._inbox.put(Keep(request_id, key, pending))

    def drop(self, request_id: str) -> None:
        """Discard the row of a finished request."""
        self._inbox.put(Drop(request_id))

    def forget(self, key: str) -> None:
        """Discard a warm row, if it is there."""
        self._inbox.put(Forget(key))

    def copy(self, key: str) -> Future[State]:
        """A copy of a warm row on the CPU, one row, made between ticks; `KeyError` in it where there is none."""
        result: Future[State] = Future()
        self._inbox.put(Copy(key, result))
        return result

    def probe(self, state: State, token: int) -> Future[Tensor]:
        """The logits (V,) after this token, read between ticks. state: one row, which nobody else may have; used up."""
        result: Future[Tensor] = Future()
        self._inbox.put(Probe(state, token, result))
        return result

    def park(self, request_id: str) -> None:
        """Read and sample nothing more for a request whose consumer lags, until `resume`; it keeps its slot."""
        self._inbox.put(Park(request_id, True))

    def resume(self, request_id: str) -> None:
        """Let a parked request go on."""
        self._inbox.put(Park(request_id, False))

    def drain(self, interrupt_after_s: float) -> Future[None]:
        """Take no more requests, end the waiting ones as interrupted, let the running ones finish, and interrupt those
        that have not after so many seconds. Done once none runs; held and warm rows stay until `stop`."""
        done: Future[None] = Future()
        self._inbox.put(Drain(self._clock() + interrupt_after_s, done))
        return done

    def stop(self) -> None:
        """Interrupt everything and end the thread; returns when it has ended."""
        self._inbox.stop()
        if self._thread is None:
            self._ticker.close()
        else:
            self._thread.join()

    def stats(self) -> Stats:
        """Figures as of the end of the last tick."""
        return self._ticker.stats

    def tick(self) -> bool:
        """One round, for a caller that has not called `start`. True where another has something to do at once."""
        return self._ticker.tick()

    @property
    def alive(self) -> bool:
        """False where the thread has ended, or was never started: a worker that sees that must not stay ready."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        """Tick while there is something to do; sleep while there is not."""
        try:
            while not self._inbox.stopped:
                if not self._ticker.tick():
                    self._inbox.wait(self._ticker.sleep_s)
            self._ticker.close()
        finally:  # where even a failed tick could not be cleared up (a lost device), nothing more is taken
            self._inbox.stop()
