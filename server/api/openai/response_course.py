"""A response's course: followed while it is made, looked at afterwards, told from its turn when its events are gone.

However it is had, it comes through `ResponseView`, so it says the same. It knows nothing of HTTP, nor who asks.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from server.api.answers import Follower, shown
from server.api.backend import Backend
from server.api.openai.response_events import ResponseView, ending, viewed
from server.api.sse import frame
from server.errors import GenerationNotFound, PerennialError, ResponseNotFound
from server.logs import get_logger
from server.store.records import End, Event
from server.store.responses import ResponseRecord

log = get_logger()


async def frames(follower: Follower, record: ResponseRecord, after: int = -1) -> AsyncGenerator[bytes, None]:
    """Its events with a greater number; ends in an `error` event where following breaks off. Raises nothing."""
    backend = follower.backend
    view = ResponseView(record, backend.tokenizer)

    def framed(said: dict[str, Any]) -> bytes:
        return frame(said["type"], said)

    backend.metrics.streams.inc()
    try:
        for said in view.opening():
            if said["sequence_number"] > after:
                after = said["sequence_number"]
                yield framed(said)
        async with aclosing(follower.events()) as events:
            async for event in events:
                for said in view.feed(event):
                    if said["sequence_number"] > after:
                        after = said["sequence_number"]
                        yield framed(said)
        await conclude(view, backend)
    except PerennialError as e:
        follower.facts.more["error"] = e.code
        yield framed(view.error(e.body()["error"], max(after, 0)))
    finally:
        backend.metrics.streams.dec()


async def followed(follower: Follower, record: ResponseRecord) -> ResponseView:
    """The response once it has ended. Raises what following raises."""
    view = ResponseView(record, follower.backend.tokenizer)
    async with aclosing(follower.events()) as events:
        async for event in events:
            for _ in view.feed(event):
                pass
    await conclude(view, follower.backend)
    return view


async def watched(follower: Follower, record: ResponseRecord) -> None:
    """See a response to its end though nobody waits for it: its end is noted, and counted."""
    with suppress(PerennialError):
        await followed(follower, record)


async def stopped(record: ResponseRecord, backend: Backend) -> bool:
    """Ask for the end of a response that is still being made; False for one that has ended."""
    with suppress(GenerationNotFound):
        generation = await backend.store.sessions.get_generation(record.tenant, record.generation)
        if not generation.status.ended:
            await backend.store.sessions.cancel(record.tenant, record.generation)
            return True
    return False


async def undone(record: ResponseRecord, backend: Backend) -> None:
    """See a response that was stopped to its end, and take back what it has left."""
    try:
        with suppress(GenerationNotFound):
            async with aclosing(backend.store.hub.events(record.generation)) as events:
                async for _ in events:
                    pass
        await backend.store.branches.undo(
            record.tenant, record.session, record.generation, own=bool(record.about.get("own"))
        )
    except PerennialError as error:  # its turn is a part of its session then, as if it had only been cancelled
        log.warning("response not undone", generation=record.generation, error=error.message)


async def look(record: ResponseRecord, backend: Backend) -> ResponseView:
    """The response as it stands. Raises ResponseNotFound where its turn is kept no more, CorruptState."""
    events = [one for event in await backend.store.hub.read(record.generation) if (one := shown(event)) is not None]
    if not events:
        try:
            await backend.store.sessions.get_generation(record.tenant, record.generation)
        except GenerationNotFound:
            events = await _remembered(record, backend)
    view = viewed(record, events, backend.tokenizer)
    await conclude(view, backend)
    return view


async def conclude(view: ResponseView, backend: Backend) -> None:
    """Note how it ended, for when its events have expired."""
    noted = ending(view)
    if noted is not None and view.record.ending is None and view.record.about.get("store"):
        with suppress(PerennialError):  # the turn still says most of it
            await backend.store.responses.conclude(view.record, noted)
            view.record = replace(view.record, ending=noted)


async def _remembered(record: ResponseRecord, backend: Backend) -> list[Event]:
    """The events of a response whose own have expired, as far as its record and its turn tell."""
    noted, turn = record.ending, await backend.store.responses.turn(record)
    if noted is not None and (noted["final"][0] == "error" or noted["final"][1].get("turn") is None):
        kind, data = noted["final"]
        return [*([Event(1, "start", noted["start"])] if noted["start"] is not None else []), Event(2, kind, data)]
    if turn is None:
        raise ResponseNotFound
    read = record.about.get("prompt_tokens") or 0
    made = turn.tokens[read:]
    text = backend.tokenizer.decode(made[:-1] if turn.end is End.EOS else made)
    start = {"position": turn.length - len(turn.tokens), "prompt_tokens": read}
    usage = {"prompt_tokens": read, "completion_tokens": len(made), "cached_tokens": 0}
    done: dict[str, Any] = {"finish_reason": turn.finish, "usage": usage, "turn": turn.id}
    if noted is not None:
        start, done = noted["start"], noted["final"][1]
    return [
        Event(1, "start", start),
        Event(2, "token", {"text": text, "token_ids": list(made)}),
        Event(3, "done", done),
    ]
