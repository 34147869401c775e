"""Taking a turn in: which session it continues, whether it was taken in before, and waiting for a busy session.

A request with an idempotency key that was seen is answered by its generation before anything else is looked at; so a
retry gets its answer whatever has become of the session, the queue or the workers. `from_turn` never waits: where the
turn is not its session's head, or the session is busy, a fork runs it.

It knows nothing of how the answer travels.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass, replace
from typing import Any

from starlette.datastructures import Headers

from server.api.backend import Backend, View
from server.api.body import ClientGoneError
from server.api.folding import opening
from server.api.middleware import Facts
from server.api.prompts import check_bounds, turn_request
from server.api.schemas.generate import GenerateRequest
from server.errors import (
    GenerationNotFound,
    InvalidRequest,
    PerennialError,
    QueueFull,
    SessionBusy,
    TooManyGenerations,
    TurnMismatch,
)
from server.store.records import Generation, Idempotency, Session

BUSY_LOOK_S = (0.02, 0.25)  # how soon, and then how seldom, a busy session is looked at again
# A look at a session's memory, or a change of it, is waited for as long as this even by who would not wait for a turn.
BRIEF_S = 5.0
KEY = re.compile(r"^[ -~]{1,255}$")


@dataclass(frozen=True, slots=True)
class Taken:
    """first: this request began it; False for a repeat, which is answered by what the first one began."""

    generation: Generation
    first: bool


def operates(generation: Generation) -> bool:
    """Whether it is an operation on the memory, which holds its session for a moment only."""
    return generation.request is not None and generation.request.operation is not None


def idempotency_of(headers: Headers, given: Any) -> Idempotency | None:
    """What the header Idempotency-Key says. given: the request's JSON, as it was parsed. Raises InvalidRequest."""
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not KEY.match(key):
        raise InvalidRequest("Idempotency-Key is 1 to 255 printable ASCII characters.", param="Idempotency-Key")
    # The same request may be written in other words by a retry: order of names, white space, escapes.
    canonical = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return Idempotency(key, hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest())


class Waiting:
    """For a session or a place that another has, for as long as the client is there and would wait."""

    def __init__(self, departure: "asyncio.Task[None]") -> None:
        """departure: done once the client has left."""
        self.began = time.monotonic()
        self.waited = self.left = False
        self._departure = departure
        self._pause, self._most = BUSY_LOOK_S

    async def pause(self, busy: PerennialError, within_s: float) -> None:
        """Until it is worth another try. Raises `busy` where that is more than within_s, s, after the first one;
        ClientGoneError where the client leaves meanwhile."""
        if time.monotonic() + self._pause > self.began + within_s:
            raise busy
        self.waited = True
        if (await asyncio.wait({self._departure}, timeout=self._pause))[0]:
            self.left = True
            raise ClientGoneError from None
        self._pause = min(self._pause * 1.5, self._most)


class Taking:
    """One request on its way into the queue."""

    def __init__(
        self,
        body: GenerateRequest,
        idempotency: Idempotency | None,
        tenant: str,
        backend: Backend,
        facts: Facts,
        departure: "asyncio.Task[None]",
    ) -> None:
        """departure: done once the client has left."""
        self.body = body
        self.idempotency = idempotency
        self.tenant = tenant
        self.backend = backend
        self.facts = facts
        self.departure = departure

    async def take_in(self) -> Taken:
        """Accept the turn, waiting up to `wait_s` for its session or a place. Raises what the client is to be told.

        Never cut off from outside, since a turn that was accepted unnoticed could not be cancelled; a client that
        leaves is noticed while waiting and before each attempt (ClientGoneError), or by the caller afterwards.
        """
        waiting, outcome = Waiting(self.departure), "refused"
        try:
            if (earlier := await self._seen()) is not None:
                return earlier
            check_bounds(self.body, self.backend.tokenizer, self.backend.settings)
            tokens = self.backend.limits.max_tokens(
                self.tenant, self.body.max_tokens, self.backend.settings.max_tokens_default
            )
            self.body = self.body.model_copy(update={"max_tokens": tokens})
            view = await self.backend.serving()
            if view.queue_depth >= self.backend.settings.max_queue:
                raise QueueFull
            if self.body.store:
                await self.backend.limits.storage(self.tenant)
            while True:
                try:
                    taken = await self._attempt(view)
                except (SessionBusy, TooManyGenerations) as e:
                    # What is in the way may be the very turn that this request asks for.
                    if (earlier := await self._seen()) is not None:
                        return earlier
                    brief = isinstance(e, SessionBusy) and await self._operated_on()
                    if self.body.from_turn is not None and isinstance(e, SessionBusy) and not brief:
                        continue  # it was idle when it was looked at; now it will be forked
                    await waiting.pause(e, max(self.body.wait_s, BRIEF_S if brief else 0.0))
                except TurnMismatch:
                    # Another turn was committed while this one was being tokenised: render again after it, unless the
                    # client said which turn it means.
                    if self.body.if_turn is not None:
                        raise
                else:
                    outcome = "taken"
                    return taken
        finally:
            if waiting.waited:
                label = "left" if waiting.left else outcome
                self.backend.metrics.busy_seconds.labels(label).observe(time.monotonic() - waiting.began)

    async def _seen(self) -> Taken | None:
        if self.idempotency is None:
            return None
        seen = await self.backend.store.sessions.seen(self.tenant, self.body.session_id, self.idempotency)
        return None if seen is None else self._repeat(seen)

    def _repeat(self, generation: Generation) -> Taken:
        self.backend.metrics.repeats.inc()
        self.facts.more["repeat"] = True
        return Taken(generation, first=False)

    async def _attempt(self, view: View) -> Taken:
        """Raises SessionBusy, TurnMismatch and all else that the client is to be told."""
        session, forks = await self._session(view)
        async with self.backend.limits.admit(self.tenant) as place:
            if session is not None and forks:
                self.backend.metrics.forks.inc()
                session = await self.backend.store.branches.fork(session, self.body.from_turn, stored=self.body.store)
            taken = await self._accept(view, session)
            if taken.first:
                place.generation = taken.generation.id
        return taken

    async def _accept(self, view: View, session: Session | None) -> Taken:
        """session: None for a new one; one that is not the request's own was forked for it."""
        body, backend = self.body, self.backend
        fork = session if session is not None and session.id != body.session_id else None
        if session is not None:
            self.facts.session = session.id
        taken: Taken | None = None
        try:
            before = await self._before(view, session)
            request = await turn_request(body, session, backend.tokenizer, backend.settings, backend.tokenising, before)
            request = replace(request, trace=self.facts.trace)
            if self.departure.done():
                raise ClientGoneError
            generation = await backend.store.sessions.accept(
                session or view.new_session(self.tenant), request, if_turn=body.if_turn, idempotency=self.idempotency
            )
            # A generation that another request began has a request of its own.
            first = generation.request is request
            if first:
                backend.metrics.accepted.inc()
            taken = Taken(generation, first=True) if first else self._repeat(generation)
        finally:
            if fork is not None and (taken is None or taken.generation.session != fork.id):
                await self._drop(fork)
        return taken

    async def _before(self, view: View, session: Session | None) -> str | None:
        """The hash of the conversation that the turn's messages follow; None where it cannot be found by one."""
        if self.body.messages is None or not self.body.store:
            return None
        if session is not None and session.head is not None:
            return await self.backend.store.history.digest(session.head)
        return opening(self.tenant, (session or view.new_session(self.tenant)).fingerprint)

    async def _session(self, view: View) -> tuple[Session | None, bool]:
        """The session that is to be continued, None for a new one, and whether a fork of it is to run the turn."""
        body = self.body
        if body.session_id is None:
            return None, False
        session = await self.backend.store.sessions.get_session(self.tenant, body.session_id)
        view.check_served(session.fingerprint)
        if body.if_turn is not None and body.if_turn != session.head:
            raise TurnMismatch(f"The session's head is {session.head}, not {body.if_turn}.", param="if_turn")
        busy = await self._running(session)
        brief = busy is not None and operates(busy)
        if body.from_turn is not None and ((busy and not brief) or body.from_turn != session.head):
            return session, True
        if busy is not None:
            raise SessionBusy(f"Session {session.id} is running generation {busy.id}.")
        return session, False

    async def _running(self, session: Session) -> Generation | None:
        """The generation that holds the session: what can be said before any text is tokenised; `accept` decides."""
        if session.running is not None:
            with contextlib.suppress(GenerationNotFound):
                running = await self.backend.store.sessions.get_generation(session.tenant, session.running)
                if not running.status.ended:
                    return running
        return None

    async def _operated_on(self) -> bool:
        """Whether what holds the session is an operation on its memory."""
        assert self.body.session_id is not None
        session = await self.backend.store.sessions.get_session(self.tenant, self.body.session_id)
        running = await self._running(session)
        # One that has ended meanwhile is no reason to give up either.
        return running is None or operates(running)

    async def _drop(self, fork: Session) -> None:
        """The fork's turn was not taken in after all."""
        with contextlib.suppress(PerennialError):
            await self.backend.store.branches.delete(self.tenant, fork.id)
