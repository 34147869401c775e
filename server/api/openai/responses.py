"""`/v1/responses`: a response is an immutable turn, and any number of others can continue it.

Its id is its generation's and its turn's in other letters. `previous_response_id` goes on from the turn: in its session
where it is the idle head of that, in a fork elsewhere. `conversation` goes on in a session, whatever its head is. The
record of a response (`server.store.responses`) is there before its id is told; `store: false` keeps none.

A client that leaves cancels what it asked for, unless in the background, or with an idempotency key.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower, GenerationFailedError
from server.api.backend import Backend
from server.api.body import read_json
from server.api.departure import unless_left
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import CONVERSATION, IDEMPOTENCY, MODEL, RESPONSE, STREAMED, described
from server.api.middleware import Facts
from server.api.openai.choices import Caller, calling, renamed
from server.api.openai.models import check_model
from server.api.openai.response_course import followed, frames, look, watched
from server.api.schemas.common import parse
from server.api.schemas.generate import GenerateRequest, Message
from server.api.schemas.openai.answers import ResponseAnswer
from server.api.schemas.openai.responses import DeletedResponse, GetResponse, InputMessage, ResponseRequest
from server.api.sse import EventStream
from server.api.taking import Taken, Taking
from server.errors import (
    ConversationNotFound,
    GenerationNotFound,
    InvalidRequest,
    PerennialError,
    SessionBusy,
    SessionNotFound,
    TooLarge,
    TurnNotFound,
)
from server.store import keys as ids
from server.store.responses import ResponseRecord

CANCEL_WAIT_S = 2.0  # how long a cancel waits for the turn to have ended, so that its answer can say so
NAMES = {"messages": "input", "max_tokens": "max_output_tokens"}
EVENTS = """

- `response.created`, `response.in_progress`
- `response.output_item.added`, `response.content_part.added`
- `response.output_text.delta`: as often as it takes
- `response.output_text.done`, `response.content_part.done`, `response.output_item.done`
- `response.completed`, `response.incomplete` (also of a cancelled one) or `response.failed`

Each has a `sequence_number`, from which `GET /v1/responses/{response_id}?stream=true&starting_after=` goes on."""

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response is to be made. items: what stands in front of its input. where: of `GenerateRequest`."""

    items: Sequence[InputMessage]
    where: dict[str, str]


@router.post(
    "/v1/responses",
    **described(
        done="The response, or (`stream: true`) events while it is made." + EVENTS,
        answer=ResponseAnswer,
        body=ResponseRequest,
        headers=IDEMPOTENCY,
        examples=EXAMPLES,
        other=STREAMED,
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
        place = await _place(body, tenant, backend)
        taken = await _take(body, place, caller)
        one = _Answer(caller, taken, _record(body, model, place, taken))
        return await one.respond(body)


def _check_count(given: object, most: int) -> None:
    """Each message is a token at least; looked at before the schema looks at each of them. Raises TooLarge."""
    if isinstance(given, list) and len(given) > most:
        raise TooLarge(f"input: {len(given)} items; this server reads at most {most} tokens.", param="input")


async def _place(body: ResponseRequest, tenant: str, backend: Backend) -> Place:
    """Raises ResponseNotFound, ConversationNotFound, SessionGone, SessionBusy, TurnNotFound."""
    if body.previous_response_id is not None:
        record = await backend.store.responses.get(tenant, body.previous_response_id)
        with suppress(GenerationNotFound):  # where it has expired, it has ended
            before = await backend.store.sessions.get_generation(tenant, record.generation)
            if not before.status.ended:
                raise SessionBusy("The previous response is still being made.", param="previous_response_id")
            if before.result is not None and before.result.turn is None:
                raise TurnNotFound("The previous response ended without an answer.", param="previous_response_id")
        return Place((), {"session_id": record.session, "from_turn": ids.turn_of(record.generation)})
    if body.conversation is not None:
        session_id = ids.conversing(body.conversation.id)
        if session_id is None:
            raise ConversationNotFound
        try:
            session = await backend.store.sessions.get_session(tenant, session_id)
        except SessionNotFound:
            raise ConversationNotFound from None
        if session.head is not None:
            return Place((), {"session_id": session_id})
        labels = await backend.store.responses.labels(session_id)
        return Place([InputMessage.model_validate(item) for item in labels.items], {"session_id": session_id})
    return Place((), {})


async def _take(body: ResponseRequest, place: Place, caller: Caller) -> Taken:
    """Raises what the client is to be told."""
    items = [*place.items, *body.input]
    if body.instructions is not None:
        items.insert(0, InputMessage.model_validate({"role": "system", "content": body.instructions}))
    messages: list[Message] = [item.chat() for item in items]
    fields: dict[str, Any] = {
        **{name: getattr(body, name) for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
        **{name: getattr(body, name) for name in ("seed", "store", "wait_s")},
        **place.where,
        "messages": messages,
        "max_tokens": body.max_output_tokens,
        "logprobs": (body.top_logprobs or 0) if body.include else None,
        "on_disconnect": "continue" if body.background or caller.stays else "cancel",
    }
    with renamed(NAMES):
        turn = GenerateRequest(**fields)
        return await Taking(
            turn, caller.idempotency, caller.tenant, caller.backend, caller.facts, caller.departure
        ).take_in()


def _record(body: ResponseRequest, model: str, place: Place, taken: Taken) -> ResponseRecord:
    names = (
        *("background", "instructions", "max_output_tokens", "max_tool_calls", "previous_response_id"),
        *("prompt_cache_key", "safety_identifier", "store", "temperature", "top_p", "user"),
    )
    generation = taken.generation
    about = {name: getattr(body, name) for name in names} | {
        "model": model,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "truncation": body.truncation or "disabled",
        "top_logprobs": body.top_logprobs or 0,
        "conversation": body.conversation is not None,
        "continued_from": place.where.get("from_turn"),
        # To tell the answer from the input when all that is left is the turn.
        "prompt_tokens": len(generation.request.input_ids) if generation.request is not None else None,
    }
    return ResponseRecord(generation.id, generation.session, generation.tenant, generation.created, about)


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
        other=STREAMED,
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
    """Forget a response. Its turn stays a part of its session, and what continues it is not touched."""
    record = await backend.store.responses.get(tenant, response_id)
    _note(facts, record)
    await backend.store.responses.delete(record)
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
