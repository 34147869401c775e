"""Several answers to one request: each is a generation of its own, taken in one by one, followed together.

Invariants: choice i of n differs in its seed only, which is made from the request's and i; an idempotency key stands
for all of them. When the client leaves, or one of them fails, what the others generate is of use to nobody and is
cancelled, unless the request carried an idempotency key: then it will be asked for again.

It does not know what a request's input is, nor how an answer is worded (`chunks.Shape`).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower, GenerationFailedError, answer
from server.api.backend import Backend
from server.api.departure import Departure, departing, unless_left
from server.api.middleware import Facts
from server.api.openai.chunks import DONE, Shape, data_frame, finish_reason, usage
from server.api.schemas.generate import GenerateRequest
from server.api.sse import EventStream
from server.api.taking import Taken, Taking, idempotency_of
from server.errors import InvalidRequest, PerennialError
from server.store.records import Event, Idempotency

BEHIND = 64  # events that may wait for a slow reader before following pauses


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to be. prompt: the place of its prompt. base: the turn it continues. stored: whether it is kept."""

    index: int
    prompt: int
    taken: Taken
    base: str | None
    stored: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: one request. departure: done once the client has left."""

    tenant: str
    backend: Backend
    facts: Facts
    idempotency: Idempotency | None
    departure: Departure

    @property
    def stays(self) -> bool:
        """Whether what was begun is to go on without its client."""
        return self.idempotency is not None

    async def take(self, body: GenerateRequest, place: int, *, stays: bool = False) -> Taken:
        """Take one choice in. place: among all of the request's. stays: it goes on without its client in any case.

        Raises what the client is to be told.
        """
        named = self.idempotency
        if named is not None and place:
            named = Idempotency(f"{named.key}\n{place}", named.digest)
        body = body.model_copy(update={"on_disconnect": "continue" if stays or self.stays else "cancel"})
        return await Taking(body, named, self.tenant, self.backend, self.facts, self.departure).take_in()

    def cancel(self, taken: Sequence[Taken]) -> None:
        """Give up what this request began."""
        if not self.stays:
            for one in taken:
                if one.first:
                    self.backend.cancel_soon(self.tenant, one.generation.id)


@asynccontextmanager
async def calling(request: Request, given: Any, tenant: str, backend: Backend, facts: Facts) -> AsyncIterator[Caller]:
    """The caller of a request whose body has been read as `given`."""
    idempotency = idempotency_of(request.headers, given)
    async with departing(request) as departure:
        yield Caller(tenant, backend, facts, idempotency, departure)


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Errors about a field of `GenerateRequest` as errors about the field that the client sent."""
    try:
        yield
    except InvalidRequest as error:
        for ours, theirs in names.items():
            if error.param is not None and error.param.partition("[")[0] == ours:
                param = theirs + error.param.removeprefix(ours)
                raise type(error)(error.message.replace(ours, theirs, 1), param=param) from None
        raise


def choice_seed(seed: int, choice: int) -> int:
    """`model.sampling.fold_seed`, which nothing here may import: a unit test holds the two together."""
    if choice == 0:
        return seed
    x = (seed + choice * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    x ^= x >> 31
    return x - 2**64 if x >= 2**63 else x


class Answering:
    """All choices of one request on their way to its client."""

    def __init__(
        self,
        caller: Caller,
        choices: Sequence[Choice],
        shape: Shape,
        model: str,
        *,
        notes: Mapping[str, Any],
        more: Mapping[str, Any],
        include_usage: bool = False,
    ) -> None:
        """notes: what `perennial` says beside the choices; more: what the answer carries at its top."""
        self.caller = caller
        self.choices = choices
        self.shape = shape
        self.notes = notes
        self.include_usage = include_usage
        first = choices[0].taken.generation
        facts = caller.facts
        facts.generation, facts.session = first.id, first.session
        self._head = {"id": shape.id, "created": int(first.created), "model": model, **more}
        self._followers = [
            Follower(caller.backend, facts, choice.taken.generation.id, original=choice.taken.first)
            for choice in choices
        ]
        self._said: list[dict[str, Any]] = [{"prompt": choice.prompt} for choice in choices]

    async def respond(self, *, stream: bool) -> Response:
        """The answer. Raises GenerationFailedError, ClientGoneError and what following raises."""
        headers = {} if all(choice.taken.first for choice in self.choices) else {"Idempotent-Replayed": "true"}
        if stream and not self.caller.departure.done():
            ping_s = self.caller.backend.settings.ping_s
            return EventStream(self._frames(), ping_s=ping_s, on_leave=self._leave, headers=headers)
        try:
            answers = await unless_left(self._answers(), self.caller.departure, self._leave)
        except PerennialError:
            self._give_up()
            raise
        return JSONResponse(self._whole(answers), headers=headers)

    async def _leave(self) -> None:
        self.caller.facts.more["client"] = "left"
        self.caller.backend.metrics.disconnects.inc()
        self._give_up()

    def _give_up(self) -> None:
        self.caller.cancel([choice.taken for choice in self.choices])

    def _whole(self, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            **self._head,
            "object": self.shape.whole_object,
            "choices": [self.shape.whole(choice.index, answers[i]) for i, choice in enumerate(self.choices)],
            "usage": usage(self._said),
            "perennial": self._perennial(),
        }

    async def _answers(self) -> list[dict[str, Any]]:
        return await asyncio.gather(*(self._answer(index) for index in range(len(self.choices))))

    async def _answer(self, index: int) -> dict[str, Any]:
        """One choice, once it has ended."""
        events = []
        async with aclosing(self._followers[index].events()) as followed:
            async for event in followed:
                self._note(index, event)
                events.append(event)
        return answer(events)

    def _note(self, index: int, event: Event) -> None:
        """Keep what usage and `perennial` are made from."""
        data, said = event.data, self._said[index]
        if event.type == "start":
            said |= {name: data.get(name) for name in ("prompt_tokens", "seed", "restored")}
            said["before"] = data.get("position")
        elif event.type == "done":
            said |= {name: data.get(name) for name in ("usage", "turn")}

    def _perennial(self) -> dict[str, Any]:
        each = [self._about(index) for index in range(len(self.choices))]
        out = {**each[0], **self.notes}
        if len(each) > 1:
            out["choices"] = [{"index": choice.index, **one} for choice, one in zip(self.choices, each, strict=True)]
        return out

    def _about(self, index: int) -> dict[str, Any]:
        choice, said = self.choices[index], self._said[index]
        generation = choice.taken.generation
        return {
            "session_id": generation.session if choice.stored else None,
            "generation": generation.id,
            "turn": said.get("turn"),
            "continued_from": choice.base,
            "seed": said.get("seed"),
            "restored": said.get("restored"),
        }

    # Streaming

    async def _frames(self) -> AsyncGenerator[bytes, None]:
        """Chunks as the choices make them. An error of one ends the stream, and the others."""
        streams = self.caller.backend.metrics.streams
        events: asyncio.Queue[tuple[int, Event | Exception]] = asyncio.Queue(BEHIND)
        pumps = [asyncio.create_task(self._pump(index, events)) for index in range(len(self.choices))]
        opened: set[int] = set()
        running = len(pumps)
        streams.inc()
        try:
            while running:
                index, event = await events.get()
                if isinstance(event, PerennialError):
                    self.caller.facts.more["error"] = event.code
                    self._give_up()
                    yield data_frame(event.body())
                    return
                if isinstance(event, Exception):
                    raise event
                self._note(index, event)
                if index not in opened:
                    opened.add(index)
                    if (choice := self.shape.opening(self.choices[index].index)) is not None:
                        yield self._chunk([choice], {**self._about(index), **self.notes})
                if event.type == "token" and event.data["text"]:
                    yield self._chunk([self.shape.piece(self.choices[index].index, event.data)])
                elif event.type == "done":
                    running -= 1
                    choice = self.shape.closing(self.choices[index].index, finish_reason(event.data))
                    yield self._chunk([choice], {**self._about(index), **self.notes})
            if self.include_usage:
                yield data_frame(
                    {**self._head, "object": self.shape.chunk_object, "choices": [], "usage": usage(self._said)}
                )
            yield DONE
        finally:
            streams.dec()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, index: int, events: "asyncio.Queue[tuple[int, Event | Exception]]") -> None:
        try:
            async with aclosing(self._followers[index].events()) as followed:
                async for event in followed:
                    failed = event.type == "error"
                    await events.put((index, GenerationFailedError(event.data.get("error") or {}) if failed else event))
        except Exception as error:
            await events.put((index, error))

    def _chunk(self, choices: list[dict[str, Any]], perennial: Mapping[str, Any] | None = None) -> bytes:
        chunk = {**self._head, "object": self.shape.chunk_object, "choices": choices}
        if self.include_usage:
            chunk["usage"] = None
        if perennial is not None:
            chunk["perennial"] = perennial
        return data_frame(chunk)
