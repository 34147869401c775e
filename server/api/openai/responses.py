"""`/v1/responses`: a response is an immutable turn, and any number of others can continue it.

Its id is its generation's and its turn's in other letters; where it is made is `responding`'s to say. The record of a
response (`server.store.responses`) is there before its id is told; `store: false` keeps none.

A client that leaves cancels what it asked for, unless in the background, or with an idempotency key.
"""

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower, GenerationFailedError
from server.api.body import read_json
from server.api.departure import unless_left
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import CONVERSATION, IDEMPOTENCY, MODEL, RESPONSE, described, streamed
from server.api.middleware import Facts
from server.api.openai.choices import Caller, calling
from server.api.openai.models import check_model
from server.api.openai.responding import taken_in
from server.api.openai.response_course import followed, frames, look, stopped, undone, watched
from server.api.schemas.common import parse
from server.api.schemas.openai.answers import ResponseAnswer
from server.api.schemas.openai.responses import DeletedResponse, GetResponse, ResponseRequest
from server.api.sse import EventStream
from server.api.taking import Taken
from server.errors import GenerationNotFound, InvalidRequest, PerennialError, TooLarge
from server.store.responses import ResponseRecord

CANCEL_WAIT_S = 2.0  # how long a cancel waits for the turn to have ended, so that its answer can say so
EVENTS = """

- `response.created`, `response.in_progress`
- `response.output_item.added`, `response.content_part.added`
- `response.output_text.delta`: as often as it takes
- `response.output_text.done`, `response.content_part.done`, `response.output_item.done`
- `response.completed`, `response.incomplete` (also of a cancelled one) or `response.failed`

Each has a `sequence_number`, from which `GET /v1/responses/{response_id}?stream=true&starting_after=` goes on."""

NAMED = (
    *("response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"),
    *("response.output_text.delta", "response.output_text.done", "response.content_part.done"),
    *("response.output_item.done", "response.completed", "response.incomplete", "response.failed", "error"),
)
EXAMPLES: dict[str, dict[str, Any]] = {
    "A text": {"model": MODEL, "input": "Why is the sky blue?", "max_output_tokens": 128},
    "After another response: only what is new": {
        "model": MODEL,
        "previous_response_id": RESPONSE,
        "input": "And at sunset?",
        "stream": True,
    },
    "In a conversation, with instructions": {
        "model": MODEL,
        "conversation": CONVERSATION,
        "instructions": "Answer in one sentence.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Why is the sky blue?"}]}],
        "temperature": 0,
    },
    "In the background": {"model": MODEL, "input": "Tell me a long story.", "background": True},
    "Nothing is kept": {"model": MODEL, "input": "2 + 2 =", "max_output_tokens": 4, "store": False},
}

router = APIRouter()


@router.post(
    "/v1/responses",
    **described(
        done="The response, or (`stream: true`) events while it is made." + EVENTS,
        answer=ResponseAnswer,
        body=ResponseRequest,
        headers=IDEMPOTENCY,
        examples=EXAMPLES,
        other=streamed(*NAMED),
    ),
)
async def create_response(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Answer an input, alone or after an earlier response or in a conversation."""
    given = await read_json(request, backend.settings.max_body_bytes)
    if isinstance(given, dict):
        _check_count(given.get("input"), backend.settings.max_prompt_tokens)
    body = parse(ResponseRequest, given)
    async with calling(request, given, tenant, backend, facts) as caller:
        view = await backend.serving()
        model = check_model(body.model, backend.settings, view)
        taken, record = await taken_in(body, model, caller, view)
        one = _Answer(caller, taken, record)
        return await one.respond(body)


def _check_count(given: object, most: int) -> None:
    """Each message is a token at least; looked at before the schema looks at each of them. Raises TooLarge."""
    if isinstance(given, list) and len(given) > most:
        raise TooLarge(f"input: {len(given)} items; this server reads at most {most} tokens.", param="input")


class _Answer:
    """One response on its way to who asked for it."""

    def __init__(self, caller: Caller, taken: Taken, record: ResponseRecord) -> None:
        self.caller = caller
        self.taken = taken
        self.record = record

    async def respond(self, body: ResponseRequest) -> Response:
        """Raises GenerationFailedError, ClientGoneError and what following raises."""
        caller, backend = self.caller, self.caller.backend
        headers = {} if self.taken.first else {"Idempotent-Replayed": "true"}
        _note(caller.facts, self.record)
        try:
            if body.store:
                self.record = await backend.store.responses.keep(self.record)
            follower = Follower(backend, caller.facts, self.record.generation, original=self.taken.first)
            if body.stream and not caller.departure.done():
                said = frames(follower, self.record)
                return EventStream(said, ping_s=backend.settings.ping_s, on_leave=self._leave, headers=headers)
            if body.background:
                answer = (await look(self.record, backend)).whole()
                if self.taken.first:
                    backend.spawn(watched(follower, self.record), name="response")
                return JSONResponse(answer, headers=headers)
            return JSONResponse(await self._whole(follower), headers=headers)
        except PerennialError:
            caller.cancel([self.taken])  # whoever asked knows no name for it
            raise

    async def _whole(self, follower: Follower) -> dict[str, Any]:
        view = await unless_left(followed(follower, self.record), self.caller.departure, self._leave)
        if view.final is not None and view.final.type == "error":
            raise GenerationFailedError(view.final.data.get("error") or {})
        return view.whole()

    async def _leave(self) -> None:
        self.caller.facts.more["client"] = "left"
        backend = self.caller.backend
        backend.metrics.disconnects.inc()
        if not self.record.about.get("background"):
            self.caller.cancel([self.taken])
        elif self.taken.first:
            follower = Follower(backend, self.caller.facts, self.record.generation, original=False)
            backend.spawn(watched(follower, self.record), name="response")


@router.get(
    "/v1/responses/{response_id}",
    **described(
        done="The response as it stands, or (`?stream=true`) its events." + EVENTS,
        answer=ResponseAnswer,
        query=GetResponse,
        other=streamed(*NAMED),
    ),
)
async def get_response(
    request: Request, response_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> Response:
    """A stored response. Its events can be had for as long as the server keeps events; leaving cancels nothing."""
    query = parse(GetResponse, dict(request.query_params))
    if query.starting_after is not None and not query.stream:
        raise InvalidRequest("starting_after: only with stream=true.", param="starting_after")
    record = await backend.store.responses.get(tenant, response_id)
    _note(facts, record)
    if not query.stream:
        return JSONResponse((await look(record, backend)).whole())
    try:
        await backend.store.sessions.get_generation(tenant, record.generation)
    except GenerationNotFound:
        raise InvalidRequest(
            "The events of this response are kept no more; ask for it without stream.", param="stream"
        ) from None
    if query.starting_after is not None:
        backend.metrics.resumed.inc()
    follower = Follower(backend, facts, record.generation, original=False)

    async def leave() -> None:
        facts.more["client"] = "left"

    said = frames(follower, record, -1 if query.starting_after is None else query.starting_after)
    return EventStream(said, ping_s=backend.settings.ping_s, on_leave=leave)


@router.delete("/v1/responses/{response_id}", **described(done="It is gone.", answer=DeletedResponse))
async def delete_response(response_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> dict[str, Any]:
    """Forget a response. Its turn stays a part of its session, and what continues it is not touched.

    One that is still being made is stopped, and leaves no turn: its session stands where it stood, or is gone where it
    was made for this response alone."""
    record = await backend.store.responses.get(tenant, response_id)
    _note(facts, record)
    running = await stopped(record, backend)
    await backend.store.responses.delete(record)
    if running:
        undoing = backend.spawn(undone(record, backend), name="undo")
        await asyncio.wait({undoing}, timeout=CANCEL_WAIT_S)
    return {"id": record.id, "object": "response", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel", **described(done="How far it got.", answer=ResponseAnswer))
async def cancel_response(response_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Cancel a background response. What it had said stands; the answer waits a moment for its end."""
    record = await backend.store.responses.get(tenant, response_id)
    _note(facts, record)
    if not record.about.get("background"):
        raise InvalidRequest("Only a response that was made with background: true can be cancelled.")
    with suppress(GenerationNotFound):  # it has ended long ago
        generation = await backend.store.sessions.cancel(tenant, record.generation)
        if not generation.status.ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_WAIT_S):
                    await followed(Follower(backend, facts, record.generation, original=False), record)
    return JSONResponse((await look(record, backend)).whole())


def _note(facts: Facts, record: ResponseRecord) -> None:
    facts.generation, facts.session = record.generation, record.session
