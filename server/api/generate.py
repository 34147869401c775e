"""`POST /v1/generate`: take a turn in (`taking.py`), and pass on what comes of it.

In this order: key, requests in a minute, schema, an earlier request with the same idempotency key, bounds, store and
worker there, room in the queue, the tenant's other limits, session, then tokens, then `accept`, whose script decides
between all who would have the session. What can be refused cheaply is refused before anything is tokenised.

A client that leaves cancels its turn where it said so, or said nothing and sent no idempotency key. A repeat's client
cancels nothing: the turn is the first request's, whose wish stands with it.
"""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.answers import Follower
from server.api.body import read_json
from server.api.departure import departing, unless_left
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import IDEMPOTENCY, SESSION, TURN, described, streamed
from server.api.prompts import check_length
from server.api.schemas.answers import GeneratedAnswer
from server.api.schemas.common import parse
from server.api.schemas.generate import GenerateRequest
from server.api.sse import EventStream
from server.api.taking import Taking, idempotency_of

router = APIRouter()
EVENTS = """

- `start`: {generation, session, position, restored: {from, replayed_tokens}, seed, prompt_tokens}
- `token`: {text, token_ids, logprobs?}, as often as it takes
- `done`: {finish_reason, usage, timing, position, turn}; sent only once the turn is durable
- `error`: {error}, in place of `done`

Each has an `id:`, from which `GET /v1/generations/{generation_id}/events` goes on; silence is filled with comments."""


EXAMPLES: dict[str, dict[str, Any]] = {
    "A new session, streamed": {
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "max_tokens": 128,
        "temperature": 0,
    },
    "The next turn: only the new message": {
        "session_id": SESSION,
        "messages": [{"role": "user", "content": "And at sunset?"}],
        "wait_s": 10,
        "stream": False,
    },
    "Plain text, drawn with a seed, up to a blank line": {
        "prompt": "Once upon a time",
        "max_tokens": 64,
        "temperature": 0.8,
        "top_p": 0.95,
        "seed": 7,
        "stop": ["\n\n"],
        "stream": False,
    },
    "Another answer from an earlier turn: the session is forked where it has moved on": {
        "session_id": SESSION,
        "from_turn": TURN,
        "messages": [{"role": "user", "content": "Say it in one sentence."}],
        "stream": False,
    },
    "Nothing is kept": {"prompt": "2 + 2 =", "max_tokens": 4, "temperature": 0, "logprobs": 5, "store": False},
}


@router.post(
    "/v1/generate",
    **described(
        done="The answer: one JSON object at the end (`stream: false`), or server-sent events while it is made. "
        + EVENTS,
        answer=GeneratedAnswer,
        body=GenerateRequest,
        headers=IDEMPOTENCY,
        examples=EXAMPLES,
        other=streamed("start", "token", "done", "error"),
    ),
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
    async with departing(request) as departure:
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
        return JSONResponse(await unless_left(follower.whole(), departure, leave), headers=headers)
