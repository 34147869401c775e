"""A generation's events on their way to a client: as frames, as one JSON object, or as the text so far.

Invariants: an event passes with the stream's own id and unchanged, but for what a worker logs for other workers (tokens
held back for a stop string: `log`, and token events that hold nothing else). When following breaks off, because the
store stays away or the events have expired, the client is told by an `error` event that carries the last id it saw, so
that it can resume.

It does not know how the events reach this process, nor how a frame reaches the client.
"""

import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from typing import Any

from server.api.backend import Backend
from server.api.middleware import Facts
from server.api.sse import frame
from server.errors import PerennialError
from server.store.records import Event, Generation


class GenerationFailedError(PerennialError):
    """The generation failed."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        named = _by_code().get(str(error.get("code")), PerennialError)
        message = str(error.get("message") or self.__doc__)
        super().__init__(message, param=error.get("param"), retry_after=named.default_retry_after)
        # What the worker said outranks the class's own words, for this one answer.
        self.answer = {
            "message": self.message,
            "type": str(error.get("type") or self.type),
            "param": error.get("param"),
            "code": str(error.get("code") or self.code),
        }
        given = error.get("status")
        self.answer_status = given if isinstance(given, int) and 400 <= given <= 599 else named.status
        self.answer_should_retry = named.should_retry

    def body(self) -> dict[str, dict[str, str | None]]:
        return {"error": self.answer}


@cache
def _by_code() -> dict[str, type[PerennialError]]:
    """The errors a worker can name, by code: an event tells which it was, the class whether to try again."""
    # Backwards, so that a class stands before those below it that have no code of their own.
    return {kind.code: kind for kind in reversed(_and_below(PerennialError))}


def _and_below(kind: type[PerennialError]) -> list[type[PerennialError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in _and_below(below))]


def event_id(sequence: int) -> str:
    """The id of an event as the stream has it."""
    return f"{sequence}-0"


def shown(event: Event) -> Event | None:
    """What of an event is the client's; None where nothing is."""
    if event.type != "token" or "log" not in event.data:
        return event
    data = {name: value for name, value in event.data.items() if name != "log"}
    return replace(event, data=data) if data["text"] or data["token_ids"] else None


class Follower:
    """Follows one generation for one client, and measures it when the client is the one who asked for it."""

    def __init__(self, backend: Backend, facts: Facts, generation_id: str, *, original: bool) -> None:
        self.backend = backend
        self.facts = facts
        self.id = generation_id
        self.original = original

    async def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every event after a sequence number, to the last. Raises StoreUnavailable, GenerationNotFound."""
        last_token = 0.0
        async with aclosing(self.backend.store.hub.events(self.id, after)) as events:
            async for logged in events:
                event = shown(logged)
                if event is None:
                    continue
                if self.original:
                    last_token = self._measure(event, last_token)
                yield event

    def _measure(self, event: Event, last_token: float) -> float:
        metrics, data = self.backend.metrics, event.data
        if event.type == "start":
            restored = data.get("restored") or {}
            metrics.restored.labels(str(restored.get("from"))).inc()
            self.facts.more["restored"] = restored.get("from")
        elif event.type == "token":
            now = time.perf_counter()
            tokens = len(data.get("token_ids") or ())
            metrics.generation_tokens.inc(tokens)
            if not last_token:
                metrics.first_token_seconds.observe(now - self.facts.started)
            else:  # a tick may bring several tokens: they share its time
                for _ in range(tokens):
                    metrics.inter_token_seconds.observe((now - last_token) / tokens)
            return now
        elif event.type == "done":
            usage = data.get("usage") or {}
            reason = str(data.get("finish_reason"))
            metrics.succeeded.labels(reason).inc()
            metrics.e2e_seconds.observe(time.perf_counter() - self.facts.started)
            if (queued := (data.get("timing") or {}).get("queued_s")) is not None:
                metrics.queue_seconds.observe(queued)
            metrics.prompt_tokens.inc(usage.get("prompt_tokens") or 0)
            metrics.cached_tokens.inc(usage.get("cached_tokens") or 0)
            self.facts.more |= {"finish_reason": reason, **usage}
        elif event.type == "error":
            code = (data.get("error") or {}).get("code")
            metrics.failed.labels(str(code)).inc()
            self.facts.more["error"] = code
        return last_token

    async def frames(self, after: int = 0) -> AsyncGenerator[bytes, None]:
        """The events as frames; ends by an `error` frame where following breaks off. Raises nothing."""
        self.backend.metrics.streams.inc()
        try:
            async with aclosing(self.events(after)) as events:
                async for event in events:
                    after = event.sequence
                    yield frame(event.type, event.data, event_id(event.sequence))
        except PerennialError as e:
            self.facts.more["error"] = e.code
            yield frame("error", e.body(), event_id(after))
        finally:
            self.backend.metrics.streams.dec()

    async def whole(self) -> dict[str, Any]:
        """All of it as one object, once it has ended. Raises GenerationFailedError and what `events` raises."""
        async with aclosing(self.events()) as events:
            return answer([event async for event in events])


def answer(events: Iterable[Event]) -> dict[str, Any]:
    """What the events so far come to: ids, text, and, at the end, how it ended. Raises GenerationFailedError."""
    out: dict[str, Any] = {"text": "", "token_ids": []}
    texts: list[str] = []
    for event in events:
        if event.type == "start":
            out |= event.data
        elif event.type == "token":
            texts.append(event.data["text"])
            out["token_ids"] += event.data["token_ids"]
            if event.data.get("logprobs") is not None:
                out.setdefault("logprobs", []).extend(event.data["logprobs"])
        elif event.type == "done":
            out |= event.data
        elif event.type == "error":
            raise GenerationFailedError(event.data.get("error") or {})
    out["text"] = "".join(texts)
    return out


def generation_json(generation: Generation, events: Iterable[Event]) -> dict[str, Any]:
    """A generation as its owner sees it: its status and what it has said so far. Never raises for a failed one."""
    events = list(events)
    said = answer(event for event in events if event.type != "error")
    out = {
        "id": generation.id,
        "object": "generation",
        "session": generation.session,
        "status": generation.status.value,
        "cancel": generation.cancel,
        "created": generation.created,
        "updated": generation.updated,
        "last_event": event_id(events[-1].sequence) if events else None,
        **{name: value for name, value in said.items() if name not in ("generation", "session")},
    }
    if generation.result is not None:
        result = generation.result
        out |= {
            "finish_reason": result.finish_reason,
            "usage": dict(result.usage),
            "timing": dict(result.timing),
            "position": result.position,
            "turn": result.turn,
        }
        if result.error is not None:
            out["error"] = dict(result.error)
    return out
