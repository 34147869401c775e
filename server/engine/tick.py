"""The tick: everything that happens on the engine thread, and the requests and figures that belong to it.

    tick = hear → interrupt → admit → plan → run → settle → publish

Invariants: a row that is decoding gets a token in every tick; every request gets one `Finished` or one `Cold`; a
command is heard within one tick; a failure in the model ends the requests it concerns and nothing else. One thread
calls `tick`; it waits for nothing.

It knows nothing of threads, asyncio, Redis, HTTP or text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

from server.engine.inbox import Cancel, Copy, Drain, Drop, Forget, Inbox, Keep, Park, Probe, Submit
from server.engine.job import Job
from server.engine.request import Admitted, Cold, Finish, Finished, Output, Request, Stats, Tier, Token
from server.engine.runner import Ran, Runner
from server.engine.scheduler import HEAD_START, Budget, FairQueue, plan
from server.engine.slots import Slots

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Ticker:
    """Takes the inbox's commands and carries the requests on, a tick at a time."""

    def __init__(
        self,
        runner: Runner,
        slots: Slots,
        budget: Budget,
        inbox: Inbox,
        publish: Callable[[Sequence[Output]], None],
        clock: Callable[[], float],
    ) -> None:
        self._runner = runner
        self._slots = slots
        self._budget = budget
        self._inbox = inbox
        self._publish = publish
        self._clock = clock
        self._jobs: dict[str, Job] = {}  # those with a slot
        self._waiting: FairQueue[Job] = FairQueue()
        self._outputs: list[Output] = []
        self._deadline: float | None = None  # while draining
        self._drained: list[Future[None]] = []
        self._arrivals = 0
        self.stats = Stats(free=slots.free)  # as of the end of the last tick

    @property
    def sleep_s(self) -> float | None:
        """How long nothing happens by itself, after a `tick` that was false; None: for ever."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    def tick(self) -> bool:
        """One round. True where another has something to do at once."""
        started = self._clock()
        try:
            self._hear()
            self._interrupt_late()
            self._admit()
            ran = self._advance()
        except Exception:  # a mistake of ours, not the model's: every request is answered, and the engine goes on
            _log.exception("a tick failed")
            ran = Ran(failed=dict.fromkeys(self._jobs, "internal error in the engine"))
            self._settle(ran)
        self._count(ran, started)
        self._hand_over()
        running = any(not job.parked for job in self._jobs.values())
        return running or bool(self._waiting and self._slots.vacant)

    def _hear(self) -> None:
        """Carry out what other threads have asked for."""
        while (command := self._inbox.take()) is not None:
            match command:
                case Submit(request, at):
                    self._receive(request, at)
                case Cancel(request_id):
                    self._end([job for job in self._live() if job.id == request_id], Finish.cancelled)
                case Keep(request_id, key, pending) if self._is_held(request_id):
                    if pending is not None:
                        self._slots.view(request_id)["pending"].fill_(1 + pending)
                    self._slots.keep(request_id, key)
                    self._inbox.over(request_id)
                case Drop(request_id) if self._is_held(request_id):
                    self._slots.release(request_id)
                    self._inbox.over(request_id)
                case Forget(key):
                    self._slots.forget(key)
                case Copy(key, result):
                    _answer(result, partial(self._slots.copy, key))
                case Probe(state, token, logits):
                    _answer(logits, partial(self._runner.probe, state, token))
                case Park(request_id, parked):
                    for job in self._live():
                        if job.id == request_id:
                            job.parked = parked
                case Drain(deadline, done):
                    self._deadline = min(deadline, self._deadline or deadline)
                    self._drained.append(done)

    def _live(self) -> list[Job]:
        """Every request that is not over."""
        return [*self._jobs.values(), *self._waiting]

    def _is_held(self, request_id: str) -> bool:
        """True where that request is over and its row waits for `keep` or `drop`."""
        return self._slots.owns(request_id) and request_id not in self._jobs

    def _receive(self, request: Request, at: float) -> None:
        """A request that goes on from a warm row has its slot at once; any other waits for one."""
        self._arrivals += 1
        job = Job(request, self._arrivals, at)
        if request.warm is None:
            self._waiting.put(request.group, job)
        elif self._slots.is_warm(request.warm):
            self._jobs[job.id] = job
            self._slots.claim(request.warm, job.id)
            self._begin(job, Tier.slot)
        else:
            self._inbox.over(job.id)
            self._outputs.append(Cold(job.id, request.warm))

    def _admit(self) -> None:
        """Give vacant rows to those who wait, evicting warm ones as needed."""
        while self._waiting and self._slots.vacant:
            job = self._waiting.take()
            self._jobs[job.id] = job
            evicted = self._slots.admit(job.id, job.request.session, job.request.state)
            if evicted is not None:
                self._outputs.append(evicted)
                self.stats = replace(self.stats, evictions=self.stats.evictions + 1)
            tier = Tier.new if job.request.state is None else Tier.state
            job.request = replace(job.request, state=None)  # megabytes that the row has now
            self._begin(job, tier)

    def _begin(self, job: Job, tier: Tier) -> None:
        """A job has its row. Its tokens must begin with what the state says is pending: nothing is skipped silently."""
        row = self._slots.view(job.id)
        pending = int(row["pending"][0])
        job.position = int(row["position"][0])
        job.admitted = self._clock()
        job.served = self.stats.ticks - HEAD_START
        self._outputs.append(Admitted(job.id, tier))
        if pending not in (0, 1 + job.request.tokens[0]):
            self._finish(job, Finish.error, "the tokens do not begin with the token that the state says is pending")

    def _advance(self) -> Ran:
        """Plan, run, and settle what came of it."""
        planned = plan((job.reader() for job in self._jobs.values() if not job.parked), self._budget)
        if not planned.decode and not planned.chunks:
            return Ran()
        for chunk in planned.chunks:
            self._jobs[chunk.id].served = self.stats.ticks
        ran = self._runner.run(planned, self._jobs)
        self._settle(ran)
        return ran

    def _settle(self, ran: Ran) -> None:
        """Tell what was sampled and what failed, and end what is over."""
        for request_id, error in ran.failed.items():
            self._finish(self._jobs[request_id], Finish.error, error)
        for request_id, sampled in ran.sampled.items():
            job = self._jobs[request_id]
            self._outputs.append(Token(request_id, job.position, sampled.token, sampled.logprob, sampled.top))
            try:
                reason = job.take(sampled, self._clock())
            except Exception as error:  # the request's own `watch` failed: its failure alone
                _log.exception("a watch failed", extra={"generations": [request_id]})
                self._finish(job, Finish.error, f"{type(error).__name__}: {error}")
            else:
                self._end([job] if reason else [], reason or Finish.error)
        for job in list(self._jobs.values()):
            if job.ended is not None and job.readable == 0:
                self._finish(job, job.ended)

    def _end(self, jobs: Iterable[Job], reason: Finish) -> None:
        """Finish these, running or waiting."""
        ending = {job.id: job for job in jobs}
        self._waiting.remove(lambda job: job.id in ending)
        for job in ending.values():
            self._finish(job, reason)

    def _finish(self, job: Job, reason: Finish, error: str | None = None) -> None:
        """Answer a request; its row is held where it stands as a turn leaves it, else freed."""
        held = reason is not Finish.error and self._slots.owns(job.id) and job.holds
        if held:
            self._slots.view(job.id)["pending"].fill_(job.pending)
        else:
            self._slots.release(job.id)
            self._inbox.over(job.id)
        self._jobs.pop(job.id, None)
        timings = job.timings(self._clock())
        self._outputs.append(Finished(job.id, reason, tuple(job.generated), job.read, held, error, timings))

    def _interrupt_late(self) -> None:
        """While draining nothing begins, and at the deadline nothing goes on."""
        if self._deadline is not None:
            late = self._clock() >= self._deadline
            self._end(self._live() if late else list(self._waiting), Finish.interrupted)

    def _count(self, ran: Ran, started: float) -> None:
        """Take the figures that `stats` gives out."""
        old, slots = self.stats, self._slots
        parked = sum(job.parked for job in self._jobs.values())
        decoding = sum(job.readable == 1 and not job.parked for job in self._jobs.values())
        worked = bool(ran.read or ran.failed)
        took = self._clock() - started
        self.stats = replace(
            old,
            decoding=decoding,
            reading=len(self._jobs) - decoding - parked,
            parked=parked,
            held=slots.busy - len(self._jobs),
            warm=slots.warm,
            free=slots.free,
            waiting=len(self._waiting),
            ticks=old.ticks + worked,
            tick_s=took if worked else old.tick_s,
            busy_s=old.busy_s + (took if worked else 0.0),
            read_tokens=old.read_tokens + ran.read,
            sampled_tokens=old.sampled_tokens + len(ran.sampled),
            failures=old.failures + len(ran.failed),
        )

    def _hand_over(self) -> None:
        """Publish the tick's outputs; a drain is done when what it waited for has been published."""
        outputs, self._outputs = self._outputs, []
        if outputs:
            try:
                self._publish(outputs)
            except Exception:  # the consumer's failure; the next tick's outputs are still to be handed over
                _log.exception("the consumer of the engine's outputs failed")
        if self._drained and not self._jobs and not self._waiting:
            for done in self._drained:
                if done.set_running_or_notify_cancel():
                    done.set_result(None)
            self._drained, self._deadline = [], None

    def close(self) -> None:
        """Answer everybody who still waits."""
        self._hear()
        self._end(self._live(), Finish.interrupted)
        self._hand_over()


def _answer(result: Future[_T], work: Callable[[], _T]) -> None:
    """Do what somebody waits for, unless nobody does any more."""
    if not result.set_running_or_notify_cancel():
        return
    try:
        result.set_result(work())
    except Exception as error:  # whoever asked is told; what failed concerns nobody else
        result.set_exception(error)
