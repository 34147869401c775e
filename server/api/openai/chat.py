"""`POST /v1/chat/completions`: the conversation that is sent is recognised, and only what is new in it is read.

With `session_id` nothing is looked up: the messages are what follows in that session.
"""

import secrets
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.api.backend import View
from server.api.body import read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import IDEMPOTENCY, MODEL, SESSION, described, streamed
from server.api.openai.choices import Answering, Caller, Choice, calling, choice_seed, renamed
from server.api.openai.chunks import CHUNKS, ChatShape
from server.api.openai.history import Base
from server.api.openai.models import check_model
from server.api.openai.recognition import after, recognised
from server.api.prompts import SEED_BITS
from server.api.schemas.common import parse
from server.api.schemas.generate import GenerateRequest, Message
from server.api.schemas.openai.answers import ChatAnswer
from server.api.schemas.openai.chat import ChatMessage, ChatRequest
from server.api.taking import Taken
from server.errors import InvalidRequest, QueueFull, TooLarge

EXAMPLES: dict[str, dict[str, Any]] = {
    "A conversation, sent whole each time": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why is the sky blue?"},
        ],
        "max_completion_tokens": 128,
    },
    "The next message: what was said before is recognised": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why is the sky blue?"},
            {"role": "assistant", "content": "Air scatters blue light more than red."},
            {"role": "user", "content": [{"type": "text", "text": "And at sunset?"}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "In a session: only what is new": {
        "model": MODEL,
        "session_id": SESSION,
        "messages": [{"role": "user", "content": "Say it in one sentence."}],
        "wait_s": 10,
    },
    "Two answers, drawn with a seed, with log probabilities": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Name a colour."}],
        "n": 2,
        "seed": 7,
        "temperature": 0.8,
        "stop": ["\n"],
        "logprobs": True,
        "top_logprobs": 3,
        "store": False,
    },
}

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    **described(
        done="The answer, or (`stream: true`) chunks while it is made." + CHUNKS,
        answer=ChatAnswer,
        body=ChatRequest,
        headers=IDEMPOTENCY,
        examples=EXAMPLES,
        other=streamed(),
    ),
)
async def chat_completions(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """Answer a conversation: as chunks while the answer is made (`stream: true`), or whole."""
    given = await read_json(request, backend.settings.max_body_bytes)
    if isinstance(given, dict):
        _check_count(given.get("messages"), backend.settings.max_prompt_tokens)
    body = parse(ChatRequest, given)
    body.check_stream()
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs: only with logprobs: true.", param="top_logprobs")
    async with calling(request, given, tenant, backend, facts) as caller:
        view = await backend.serving()
        model = check_model(body.model, backend.settings, view)
        if view.queue_depth >= backend.settings.max_queue:
            raise QueueFull
        names = {"max_tokens": "max_completion_tokens"} if body.max_completion_tokens is not None else {}
        with renamed(names):
            choices, notes = await _Chat(body, caller, view).take()
        more: dict[str, Any] = {"system_fingerprint": view.new_session(tenant).fingerprint}
        if body.metadata is not None:
            more["metadata"] = body.metadata
        shape = ChatShape(choices[0].taken.generation.id, backend.tokenizer)
        answering = Answering(caller, choices, shape, model, notes=notes, more=more, include_usage=body.include_usage)
        return await answering.respond(stream=body.stream)


def _check_count(messages: object, most: int) -> None:
    """Each message is a token at least; looked at before the schema looks at each of them. Raises TooLarge."""
    if isinstance(messages, list) and len(messages) > most:
        raise TooLarge(f"messages: {len(messages)} of them; this server reads at most {most} tokens.", param="messages")


class _Chat:
    """One request's choices on their way in."""

    def __init__(self, body: ChatRequest, caller: Caller, view: View) -> None:
        self.body = body
        self.caller = caller
        self.view = view
        self.seed = secrets.randbits(SEED_BITS) if body.seed is None else body.seed
        self.taken: list[Taken] = []

    async def take(self) -> tuple[list[Choice], dict[str, Any]]:
        """The choices, and what is to be said of how they were begun. Raises what the client is to be told."""
        try:
            if self.body.session_id is not None:
                return await self._in_session(self.body.session_id), {}
            return await self._recognised()
        except BaseException:
            self.caller.cancel(self.taken)
            raise

    async def _in_session(self, session_id: str) -> list[Choice]:
        """In the session that was named: the first choice advances it, the others are forks of where it stood."""
        if self.body.n == 1:
            return [await self._choice(self.body.messages, session_id=session_id)]
        session = await self.caller.backend.store.sessions.get_session(self.caller.tenant, session_id)
        base = session.head
        where = {"session_id": session_id, "if_turn": base} if base else {"session_id": session_id}
        other = {"session_id": session_id, "from_turn": base} if base else {}
        return [
            await self._choice(self.body.messages, base=base, **(where if i == 0 else other))
            for i in range(self.body.n)
        ]

    async def _recognised(self) -> tuple[list[Choice], dict[str, Any]]:
        """After the longest beginning that can be continued; from the beginning where there is none."""

        async def take(base: Base | None) -> Choice:
            messages = self.body.messages[base.known if base else 0 :]
            return await self._choice(messages, base=base.turn if base else None, **after(base))

        begun = await recognised(self.body.messages, self.caller, self.view, take, lambda i: f"messages[{i}]")
        choices = [begun.taken]
        while len(choices) < self.body.n:
            choices.append(await take(begun.base))
        return choices, begun.notes

    async def _choice(self, messages: Sequence[ChatMessage], *, base: str | None = None, **where: str) -> Choice:
        """Take the next choice in. where: `session_id`, `from_turn`, `if_turn` of `GenerateRequest`."""
        body, index = self.body, len(self.taken)
        plain: list[Message] = [*messages]
        most = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        fields: dict[str, Any] = {
            **body.sampling(),
            **where,
            "messages": plain,
            "max_tokens": most,
            "seed": choice_seed(self.seed, index),
            "store": body.store,
            "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        }
        taken = await self.caller.take(GenerateRequest(**fields), index)
        self.taken.append(taken)
        stored = body.store or taken.generation.session == body.session_id
        return Choice(index, 0, taken, base, stored)
