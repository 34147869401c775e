"""Generations after they were accepted: look, follow, cancel. Another tenant's answers exactly like an unknown one."""

import asyncio
import re
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower, generation_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import described, streamed
from server.api.schemas.answers import GenerationAnswer
from server.api.schemas.common import Query, parse
from server.api.sse import EventStream
from server.errors import InvalidRequest
from server.store.records import Generation

EVENT_ID = re.compile(r"^(\d{1,12})(-0)?$")
CANCEL_WAIT_S = 2.0  # how long DELETE waits for the turn to have ended, so that the session is free when it answers

router = APIRouter()


class EventsQuery(Query):
    """The query of the events route."""

    after: str | None = Field(
        None,
        max_length=32,
        description="The id of the last event that was seen; stands before `Last-Event-ID`.",
        json_schema_extra={"pattern": EVENT_ID.pattern},
    )


@router.get(
    "/v1/generations/{generation_id}", **described(done="How far it is, and its text so far.", answer=GenerationAnswer)
)
async def get_generation(generation_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> dict[str, Any]:
    """Its status and its text so far."""
    generation = await backend.store.sessions.get_generation(tenant, generation_id)
    _note(facts, generation)
    return generation_json(generation, await backend.store.hub.read(generation.id))


@router.get(
    "/v1/generations/{generation_id}/events",
    **described(
        done="The rest of its events, as `POST /v1/generate` streams them.",
        query=EventsQuery,
        headers={
            "Last-Event-ID": {
                "description": "The id of the last event that was seen, as a browser's EventSource sends it.",
                "schema": {"type": "string", "pattern": EVENT_ID.pattern},
            }
        },
        other={
            **streamed("start", "token", "done", "error"),
            204: {"description": "It has ended, and nothing is left to send."},
        },
    ),
)
async def get_events(
    request: Request, generation_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> Response:
    """Its events after `?after=` or `Last-Event-ID`, from any replica; leaving this stream cancels nothing.

    204 once it has ended and nothing is left to send, which tells a browser's EventSource to stop asking.
    """
    query = parse(EventsQuery, dict(request.query_params))
    after = _sequence(query.after or request.headers.get("last-event-id") or "0")
    generation = await backend.store.sessions.get_generation(tenant, generation_id)
    _note(facts, generation)
    if generation.status.ended and not await backend.store.hub.read(generation.id, after):
        return Response(status_code=204)
    if after:
        backend.metrics.resumed.inc()
    follower = Follower(backend, facts, generation.id, original=False)

    async def leave() -> None:
        facts.more["client"] = "left"

    return EventStream(follower.frames(after), ping_s=backend.settings.ping_s, on_leave=leave)


@router.delete("/v1/generations/{generation_id}", **described(done="How far it got.", answer=GenerationAnswer))
async def cancel_generation(generation_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Cancel it. What was streamed is committed; the answer waits a moment for that, and says how far it got."""
    sessions, hub = backend.store.sessions, backend.store.hub
    generation = await sessions.cancel(tenant, generation_id)
    _note(facts, generation)
    if not generation.status.ended:
        try:
            async with asyncio.timeout(CANCEL_WAIT_S):
                async for _ in hub.events(generation.id):
                    pass
        except TimeoutError:
            pass
        generation = await sessions.get_generation(tenant, generation_id)
    return JSONResponse(generation_json(generation, await hub.read(generation.id)))


def _note(facts: FactsDep, generation: Generation) -> None:
    facts.generation, facts.session = generation.id, generation.session


def _sequence(given: str) -> int:
    match = EVENT_ID.match(given)
    if match is None:
        raise InvalidRequest(
            "after (or Last-Event-ID) is the id of an event of this stream, such as 7-0.", param="after"
        )
    return int(match[1])
