"""Sessions: make, look, list, delete. Another tenant's answers exactly like an unknown one."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.body import read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.schemas.common import parse
from server.api.schemas.sessions import CreateSession, ListSessions, session_json

router = APIRouter()


@router.post("/v1/sessions")
async def create_session(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """An empty session of the served model. (`POST /v1/generate` makes one by itself.)"""
    parse(CreateSession, await read_json(request, backend.settings.max_body_bytes, optional=True))
    session = await backend.store.sessions.create_session(await backend.new_session(tenant))
    facts.session = session.id
    return JSONResponse(session_json(session), 201, {"Location": f"/v1/sessions/{session.id}"})


@router.get("/v1/sessions")
async def list_sessions(request: Request, tenant: TenantDep, backend: BackendDep) -> dict[str, Any]:
    """The caller's own, last used first; `after` of one page asks for the next."""
    query = parse(ListSessions, dict(request.query_params))
    page = await backend.store.sessions.list_sessions(tenant, query.after, query.limit)
    return {
        "object": "list",
        "data": [session_json(session) for session in page.sessions],
        "has_more": page.after is not None,
        "after": page.after,
    }


@router.get("/v1/sessions/{session_id}")
async def get_session(session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> dict[str, Any]:
    """One session."""
    session = await backend.store.sessions.get_session(tenant, session_id)
    facts.session = session.id
    return session_json(session)


@router.delete("/v1/sessions/{session_id}")
async def delete_session(session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> dict[str, Any]:
    """Delete it with everything it stored; 409 while it runs a turn."""
    await backend.store.branches.delete(tenant, session_id)
    facts.session = session_id
    return {"id": session_id, "object": "session.deleted", "deleted": True}
