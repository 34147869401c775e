"""`POST /v1/tokenize` and `/v1/detokenize`: the model's own tokeniser, without a worker or a store."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from server.api.body import read_json
from server.api.deps import BackendDep, TenantDep
from server.api.describe import described
from server.api.prompts import check_ids, check_length, message_tokens, prompt_tokens
from server.api.schemas.answers import Text, Tokens
from server.api.schemas.common import parse
from server.api.schemas.text import DetokenizeRequest, TokenizeRequest

router = APIRouter()


@router.post(
    "/v1/tokenize",
    **described(
        done="The tokens.",
        answer=Tokens,
        body=TokenizeRequest,
        examples={"Text": {"prompt": "Hello"}, "Messages": {"messages": [{"role": "user", "content": "Hello"}]}},
    ),
)
async def tokenize(request: Request, tenant: TenantDep, backend: BackendDep) -> dict[str, Any]:
    """The tokens that a new session's first turn would read."""
    del tenant
    body = parse(TokenizeRequest, await read_json(request, backend.settings.max_body_bytes))

    def run() -> list[int]:
        if body.messages is not None:
            return message_tokens(body.messages, backend.tokenizer, after=None)
        return prompt_tokens(body.prompt or "", backend.tokenizer, first=True)

    tokens = await asyncio.get_running_loop().run_in_executor(backend.tokenising, run)
    return {"tokens": tokens, "count": len(tokens)}


@router.post(
    "/v1/detokenize",
    **described(done="The text.", answer=Text, body=DetokenizeRequest, examples={"Two tokens": {"tokens": [72, 105]}}),
)
async def detokenize(request: Request, tenant: TenantDep, backend: BackendDep) -> dict[str, Any]:
    """The text of tokens; special tokens are not shown, bytes that are no character become U+FFFD."""
    del tenant
    given = await read_json(request, backend.settings.max_body_bytes)
    if isinstance(given, dict):
        check_length(given.get("tokens"), "tokens", backend.settings)
    body = parse(DetokenizeRequest, given)

    def run() -> str:
        check_ids(body.tokens, "tokens", backend.tokenizer)
        return backend.tokenizer.decode(body.tokens)

    return {"text": await asyncio.get_running_loop().run_in_executor(backend.tokenising, run)}
