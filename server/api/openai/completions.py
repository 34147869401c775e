"""`POST /v1/completions`: raw prompts, continued as they are. Nothing is recognised, and nothing kept unless asked."""

import secrets
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.api.body import read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import IDEMPOTENCY, MODEL, SESSION, described, streamed
from server.api.openai.choices import Answering, Caller, Choice, calling, choice_seed, renamed
from server.api.openai.chunks import CHUNKS, TextShape
from server.api.openai.models import check_model
from server.api.prompts import SEED_BITS, check_length
from server.api.schemas.common import parse
from server.api.schemas.generate import GenerateRequest
from server.api.schemas.openai.answers import CompletionAnswer
from server.api.schemas.openai.completions import MOST_PROMPTS, CompletionRequest
from server.api.taking import Taken
from server.errors import InvalidRequest
from server.settings import Settings

EXAMPLES: dict[str, dict[str, Any]] = {
    "A text": {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 64, "seed": 7, "stop": "\n\n"},
    "Two prompts, streamed": {"model": MODEL, "prompt": ["One, two,", "A, B,"], "max_tokens": 8, "stream": True},
    "Token ids": {"model": MODEL, "prompt": [72, 105], "max_tokens": 8, "logprobs": 2},
    "In a session": {"model": MODEL, "prompt": " And then", "max_tokens": 64, "session_id": SESSION},
}

router = APIRouter()


@router.post(
    "/v1/completions",
    **described(
        done="The answer, or (`stream: true`) chunks while it is made." + CHUNKS,
        answer=CompletionAnswer,
        body=CompletionRequest,
        headers=IDEMPOTENCY,
        examples=EXAMPLES,
        other=streamed(),
    ),
)
async def completions(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Continue one prompt or several, each n times: as chunks (`stream: true`), or whole."""
    given = await read_json(request, backend.settings.max_body_bytes)
    body = parse(CompletionRequest, given)
    body.check_stream()
    turns = _turns(body, backend.settings)
    async with calling(request, given, tenant, backend, facts) as caller:
        view = await backend.serving()
        model = check_model(body.model, backend.settings, view)
        choices = await _take(body, turns, caller)
        more = {"system_fingerprint": view.new_session(tenant).fingerprint}
        answering = Answering(
            caller,
            choices,
            TextShape(choices[0].taken.generation.id),
            model,
            notes={},
            more=more,
            include_usage=body.include_usage,
        )
        return await answering.respond(stream=body.stream)


def _turns(body: CompletionRequest, settings: Settings) -> list[GenerateRequest]:
    """One for each prompt. Raises InvalidRequest, TooLarge."""
    prompts = body.prompts()
    if len(prompts) > MOST_PROMPTS:
        raise InvalidRequest(f"prompt: at most {MOST_PROMPTS} in one request.", param="prompt")
    turns = []
    for place, prompt in enumerate(prompts):
        name = _name(prompts, place)
        if not isinstance(prompt, (str, list)):
            raise InvalidRequest(f"{name}: should be a text or a list of token ids.", param=name)
        fields: dict[str, Any] = {
            **body.sampling(),
            "max_tokens": body.max_tokens,
            "session_id": body.session_id,
            "store": body.session_id is not None if body.store is None else body.store,
            "logprobs": body.logprobs,
        }
        with renamed({"input_ids": name, "prompt": name}):
            check_length(prompt, "input_ids", settings)
            turns.append(
                parse(GenerateRequest, fields | {"prompt" if isinstance(prompt, str) else "input_ids": prompt})
            )
    return turns


def _name(prompts: list[Any], place: int) -> str:
    return "prompt" if len(prompts) == 1 else f"prompt[{place}]"


async def _take(body: CompletionRequest, turns: list[GenerateRequest], caller: Caller) -> list[Choice]:
    """All choices: prompt by prompt, n of each. Raises what the client is to be told."""
    seed = secrets.randbits(SEED_BITS) if body.seed is None else body.seed
    taken: list[Taken] = []
    choices: list[Choice] = []
    base = None
    if body.session_id is not None and body.n > 1:
        base = (await caller.backend.store.sessions.get_session(caller.tenant, body.session_id)).head
    try:
        for place, turn in enumerate(turns):
            for i in range(body.n):
                more: dict[str, Any] = {"seed": choice_seed(seed, i)}
                if base is not None:
                    more["if_turn" if i == 0 else "from_turn"] = base
                elif i:
                    more["session_id"] = None
                with renamed(dict.fromkeys(("input_ids", "prompt"), _name(body.prompts(), place))):
                    one = await caller.take(turn.model_copy(update=more), len(taken))
                taken.append(one)
                stored = turn.store or one.generation.session == body.session_id
                choices.append(Choice(len(choices), place, one, base, stored))
    except BaseException:
        caller.cancel(taken)
        raise
    return choices
