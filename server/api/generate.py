"""`POST /v1/generate`: take a turn in (`taking.py`), and pass on what comes of it.

In this order: key, schema, an earlier request with the same idempotency key, bounds, store and worker there, room in
the queue, session, then tokens, then `accept`, whose script decides between all who would have the session. What can
be refused cheaply is refused before anything is tokenised.

A client that leaves cancels its turn where it said so, or said nothing and sent no idempotency key. A repeat's client
cancels nothing: the turn is the first request's, whose wish stands with it.
"""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower
from server.api.body import ClientGoneError, read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.prompts import check_length
from server.api.schemas.common import parse
from server.api.schemas.generate import GenerateRequest
from server.api.sse import EventStream
from server.api.taking import Taking, idempotency_of

router = APIRouter()


@router.post(
    "/v1/generate",
    openapi_extra={
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A name for this request: sent again with it, the request is answered by the same turn.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": GenerateRequest.model_json_schema()}},
        },
    },
)
async def generate(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Run one turn: as events while it runs, or (`stream: false`) as one answer at its end."""
    given = await read_json(request, backend.settings.max_body_bytes)
    if isinstance(given, dict):
        check_length(given.get("input_ids"), "input_ids", backend.settings)
    body = parse(GenerateRequest, given)
    idempotency = idempotency_of(request.headers, given)
    if body.on_disconnect is None:
        body = body.model_copy(update={"on_disconnect": "cancel" if idempotency is None else "continue"})
    departure = asyncio.create_task(_left(request))
    try:
        taken = await Taking(body, idempotency, tenant, backend, facts, departure).take_in()
        generation = taken.generation
        facts.generation, facts.session = generation.id, generation.session
        follower = Follower(backend, facts, generation.id, original=taken.first)
        headers = {} if taken.first else {"Idempotent-Replayed": "true"}

        async def leave() -> None:
            facts.more["client"] = "left"
            backend.metrics.disconnects.inc()
            if taken.first and body.on_disconnect == "cancel":
                backend.cancel_soon(tenant, generation.id)

        if body.stream and not departure.done():
            return EventStream(follower.frames(), ping_s=backend.settings.ping_s, on_leave=leave, headers=headers)
        whole = asyncio.create_task(follower.whole())
        try:
            await asyncio.wait({whole, departure}, return_when=asyncio.FIRST_COMPLETED)
            if not whole.done():
                await leave()
                raise ClientGoneError
            return JSONResponse(whole.result(), headers=headers)
        finally:
            whole.cancel()
            await asyncio.gather(whole, return_exceptions=True)
    finally:
        departure.cancel()


async def _left(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
