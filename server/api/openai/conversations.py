"""`/v1/conversations`: a conversation is a session under OpenAI's name, with the caller's labels.

`conv_…` and `sess_…` of the same letters are one thing: what is asked of one is asked of the other. It knows nothing of
responses: what `items` it was made with are read by the first of them (`responses.py`).
"""

from typing import Any

from fastapi import APIRouter, Request

from server.api.backend import Backend
from server.api.body import read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import described
from server.api.middleware import Facts
from server.api.schemas.common import parse
from server.api.schemas.openai.conversations import (
    ConversationAnswer,
    CreateConversation,
    DeletedConversation,
    UpdateConversation,
)
from server.errors import ConversationNotFound, SessionGone, SessionNotFound
from server.store import keys as ids
from server.store.records import Session

router = APIRouter()


@router.post(
    "/v1/conversations",
    **described(
        done="The conversation.",
        answer=ConversationAnswer,
        body=CreateConversation,
        optional=True,
        examples={"A conversation": {}, "With a label": {"metadata": {"topic": "the sky"}}},
    ),
)
async def create_conversation(
    request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """An empty conversation of the served model. It lives as long as a session does."""
    given = await read_json(request, backend.settings.max_body_bytes, optional=True)
    body = parse(CreateConversation, given)
    view = await backend.serving()
    await backend.limits.storage(tenant)
    session = await backend.store.sessions.create_session(view.new_session(tenant))
    facts.session = session.id
    items = tuple(item.model_dump(include={"role", "content"}) for item in body.items or ())
    if body.metadata or items:
        await backend.store.responses.label(session.id, metadata=body.metadata or {}, items=items)
    return _json(session, body.metadata or {})


@router.get("/v1/conversations/{conversation_id}", **described(done="The conversation.", answer=ConversationAnswer))
async def get_conversation(
    conversation_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """A conversation, under the name of any session of the caller's."""
    session = await _session(conversation_id, tenant, backend, facts)
    return _json(session, (await backend.store.responses.labels(session.id)).metadata)


@router.post(
    "/v1/conversations/{conversation_id}",
    **described(
        done="The conversation.",
        answer=ConversationAnswer,
        body=UpdateConversation,
        examples={"Another label": {"metadata": {"topic": "the sea"}}},
    ),
)
async def update_conversation(
    request: Request, conversation_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """Put other labels in place of its labels."""
    body = parse(UpdateConversation, await read_json(request, backend.settings.max_body_bytes))
    session = await _session(conversation_id, tenant, backend, facts)
    await backend.store.responses.label(session.id, metadata=body.metadata)
    return _json(session, body.metadata)


@router.delete("/v1/conversations/{conversation_id}", **described(done="It is gone.", answer=DeletedConversation))
async def delete_conversation(
    conversation_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """Delete it, as `DELETE /v1/sessions/{session_id}` does: its responses are gone, its forks stay whole."""
    session = await _session(conversation_id, tenant, backend, facts)
    await backend.store.branches.delete(tenant, session.id)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


async def _session(conversation_id: str, tenant: str, backend: Backend, facts: Facts) -> Session:
    """Raises ConversationNotFound, SessionGone."""
    session_id = ids.conversing(conversation_id)
    if session_id is None:
        raise ConversationNotFound
    try:
        session = await backend.store.sessions.get_session(tenant, session_id)
    except SessionNotFound:
        raise ConversationNotFound from None
    except SessionGone:
        raise SessionGone("This conversation has expired or was deleted.") from None
    facts.session = session.id
    return session


def _json(session: Session, metadata: Any) -> dict[str, Any]:
    return {
        "id": ids.conversation_of(session.id),
        "object": "conversation",
        "created_at": int(session.created),
        "metadata": dict(metadata),
    }
