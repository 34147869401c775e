"""Sessions: make, look, list, delete, fork, rewind, export, import. Another tenant's answers like an unknown one."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from server.api.backend import Backend
from server.api.body import read_json
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import TURN, described
from server.api.files import MEDIA_TYPE, Download, bounded, fit, read_file
from server.api.middleware import Facts
from server.api.schemas.answers import Deleted, SessionAnswer, SessionList, TurnList
from server.api.schemas.common import parse
from server.api.schemas.sessions import (
    CreateSession,
    ForkSession,
    ListSessions,
    ListTurns,
    RewindSession,
    session_json,
    turn_json,
)
from server.errors import TurnNotFound
from server.store.archive_format import read_archive
from server.store.records import Session

router = APIRouter()


@router.post(
    "/v1/sessions",
    **described(
        done="The session, and where it is (`Location`).",
        answer=SessionAnswer,
        status=201,
        body=CreateSession,
        optional=True,
        examples={"A session": {}},
    ),
)
async def create_session(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """An empty session of the served model. (`POST /v1/generate` makes one by itself.)"""
    parse(CreateSession, await read_json(request, backend.settings.max_body_bytes, optional=True))
    view = await backend.serving()
    session = await backend.store.sessions.create_session(view.new_session(tenant))
    return await _made(session, backend, facts)


@router.get("/v1/sessions", **described(done="A page of them.", answer=SessionList, query=ListSessions))
async def list_sessions(request: Request, tenant: TenantDep, backend: BackendDep) -> dict[str, Any]:
    """The caller's own, last used first; `after` of one page asks for the next."""
    query = parse(ListSessions, dict(request.query_params))
    page = await backend.store.sessions.list_sessions(tenant, query.after, query.limit)
    view = await backend.look()
    return {
        "object": "list",
        "data": [session_json(session, view) for session in page.sessions],
        "has_more": page.after is not None,
        "after": page.after,
    }


_IMPORT = described(done="The session, and where it is (`Location`).", answer=SessionAnswer, status=201)
_IMPORT["openapi_extra"] = {
    "requestBody": {
        "required": True,
        "description": "What an export answered, unchanged.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/v1/sessions/import", **_IMPORT)
async def import_session(request: Request, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """A new session of the caller's from an exported file. What is refused leaves nothing behind."""
    done = backend.transfers.take(tenant)
    try:
        await backend.limits.storage(tenant)
        data = await read_file(request, backend.settings.max_import_bytes)
        view = await backend.serving()
        archive = await asyncio.to_thread(read_archive, data)
        del data  # it is in memory twice by now
        archive = bounded(archive, backend.settings)
        new = await asyncio.to_thread(fit, archive, view, tenant, backend.tokenizer)
        session = await backend.store.archive.import_(new, archive)
    finally:
        done()
    return await _made(session, backend, facts)


@router.get("/v1/sessions/{session_id}", **described(done="The session.", answer=SessionAnswer))
async def get_session(session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> dict[str, Any]:
    """One session."""
    session = await _session(session_id, tenant, backend, facts)
    return session_json(session, await backend.look())


@router.delete("/v1/sessions/{session_id}", **described(done="It is gone.", answer=Deleted))
async def delete_session(session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> dict[str, Any]:
    """Delete it with everything that only it needs; its forks stay whole. 409 while it runs a turn."""
    await backend.store.branches.delete(tenant, session_id)
    facts.session = session_id
    return {"id": session_id, "object": "session.deleted", "deleted": True}


@router.get("/v1/sessions/{session_id}/turns", **described(done="A page of them.", answer=TurnList, query=ListTurns))
async def list_turns(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """The turns that are kept, newest first, the head before all; `after` of one page asks for the next."""
    query = parse(ListTurns, dict(request.query_params))
    session = await _session(session_id, tenant, backend, facts)
    turns = (await backend.store.branches.history(session))[::-1]
    if query.after is not None:
        place = next((i for i, turn in enumerate(turns) if turn.id == query.after), None)
        if place is None:
            raise TurnNotFound("The session has no turn named by after, or keeps it no more.", param="after")
        turns = turns[place + 1 :]
    page = turns[: query.limit]
    more = len(turns) > len(page)
    return {
        "object": "list",
        "data": [turn_json(turn) for turn in page],
        "has_more": more,
        "after": page[-1].id if more else None,
    }


@router.post(
    "/v1/sessions/{session_id}/fork",
    **described(
        done="The new session, and where it is (`Location`).",
        answer=SessionAnswer,
        status=201,
        body=ForkSession,
        optional=True,
        examples={"At its head": {}, "At an earlier turn": {"at_turn": TURN}},
    ),
)
async def fork_session(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> Response:
    """A new session that stands at a kept turn of this one, by default at its last committed turn."""
    body = parse(ForkSession, await read_json(request, backend.settings.max_body_bytes, optional=True))
    session = await _session(session_id, tenant, backend, facts)
    return await _made(await backend.store.branches.fork(session, body.at_turn), backend, facts)


@router.post(
    "/v1/sessions/{session_id}/rewind",
    **described(
        done="The session as it stands now.",
        answer=SessionAnswer,
        body=RewindSession,
        examples={"To a turn": {"to_turn": TURN}, "One turn back": {"turns": 1}},
    ),
)
async def rewind_session(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """Let it stand at an earlier turn; the turns after that are given up. 409 while it runs a turn."""
    body = parse(RewindSession, await read_json(request, backend.settings.max_body_bytes))
    session = await _session(session_id, tenant, backend, facts)
    rewound = await backend.store.branches.rewind(session, turns=body.turns, to_turn=body.to_turn)
    if rewound.head is not None and (digest := await backend.store.history.digest(rewound.head)) is not None:
        # Operations share their conversation's hash: a client that resends it goes on from here.
        await backend.store.history.note(digest, rewound.id, rewound.head)
    return session_json(rewound, await backend.look())


@router.get(
    "/v1/sessions/{session_id}/export",
    **described(
        done="The file.",
        other={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    ),
)
async def export_session(session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep) -> Response:
    """The session as one safetensors file, as its last committed turn left it."""
    session = await _session(session_id, tenant, backend, facts)
    done = backend.transfers.take(tenant)
    try:
        data = await backend.store.archive.export(session)
    except BaseException:
        done()
        raise
    return Download(data, f"{session.id}.safetensors", done)


async def _session(session_id: str, tenant: str, backend: Backend, facts: Facts) -> Session:
    session = await backend.store.sessions.get_session(tenant, session_id)
    facts.session = session.id
    return session


async def _made(session: Session, backend: Backend, facts: Facts) -> Response:
    facts.session = session.id
    body = session_json(session, await backend.look())
    return JSONResponse(body, 201, {"Location": f"/v1/sessions/{session.id}"})
