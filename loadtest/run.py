"""Conversations at a server, closed loop or open loop, within bounds of number and time.

    closed   so many users, each of whom speaks when answered: what a server does at a given concurrency
    open     conversations begin when they do, whatever the server can do: what users see at a given rate

Invariants: in the open loop a turn's time counts from when it was due, so a server (or this program) that falls behind
is not flattered. A run ends by itself: when all is said, when `limit_s` has passed, or when `stop` is set; what was
under way then is counted as unfinished. Sessions are deleted afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field

import httpx

from loadtest.client import Conversation, Target, connections, converse
from loadtest.stats import Outcome
from loadtest.workload import Workload, arrivals

# For deleting sessions afterwards: how many at once, and how long in all, s.
FORGETTING, FORGET_S = 8, 15.0
NOT_SENT = "not sent: too many in flight"

Heard = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Closed:
    """conversations: in all; users: of them at a time. think_s: between an answer and the next turn."""

    conversations: int
    users: int
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Open:
    """rate: conversations that begin in a second, for `duration_s`. in_flight: at most so many at a time; one more
    counts as an error. think_s: between an answer and the next turn."""

    rate: float
    duration_s: float
    in_flight: int
    think_s: float = 0.0


@dataclass(slots=True)
class Course:
    """A run as it goes. unfinished: turns that its end cut off."""

    outcomes: list[Outcome] = field(default_factory=list)
    under_way: int = 0
    unfinished: int = 0
    seconds: float = 0.0


async def run(
    target: Target, workload: Workload, how: Closed | Open, *, limit_s: float, stop: asyncio.Event, heard: Heard
) -> Course:
    """A whole run. heard: called with each outcome."""
    course, talks = Course(), list[Conversation]()
    async with connections() as http:
        epoch = time.perf_counter()
        runner = _Runner(http, target, workload, how.think_s, epoch, course, talks, heard)
        work = runner.closed(how) if isinstance(how, Closed) else runner.open(how)
        await until(work, limit_s, stop)
        course.seconds = time.perf_counter() - epoch
        course.unfinished = course.under_way
        await forget(talks)
    return course


async def until(work: Coroutine[None, None, None], limit_s: float, stop: asyncio.Event) -> bool:
    """Do it, but no longer than `limit_s` or past `stop`; whether it was done. Raises what it raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if done:
        working.result()
    return done


async def forget(talks: Iterable[Conversation]) -> None:
    """Have the server delete them; what it does not is left to their time."""
    turnstile = asyncio.Semaphore(FORGETTING)

    async def one(talk: Conversation) -> None:
        async with turnstile:
            await talk.forget()

    waiting: list[Awaitable[None]] = [asyncio.ensure_future(one(talk)) for talk in talks]
    try:
        async with asyncio.timeout(FORGET_S):
            await asyncio.gather(*waiting, return_exceptions=True)
    except TimeoutError:
        pass


class _Runner:
    def __init__(
        self,
        http: httpx.AsyncClient,
        target: Target,
        workload: Workload,
        think_s: float,
        epoch: float,
        course: Course,
        talks: list[Conversation],
        heard: Heard,
    ) -> None:
        self._http = http
        self._target = target
        self._workload = workload
        self._think_s = think_s
        self._epoch = epoch
        self._course = course
        self._talks = talks
        self._heard = heard

    async def closed(self, how: Closed) -> None:
        left = iter(range(how.conversations))

        async def user() -> None:
            for conversation in left:
                await self._converse(conversation, time.perf_counter())

        async with asyncio.TaskGroup() as users:
            for _ in range(how.users):
                users.create_task(user())

    async def open(self, how: Open) -> None:
        async with asyncio.TaskGroup() as running:
            tasks: set[asyncio.Task[None]] = set()
            for conversation, at in enumerate(arrivals(how.rate, how.duration_s, self._workload.seed)):
                due = self._epoch + at
                await asyncio.sleep(due - time.perf_counter())
                if len(tasks) >= how.in_flight:
                    self._note(Outcome(conversation, 0, at, 0.0, error=NOT_SENT))
                    continue
                task = running.create_task(self._converse(conversation, due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _converse(self, conversation: int, due: float) -> None:
        talk = converse(self._http, self._target, self._epoch)
        self._talks.append(talk)
        for number in range(self._workload.turns):
            self._course.under_way += 1
            outcome = await talk.say(self._workload.turn(conversation, number), due)
            self._course.under_way -= 1
            self._note(outcome)
            if self._think_s and number + 1 < self._workload.turns:
                await asyncio.sleep(self._think_s)
            due = time.perf_counter()

    def _note(self, outcome: Outcome) -> None:
        self._course.outcomes.append(outcome)
        self._heard(outcome)
