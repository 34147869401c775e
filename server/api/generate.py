"""`POST /v1/generate`: take a turn in, and pass on what comes of it.

In this order: key, schema, bounds, store and worker there, room in the queue, session, then tokens, then `accept`,
whose script decides between all who would have the session. What can be refused cheaply is refused before anything is
tokenised.
"""

import asyncio
import contextlib
import time

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower
from server.api.backend import Backend
from server.api.body import ClientGoneError, read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.middleware import Facts
from server.api.prompts import check_bounds, check_length, turn_request
from server.api.schemas.common import parse
from server.api.schemas.generate import GenerateRequest
from server.api.sse import EventStream
from server.errors import GenerationNotFound, QueueFull, SessionBusy, TurnMismatch
from server.store.records import Generation, Session

BUSY_LOOK_S = (0.02, 0.25)  # how soon, and then how seldom, a busy session is looked at again

router = APIRouter()


@router.post(
    "/v1/generate",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": GenerateRequest.model_json_schema()}},
        }
    },
)
async def generate(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Run one turn: as events while it runs, or (`stream: false`) as one answer at its end."""
    given = await read_json(request, backend.settings.max_body_bytes)
    if isinstance(given, dict):
        check_length(given.get("input_ids"), "input_ids", backend.settings)
    body = parse(GenerateRequest, given)
    departure = asyncio.create_task(_left(request))
    try:
        generation = await _take_in(body, tenant, backend, facts, departure)
        facts.generation, facts.session = generation.id, generation.session
        follower = Follower(backend, facts, generation.id, original=True)

        async def leave() -> None:
            facts.more["client"] = "left"
            backend.metrics.disconnects.inc()
            if body.on_disconnect == "cancel":
                backend.cancel_soon(tenant, generation.id)

        if body.stream and not departure.done():
            return EventStream(follower.frames(), ping_s=backend.settings.ping_s, on_leave=leave)
        whole = asyncio.create_task(follower.whole())
        try:
            await asyncio.wait({whole, departure}, return_when=asyncio.FIRST_COMPLETED)
            if not whole.done():
                await leave()
                raise ClientGoneError
            return JSONResponse(whole.result())
        finally:
            whole.cancel()
            await asyncio.gather(whole, return_exceptions=True)
    finally:
        departure.cancel()


async def _take_in(
    body: GenerateRequest, tenant: str, backend: Backend, facts: Facts, departure: "asyncio.Task[None]"
) -> Generation:
    """Accept the turn, waiting up to `wait_s` for a busy session. Raises what the client is to be told.

    Never cut off from outside, since a turn that was accepted unnoticed could not be cancelled; a client that leaves
    is noticed while waiting and before each attempt (ClientGoneError), or by the caller afterwards.
    """
    check_bounds(body, backend.tokenizer, backend.settings)
    store = backend.store
    deadline = time.monotonic() + body.wait_s
    await backend.workers()
    if await store.queue.depth() >= backend.settings.max_queue:
        raise QueueFull
    pause, most = BUSY_LOOK_S
    while True:
        session = None if body.session_id is None else await store.sessions.get_session(tenant, body.session_id)
        try:
            if session is not None:
                facts.session = session.id
                await _check(session, body, backend)
            request = await turn_request(body, session, backend.tokenizer, backend.settings, backend.tokenising)
            if departure.done():
                raise ClientGoneError
            generation = await store.sessions.accept(
                session or await backend.new_session(tenant), request, if_turn=body.if_turn
            )
        except SessionBusy:
            if time.monotonic() + pause > deadline:
                raise
            if (await asyncio.wait({departure}, timeout=pause))[0]:
                raise ClientGoneError from None
            pause = min(pause * 1.5, most)
        except TurnMismatch:
            # Another turn was committed while this one was being tokenised: render again after it, unless the client
            # said which turn it means.
            if body.if_turn is not None:
                raise
        else:
            backend.metrics.accepted.inc()
            return generation


async def _check(session: Session, body: GenerateRequest, backend: Backend) -> None:
    """What can be said of a session before any text is tokenised for it; `accept` decides later all the same."""
    await backend.check_served(session)
    if body.if_turn is not None and body.if_turn != session.head:
        raise TurnMismatch(f"The session's head is {session.head}, not {body.if_turn}.", param="if_turn")
    if session.running is not None:
        with contextlib.suppress(GenerationNotFound):
            running = await backend.store.sessions.get_generation(session.tenant, session.running)
            if not running.status.ended:
                raise SessionBusy(f"Session {session.id} is running generation {running.id}.")


async def _left(request: Request) -> None:
    """Returns when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
