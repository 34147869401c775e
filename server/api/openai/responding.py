"""Where a response is made and how it is taken in: alone, after another one, in a conversation, or after what is
recognised of the history that is sent with it.

`previous_response_id` goes on from the turn: in its session where it is the idle head of that, in a fork elsewhere.
`conversation` goes on in a session, whatever its head is. With neither, `input` is the whole conversation, and its
longest beginning that can be continued is not read again (`recognition`).

It knows nothing of how a response is answered.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from server.api.backend import Backend, View
from server.api.openai.choices import Caller, renamed
from server.api.openai.history import Base
from server.api.openai.recognition import after, recognised
from server.api.schemas.generate import GenerateRequest, Message
from server.api.schemas.openai.chat import ChatMessage
from server.api.schemas.openai.responses import InputMessage, ResponseRequest
from server.api.taking import Taken
from server.errors import (
    ConversationNotFound,
    GenerationNotFound,
    SessionBusy,
    SessionNotFound,
    TurnNotFound,
)
from server.store import keys as ids
from server.store.responses import ResponseRecord

NAMES = {"messages": "input", "max_tokens": "max_output_tokens"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response is made. items: what stands in front of its input. where: of `GenerateRequest`. notes: what its
    answer says of it."""

    where: Mapping[str, str]
    items: Sequence[InputMessage] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


async def taken_in(body: ResponseRequest, model: str, caller: Caller, view: View) -> tuple[Taken, ResponseRecord]:
    """Take it in; its record is not kept yet. Raises what the client is to be told."""
    place = await _named(body, caller.tenant, caller.backend)
    items = [*(place.items if place else ()), *body.input]
    if body.instructions is not None:
        items.insert(0, InputMessage.model_validate({"role": "system", "content": body.instructions}))
    messages = [item.chat() for item in items]
    with renamed(NAMES):
        if place is not None:
            taken = await _taken(body, messages, place.where, caller)
        else:
            taken, place = await _recognised(body, messages, caller, view)
    return taken, _record(body, model, place, taken)


async def _named(body: ResponseRequest, tenant: str, backend: Backend) -> Place | None:
    """The place that the request names, if it names one.

    Raises ResponseNotFound, ConversationNotFound, SessionGone, SessionBusy, TurnNotFound.
    """
    if body.previous_response_id is not None:
        record = await backend.store.responses.get(tenant, body.previous_response_id)
        with suppress(GenerationNotFound):  # where it has expired, it has ended
            before = await backend.store.sessions.get_generation(tenant, record.generation)
            if not before.status.ended:
                raise SessionBusy("The previous response is still being made.", param="previous_response_id")
            if before.result is not None and before.result.turn is None:
                raise TurnNotFound("The previous response ended without an answer.", param="previous_response_id")
        return Place({"session_id": record.session, "from_turn": ids.turn_of(record.generation)})
    if body.conversation is not None:
        session_id = ids.conversing(body.conversation.id)
        if session_id is None:
            raise ConversationNotFound
        try:
            session = await backend.store.sessions.get_session(tenant, session_id)
        except SessionNotFound:
            raise ConversationNotFound from None
        if session.head is not None:
            return Place({"session_id": session_id})
        labels = await backend.store.responses.labels(session_id)
        return Place({"session_id": session_id}, [InputMessage.model_validate(item) for item in labels.items])
    return None


async def _recognised(
    body: ResponseRequest, messages: Sequence[ChatMessage], caller: Caller, view: View
) -> tuple[Taken, Place]:
    """After the longest beginning of the input that can be continued; from the beginning where there is none."""
    shift = 0 if body.instructions is None else 1

    def named(index: int) -> str:
        return "instructions" if index < shift else f"input[{index - shift}]"

    async def take(base: Base | None) -> Taken:
        return await _taken(body, messages[base.known if base else 0 :], after(base), caller)

    begun = await recognised(messages, caller, view, take, named)
    return begun.taken, Place(after(begun.base), notes=begun.notes)


async def _taken(
    body: ResponseRequest, messages: Sequence[ChatMessage], where: Mapping[str, str], caller: Caller
) -> Taken:
    plain: list[Message] = [*messages]
    fields: dict[str, Any] = {
        **{name: getattr(body, name) for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
        **{name: getattr(body, name) for name in ("seed", "store", "wait_s")},
        **where,
        "messages": plain,
        "max_tokens": body.max_output_tokens,
        "logprobs": (body.top_logprobs or 0) if body.include else None,
    }
    return await caller.take(GenerateRequest(**fields), 0, stays=body.background)


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
        "notes": place.notes,
        # Whether its session was made for it alone.
        "own": generation.session != place.where.get("session_id"),
        # To tell the answer from the input when all that is left is the turn.
        "prompt_tokens": len(generation.request.input_ids) if generation.request is not None else None,
    }
    return ResponseRecord(generation.id, generation.session, generation.tenant, generation.created, about)
